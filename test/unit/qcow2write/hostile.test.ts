import { describe, expect, it } from 'vitest';

import type { Awaitable } from '../../../src/engine/awaitable';
import { EngineError } from '../../../src/engine/errors';
import { compressCluster } from '../../../src/engine/formats/qcow2/compression';
import { QuietImage } from '../../../src/engine/formats/qcow2/manage/quietImage';
import { createSnapshot } from '../../../src/engine/formats/qcow2/manage/snapshots';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { Qcow2Node } from '../../../src/engine/formats/qcow2/write/qcow2Node';
import type { Storage } from '../../../src/engine/io/storage';
import { Random, testCases, testSeed } from '../../interop/random';
import {
  BoundedStorage,
  CLUSTER,
  damageAtRandom,
  damaged,
  DAMAGES,
  metadataClusters,
  soundImage,
  type Request,
  type SoundImage,
} from './hostileImages';

function open(storage: Storage, readOnly = false): Promise<Qcow2Node> {
  return Qcow2Node.open({ storage, backing: null, nodeName: 'image', readOnly });
}

async function ask(node: Qcow2Node, request: Request, guestOffset: number): Promise<void> {
  switch (request) {
    case 'write':
      return node.write(guestOffset, new Uint8Array(CLUSTER).fill(0x77));
    case 'part':
      return node.write(guestOffset + 512, new Uint8Array(1024).fill(0x77));
    case 'zeroes':
      return node.writeZeroes(guestOffset, CLUSTER, { mayUnmap: true });
    case 'discard':
      return node.discard(guestOffset, CLUSTER);
    case 'compressed':
      return node.writeCompressed(guestOffset, new Uint8Array(CLUSTER).fill(0x77));
    case 'read':
      return node.read(guestOffset, new Uint8Array(CLUSTER));
    case 'grow':
      return node.resize(node.size + 10 * CLUSTER);
  }
}

/** What a request ends with; what is not an error of the engine's ends the test. */
async function outcome(work: () => unknown): Promise<EngineError | null> {
  try {
    await work();
    return null;
  } catch (error) {
    if (error instanceof EngineError) {
      return error;
    }
    throw error;
  }
}

/** A request and, where it is not a failure yet, the flush that writes its tables. */
async function askAndFlush(node: Qcow2Node, request: Request, guestOffset: number): Promise<EngineError | null> {
  return (await outcome(() => ask(node, request, guestOffset))) ?? (await outcome(() => node.flush()));
}

/** Metadata that differs from `before`: host offsets. The mark of a corrupt image, in the last byte of a header field, does not count. */
function changedMetadata(before: Uint8Array, after: Uint8Array): number[] {
  const same = after.slice();
  same[79]! &= ~2;
  const changed: number[] = [];
  for (const cluster of metadataClusters(before)) {
    for (let at = cluster * CLUSTER; at < Math.min((cluster + 1) * CLUSTER, before.length); at++) {
      if (same[at] !== before[at]) {
        changed.push(at);
        break;
      }
    }
  }
  return changed;
}

describe('metadata that contradicts itself, met while writing', () => {
  const images = new Map<string, SoundImage>();
  const imageFor = async (options: object): Promise<SoundImage> => {
    const key = JSON.stringify(options);
    const image = images.get(key) ?? (await soundImage(options));
    images.set(key, image);
    return image;
  };

  for (const damage of DAMAGES) {
    for (const request of damage.requests) {
      it(`${damage.name}: ${request}`, async () => {
        const image = await imageFor(damage.options ?? {});
        const { bytes, guestOffset } = damaged(damage, image);
        const storage = new BoundedStorage(bytes);
        const node = await open(storage);
        // Bitmaps are said to be in use with the first change, rightly.
        const allowed = bytes.slice();
        const error = await askAndFlush(node, request, guestOffset);
        expect({ code: error?.code, ...error?.place }).toMatchObject({
          code: 'image.corrupt',
          file: 'memory',
          structure: damage.structure,
          hostOffset: damage.hostOffset(image.layout),
        });
        expect(error?.message).toContain(`${damage.structure} at offset ${damage.hostOffset(image.layout)}:`);
        const markedBitmap = image.layout.bitmapDirectory;
        const seen = storage.bytes;
        if (markedBitmap > 0) {
          allowed.set(seen.subarray(markedBitmap + 12, markedBitmap + 16), markedBitmap + 12);
        }
        if (!damage.late) {
          expect(changedMetadata(allowed, seen)).toEqual([]);
        }
        expect(readQcow2Metadata(storage).corrupt).toBe(damage.options?.compat !== '0.10');

        // Nothing is written any more, wherever it would go; the rest can be read.
        const recording = storage.bytes;
        for (const other of ['write', 'zeroes', 'discard', 'compressed', 'grow'] as const) {
          expect((await outcome(() => ask(node, other, 2 * CLUSTER)))?.code).toBe('image.corrupt');
        }
        expect((await outcome(() => node.flush()))?.code).toBe('image.corrupt');
        await node.close();
        expect(Buffer.compare(storage.bytes, recording)).toBe(0);
        if (damage.options?.compat !== '0.10') {
          expect((await outcome(() => open(new BoundedStorage(storage.bytes))))?.code).toBe('image.corrupt');
        }
        await (await open(new BoundedStorage(storage.bytes), true)).close();
      });
    }
  }
});

