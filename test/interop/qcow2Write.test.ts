import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import type { Preallocation } from '../../src/engine/block/blockNode';
import { followGate } from '../../src/engine/gate/policies';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* Images over the space of qemu-img's options, written in turn here and by qemu-io, beside an array of what the guest must see. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder('write');
});
afterAll(() => folder.dispose());

interface Subject {
  readonly path: string;
  readonly options: readonly string[];
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly dataFile: boolean;
  readonly preallocated: boolean;
  readonly backed: boolean;
  /** Its refcounts have no room for many compressed clusters in one host cluster. */
  readonly narrow: boolean;
  /** Internal snapshots that the refcounts have room for. */
  readonly maxSnapshots: number;
  model: Uint8Array;
  readonly snapshots: Map<string, Uint8Array>;
}

function sectors(random: Random, low: number, high: number): number {
  return random.between(low / 512, high / 512) * 512;
}

async function makeSubject(random: Random, name: string): Promise<Subject> {
  const path = join(folder.path, `${name}.qcow2`);
  const version = random.chance(0.2) ? 2 : 3;
  const clusterSize = 2 ** random.pick([9, 10, 11, 12, 14, 15, 16, 16, 18, 21]);
  const options = [`compat=${version === 2 ? '0.10' : '1.1'}`, `cluster_size=${clusterSize}`];
  let maxSnapshots = 4;
  const backed = random.chance(0.5);
  let dataFile = false;
  let narrow = false;
  let preallocation = 'off';
  if (version === 3) {
    const refcountBits = random.pick([1, 2, 4, 8, 16, 32, 64]);
    options.push(`refcount_bits=${refcountBits}`);
    narrow = refcountBits < 8;
    maxSnapshots = Math.min(maxSnapshots, 2 ** refcountBits - 2);
    if (clusterSize >= 16384 && random.chance(0.4)) {
      options.push('extended_l2=on');
    }
    if (random.chance(0.3)) {
      options.push('lazy_refcounts=on');
    }
    if (random.chance(0.3)) {
      options.push('compression_type=zstd');
    }
    dataFile = random.chance(0.25);
    if (dataFile) {
      maxSnapshots = 0;
      options.push(`data_file=${join(folder.path, `${name}.data`)}`);
      if (!backed && random.chance(0.5)) {
        options.push('data_file_raw=on');
      }
    }
  }
  if (!backed) {
    preallocation = random.pick(['off', 'off', 'metadata', 'falloc', 'full']);
    options.push(`preallocation=${preallocation}`);
  }
  const size = sectors(random, 65536, Math.min(4 * 2 ** 20, Math.max(2 ** 19, clusterSize * 256)));
  const model = new Uint8Array(size);
  const args: string[] = [];
  if (backed) {
    const base = join(folder.path, `${name}.base`);
    const bytes = Buffer.alloc(sectors(random, 512, size * 1.5));
    for (let at = 0; at < bytes.length; at += 4096) {
      bytes.fill(random.below(4) * 60, at, Math.min(bytes.length, at + 4096));
    }
    await writeFile(base, bytes);
    model.set(bytes.subarray(0, size));
    args.push('-b', base, '-F', 'raw');
  }
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', ...args, '-o', options.join(','), path, String(size)]);
  const preallocated = preallocation !== 'off';
  return { path, options, version, clusterSize, dataFile, preallocated, backed, narrow, maxSnapshots, model, snapshots: new Map() };
}

/** A range of the guest, often at the edges of clusters. */
function range(random: Random, { model, clusterSize }: Subject, unit: number): { offset: number; length: number } {
  let offset = random.below(model.length);
  if (random.chance(0.5)) {
    offset = Math.floor(offset / clusterSize) * clusterSize;
  }
  offset = Math.floor(offset / unit) * unit;
  const most = random.pick([600, clusterSize, 5 * clusterSize, 300_000]);
  const length = Math.min(model.length - offset, Math.ceil(random.between(1, most) / unit) * unit);
  return { offset, length };
}

function resized(model: Uint8Array, size: number): Uint8Array {
  const next = new Uint8Array(size);
  next.set(model.subarray(0, size));
  return next;
}

const mayResize = ({ version, snapshots }: Subject): boolean => version === 3 || snapshots.size === 0;

async function ours(random: Random, subject: Subject): Promise<void> {
  const image = await new BlockGraph({ gate: followGate('all') }).open(subject.path, { format: 'qcow2', readOnly: false, user: 'a guest' });
  const { node } = image;
  try {
    for (let step = random.between(1, 25); step > 0; step--) {
      const { offset, length } = range(random, subject, 1);
      const draw = random.below(12);
      if (draw < 7) {
        const bytes = Buffer.alloc(length, random.between(1, 255));
        await node.write(offset, bytes, { fua: random.chance(0.1) });
        subject.model.set(bytes, offset);
      } else if (draw < 10) {
        await node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
        subject.model.fill(0, offset, offset + length);
      } else if (draw === 10) {
        await node.flush();
      } else if (mayResize(subject)) {
        const size = sectors(random, 32768, subject.model.length * 1.4);
        const modes: Preallocation[] = ['off', 'metadata', 'falloc', 'full'];
        const growing = size > subject.model.length;
        await node.resize(size, growing && !subject.backed ? random.pick(modes)! : 'off');
        subject.model = resized(subject.model, size);
      }
    }
    const seen = new Uint8Array(node.size);
    await node.read(0, seen);
    expect(difference(seen, subject.model)).toBeNull();
  } finally {
    await image.close();
  }
}

