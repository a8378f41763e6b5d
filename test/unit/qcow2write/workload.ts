import { checkQcow2 } from '../../../src/engine/check/qcow2Check';
import type { BlockNode } from '../../../src/engine/block/blockNode';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { createQcow2 } from '../../../src/engine/formats/qcow2/manage/create';
import type { Qcow2CreateOptions } from '../../../src/engine/formats/qcow2/manage/createOptions';
import { Qcow2Node } from '../../../src/engine/formats/qcow2/write/qcow2Node';
import type { Storage } from '../../../src/engine/io/storage';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import type { Random } from '../../interop/random';
import { MemoryNode } from '../block/memoryNode';

/** An image to work on, over the option space, and what the guest sees in it. */
export interface Subject {
  readonly options: Qcow2CreateOptions;
  readonly start: Uint8Array;
  readonly backing: MemoryNode | null;
  readonly dataFile: MemoryStorage | null;
  /** What the guest sees at first. */
  readonly content: Uint8Array;
  readonly describe: string;
}

export type Step =
  | { readonly kind: 'write' | 'compressed'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number; readonly mayUnmap: boolean }
  | { readonly kind: 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'flush' };

export async function makeSubject(
  random: Random,
  limits: {
    readonly maxClusterBits?: number;
    readonly maxBytes?: number;
    /** Share of images with one. */ readonly dataFiles?: number;
  } = {},
): Promise<Subject> {
  const { dataFiles = 0.1 } = limits;
  const old = random.chance(dataFiles === 1 ? 0 : 0.2);
  const extended = !old && random.chance(0.25);
  const clusterBits = extended ? 14 : random.between(9, limits.maxClusterBits ?? 13);
  const clusterSize = 2 ** clusterBits;
  const data = !old && random.chance(dataFiles);
  const size = Math.max(1, Math.floor(random.between(1, Math.min(limits.maxBytes ?? 512 * 1024, clusterSize * 80)) / 512)) * 512;
  const options: Qcow2CreateOptions = {
    size,
    cluster_size: clusterSize,
    compat: old ? '0.10' : '1.1',
    ...(old
      ? {}
      : {
          extended_l2: extended,
          refcount_bits: 2 ** random.between(0, 6),
          lazy_refcounts: random.chance(0.15),
          compression_type: random.chance(0.3) ? 'zstd' : 'zlib',
        }),
    ...(data ? { data_file: 'data', data_file_raw: random.chance(0.5) } : {}),
    ...(!extended && !data && random.chance(0.1) ? { preallocation: 'metadata' as const } : {}),
  };
  const dataFile = data ? new MemoryStorage() : null;
  const storage = new MemoryStorage();
  await createQcow2(storage, options, dataFile ? { dataFile } : {});
  let backing: MemoryNode | null = null;
  const content = new Uint8Array(size);
  if (!options.data_file_raw && options.preallocation === undefined && random.chance(0.5)) {
    const backingSize = Math.floor(random.between(1, size * 1.3) / 512) * 512 || 512;
    backing = new MemoryNode('backing', { size: backingSize, clusterSize: 512 });
    for (let i = 0; i < backingSize; i++) {
      backing.bytes[i] = 0xb0 + (i % 13);
    }
    backing.allocated.fill('data');
    content.set(backing.bytes.subarray(0, size));
  }
  const describe = `${JSON.stringify(options)} backing ${backing?.size ?? 'none'}`;
  return { options, start: storage.bytes, backing, dataFile, content, describe };
}