it('a snapshot of an image whose guest uses what has no refcount is refused, and changes nothing but refcounts', async () => {
  const { bytes, layout } = await soundImage();
  new DataView(bytes.buffer).setBigUint64(layout.l2[0]! + 8, (2n ** 63n) | BigInt(100 * 2 ** 20));
  const storage = new BoundedStorage(bytes);
  const image = QuietImage.open(storage);
  const error = await outcome(() => createSnapshot(image, { name: 'next' }));
  expect({ code: error?.code, ...error?.place }).toMatchObject({ code: 'image.corrupt', structure: 'refcount table entry' });
  const changed = changedMetadata(bytes, storage.bytes);
  expect(changed.filter((at) => Math.floor(at / CLUSTER) * CLUSTER !== layout.refcountBlock)).toEqual([]);
});

const GUEST = 0xa7;
const COMPRESSED = compressCluster('zlib', new Uint8Array(CLUSTER).fill(GUEST))!;

/** Sees guest bytes that go where the file's own tables say that metadata lies. */
class WatchfulStorage extends BoundedStorage {
  readonly mistakes: string[] = [];

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    if (startsWith(bytes, COMPRESSED) || holdsGuestBytes(bytes)) {
      this.watch('guest data is written', hostOffset, bytes.length);
    }
    return super.write(bytes, hostOffset);
  }

  override discard(hostOffset: number, length: number): Awaitable<void> {
    this.watch('bytes are given back', hostOffset, length);
    return super.discard(hostOffset, length);
  }

  private watch(what: string, hostOffset: number, length: number): void {
    const metadata = metadataClusters(this.bytes);
    for (let cluster = Math.floor(hostOffset / CLUSTER); cluster * CLUSTER < hostOffset + length; cluster++) {
      if (metadata.has(cluster)) {
        this.mistakes.push(`${what} in the metadata cluster at ${cluster * CLUSTER}`);
      }
    }
  }
}

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(0, start.length), start) === 0;
}

function holdsGuestBytes(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(Buffer.alloc(64, GUEST));
}

async function randomRequest(random: Random, node: Qcow2Node): Promise<EngineError | null> {
  const cluster = random.chance(0.7) ? random.below(8) : random.below(Math.ceil(node.size / CLUSTER));
  const offset = cluster * CLUSTER + random.pick([0, 0, 512, 3000] as const);
  // Where the disk became smaller some requests reach past its end, which is an error as well.
  const length = Math.max(1, Math.min(node.size - offset, random.pick([128, 512, CLUSTER, 3 * CLUSTER] as const)));
  switch (random.below(9)) {
    case 0:
    case 1:
    case 2:
      return outcome(() => node.write(offset, new Uint8Array(length).fill(GUEST)));
    case 3:
      return outcome(() => node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) }));
    case 4:
      return outcome(() => node.discard(cluster * CLUSTER, 2 * CLUSTER));
    case 5:
      return outcome(() => node.writeCompressed(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(GUEST)));
    case 6:
      return outcome(() => node.read(offset, new Uint8Array(length)));
    case 7:
      return outcome(() => node.resize(Math.max(512, node.size + random.between(-40, 40) * 512)));
    default:
      return outcome(() => node.flush());
  }
}

describe('random damage and random requests', () => {
  const seed = testSeed();

  it('never lets guest data reach metadata, and fails with errors that say what is wrong', async () => {
    const images = await Promise.all([{}, { lazy_refcounts: true }, { compat: '0.10' as const }].map((options) => soundImage(options)));
    let corrupt = 0;
    let fine = 0;
    for (let i = 0; i < testCases(400); i++) {
      const random = new Random(seed + i);
      try {
        const bytes = damageAtRandom(random, random.pick(images)!);
        const storage = new WatchfulStorage(bytes);
        const opening = open(storage);
        const refused = await outcome(() => opening);
        if (refused) {
          corrupt += refused.code === 'image.corrupt' ? 1 : 0;
          continue;
        }
        const opened = await opening;
        let error: EngineError | null = null;
        for (let step = 0; step < 25; step++) {
          error = (await randomRequest(random, opened)) ?? error;
        }
        error = (await outcome(() => opened.close())) ?? error;
        corrupt += error?.code === 'image.corrupt' ? 1 : 0;
        fine += error === null ? 1 : 0;
        expect(storage.mistakes).toEqual([]);
      } catch (cause) {
        throw new Error(`CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1`, { cause });
      }
    }
    // Both happen, or the test sees nothing.
    expect(testCases(400) < 400 || (corrupt > 20 && fine > 20)).toBe(true);
  });
});