async function theirs(random: Random, subject: Subject): Promise<void> {
  const commands: string[] = [];
  for (let step = random.between(1, 12); step > 0; step--) {
    const { offset, length } = range(random, subject, 512);
    const value = random.chance(0.6) ? random.between(1, 255) : 0;
    const how = value > 0 ? `-P ${value}` : random.chance(0.5) ? '-z -u' : '-z';
    commands.push(`write -q ${how} ${offset} ${length}`);
    subject.model.fill(value, offset, offset + length);
  }
  await writeWithQemuIo(['-f', 'qcow2', subject.path], commands);
}

/** QEMU compresses only what is not allocated yet: each cluster once, before everything else. */
async function compress(random: Random, subject: Subject): Promise<void> {
  const { clusterSize, model } = subject;
  const commands: string[] = [];
  for (let at = 0; at + clusterSize <= model.length && commands.length < 20; at += clusterSize * random.between(1, 4)) {
    const value = random.between(1, 255);
    commands.push(`write -q -c -P ${value} ${at} ${clusterSize}`);
    model.fill(value, at, at + clusterSize);
  }
  await writeWithQemuIo(['-f', 'qcow2', subject.path], commands);
}

async function between(random: Random, subject: Subject): Promise<void> {
  const { path, snapshots, maxSnapshots, model } = subject;
  const name = random.pick([...snapshots.keys()]);
  const draw = random.below(5);
  if (draw < 2 && snapshots.size < maxSnapshots) {
    const made = `s${random.bits()}`;
    await makeWithQemuImg(['snapshot', '-q', '-c', made, path]);
    snapshots.set(made, model.slice());
  } else if (draw === 2 && name !== undefined) {
    await makeWithQemuImg(['snapshot', '-q', '-d', name, path]);
    snapshots.delete(name);
  } else if (draw === 3 && name !== undefined && snapshots.get(name)!.length === model.length) {
    await makeWithQemuImg(['snapshot', '-q', '-a', name, path]);
    subject.model = snapshots.get(name)!.slice();
  } else if (draw === 4 && mayResize(subject)) {
    // A disk that QEMU grows shows again what was cut off inside its last cluster.
    const most = model.length % subject.clusterSize === 0 ? model.length * 1.4 : model.length;
    const size = sectors(random, 32768, most);
    await makeWithQemuImg(['resize', '-q', '-f', 'qcow2', '--shrink', path, String(size)]);
    subject.model = resized(model, size);
  }
}

function difference(seen: Uint8Array, wanted: Uint8Array): string | null {
  if (seen.length !== wanted.length) {
    return `${seen.length} bytes instead of ${wanted.length}`;
  }
  if (Buffer.compare(seen, wanted) === 0) {
    return null;
  }
  const at = seen.findIndex((byte, index) => byte !== wanted[index]);
  return `byte ${at} is ${seen[at]} instead of ${wanted[at]}`;
}

async function judge({ path, model, snapshots }: Subject): Promise<void> {
  const { code, stdout, stderr } = await qemuImg(['check', '-f', 'qcow2', path]);
  expect(code, stdout + stderr).toBe(0);
  const flat = `${path}.raw`;
  await makeWithQemuImg(['convert', '-q', '-f', 'qcow2', '-O', 'raw', path, flat]);
  expect(difference(await readFile(flat), model)).toBeNull();
  const [snapshot] = [...snapshots].filter(([, bytes]) => bytes.length === model.length);
  if (snapshot) {
    await makeWithQemuImg(['convert', '-q', '-f', 'qcow2', '-O', 'raw', '-l', `snapshot.name=${snapshot[0]}`, path, flat]);
    expect(difference(await readFile(flat), snapshot[1]), `snapshot ${snapshot[0]}`).toBeNull();
  }
}

describe('images written in turn with QEMU stay sound and have the same bytes', () => {
  const seeds = Array.from({ length: testCases(20) }, (_, index) => testSeed() + index);
  test.each(seeds)('seed %i', async (seed) => {
    const random = new Random(seed);
    const subject = await makeSubject(random, String(seed));
    const turns: string[] = [];
    try {
      if (!subject.dataFile && !subject.preallocated && !subject.narrow && random.chance(0.4)) {
        turns.push('compressed');
        await compress(random, subject);
      }
      for (let turn = 0; turn < 4; turn++) {
        turns.push('ours');
        await ours(random, subject);
        await judge(subject);
        turns.push('qemu-img');
        await between(random, subject);
        turns.push('qemu-io');
        await theirs(random, subject);
        await judge(subject);
      }
    } catch (cause) {
      throw new Error(`CHAINSCOPE_SEED=${seed} CHAINSCOPE_CASES=1: ${subject.options.join(',')}: ${turns.join(', ')}`, { cause });
    }
  });
});