export function makeSteps(random: Random, subject: Subject, count: number): Step[] {
  const { size, cluster_size: clusterSize = 65536 } = subject.options;
  const steps: Step[] = [];
  for (let i = 0; i < count; i++) {
    const aligned = random.chance(0.4);
    const unit = aligned ? clusterSize : random.chance(0.5) ? 512 : 1;
    const offset = Math.floor(random.below(size) / unit) * unit;
    const length = Math.min(size - offset, Math.max(1, random.between(1, Math.min(clusterSize * 4, 65536) / unit)) * unit);
    const draw = random.below(100);
    if (draw < 50) {
      steps.push({ kind: 'write', offset, bytes: pattern(random, length) });
    } else if (draw < 60) {
      const at = Math.floor(offset / clusterSize) * clusterSize;
      steps.push({ kind: 'compressed', offset: at, bytes: compressible(random, Math.min(clusterSize, size - at)) });
    } else if (draw < 75) {
      steps.push({ kind: 'zero', offset, length, mayUnmap: random.chance(0.5) });
    } else if (draw < 87) {
      steps.push({ kind: 'discard', offset, length });
    } else {
      steps.push({ kind: 'flush' });
    }
  }
  return steps;
}

function pattern(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const seed = random.between(1, 255);
  for (let i = 0; i < length; i++) {
    bytes[i] = ((seed + i * 7) % 255) + 1;
  }
  return bytes;
}

function compressible(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(random.between(1, 255));
  for (let i = 0; i < length / 64; i++) {
    bytes[random.below(length)] = random.below(256);
  }
  return bytes;
}

export function openSubject(subject: Subject, storage: Storage, dataFile: Storage | null = subject.dataFile): Promise<Qcow2Node> {
  return Qcow2Node.open({ storage, dataFile, backing: subject.backing, nodeName: 'image', readOnly: false, cacheBytes: 256 * 1024 });
}

export async function apply(node: Qcow2Node, step: Step): Promise<void> {
  switch (step.kind) {
    case 'write':
      await node.write(step.offset, step.bytes);
      break;
    case 'compressed':
      await node.writeCompressed(step.offset, step.bytes);
      break;
    case 'zero':
      await node.writeZeroes(step.offset, step.length, { mayUnmap: step.mayUnmap });
      break;
    case 'discard':
      await node.discard(step.offset, step.length);
      break;
    case 'flush':
      await node.flush();
  }
}

/** The range and the bytes that a step leaves there; null for steps that change nothing that a guest sees. */
export function effect({ options, backing }: Subject, step: Step): { readonly offset: number; readonly bytes: Uint8Array } | null {
  switch (step.kind) {
    case 'flush':
      return null;
    case 'write':
    case 'compressed':
      return step;
    case 'zero':
      return { offset: step.offset, bytes: new Uint8Array(step.length) };
    case 'discard': {
      // Whole clusters only; version 2 cannot hide what lies below.
      const { size, cluster_size: clusterSize = 65536 } = options;
      const offset = Math.ceil(step.offset / clusterSize) * clusterSize;
      const reached = step.offset + step.length;
      const end = reached >= size ? size : Math.floor(reached / clusterSize) * clusterSize;
      return end <= offset || (options.compat === '0.10' && backing) ? null : { offset, bytes: new Uint8Array(end - offset) };
    }
  }
}

/** Where two contents differ first, in words; null for equal ones. */
export function difference(seen: Uint8Array, expected: Uint8Array): string | null {
  if (seen.length !== expected.length) {
    return `${seen.length} bytes instead of ${expected.length}`;
  }
  const at = Buffer.compare(seen, expected) === 0 ? -1 : seen.findIndex((byte, index) => byte !== expected[index]);
  return at < 0 ? null : `byte ${at} is ${seen[at]}, not ${expected[at]}`;
}

export async function readAll(node: BlockNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.size);
  await node.read(0, bytes);
  return bytes;
}

/** What a check finds, as one line; empty for a sound image. */
export async function faults(bytes: Uint8Array, leaksToo: boolean): Promise<string> {
  const report = await checkQcow2(readQcow2Metadata(new MemoryStorage(bytes)), { maxFindings: 20, deep: false });
  const bad = report.findings.filter(({ category }) => leaksToo || (category !== 'leak' && category !== 'extra'));
  return (
    bad.map(({ kind, message }) => `${kind}: ${message}`).join('\n') +
    (report.counts.corruptions > 0 ? ` ${report.counts.corruptions} corruptions` : '')
  );
}
