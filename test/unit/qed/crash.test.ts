import { describe, expect, test } from 'vitest';

import { checkQed } from '../../../src/engine/check/qedCheck';
import { createQed } from '../../../src/engine/formats/qed/create';
import { readQedMetadata } from '../../../src/engine/formats/qed/metadata';
import type { QedNode } from '../../../src/engine/formats/qed/qedNode';
import { Random, testCases, testSeed } from '../../interop/random';
import { MemorySource } from '../io/memorySource';
import { BytesNode, expectSame, openQed } from './nodes';
import { crashed } from '../../harness/storage/recordingStorage';
import { TestStorage } from './testStorage';

const CLUSTER = 4096;
const SECTOR = 512;
/** Three L2 tables are in use, the last in part. */
const TABLE_CLUSTERS = 2;
const COVERAGE = ((TABLE_CLUSTERS * CLUSTER) / 8) * CLUSTER;
const SIZE = 2 * COVERAGE + 5 * CLUSTER + SECTOR;

/** Guest sectors by a number each: 0 is zeroes, negative ones come from the backing file. */
type Sectors = Int32Array;

function bytesOf(sectors: Sectors): Uint8Array {
  const words = new Int32Array(sectors.length * (SECTOR / 4));
  sectors.forEach((id, i) => words.fill(id, i * (SECTOR / 4), (i + 1) * (SECTOR / 4)));
  return new Uint8Array(words.buffer);
}

/** Sectors near borders of tables and of the disk, where requests go: first sector and number. */
const PLACES = [0, COVERAGE / SECTOR - 32, (2 * COVERAGE) / SECTOR - 32].map((first) => ({ first, count: 73 }));

/** What the guest sees where requests go, at least; everything else is checked by `checkQed` and by these sectors' neighbours. */
async function readPlaces(node: QedNode): Promise<Map<number, number>> {
  const seen = new Map<number, number>();
  for (const { first, count } of PLACES) {
    const bytes = new Uint8Array(count * SECTOR).fill(0xee);
    await node.read(first * SECTOR, bytes);
    const words = new Int32Array(bytes.buffer);
    for (let i = 0; i < count; i++) {
      const id = words[i * (SECTOR / 4)]!;
      // A sector has one writer; the bytes of two in one would be torn.
      const torn = words.subarray(i * (SECTOR / 4), (i + 1) * (SECTOR / 4)).some((word) => word !== id);
      seen.set(first + i, torn ? NaN : id);
    }
  }
  return seen;
}

async function expectGuest(node: QedNode, guest: Sectors): Promise<void> {
  for (const [sector, id] of await readPlaces(node)) {
    if (id !== guest[sector]) {
      expect({ sector, id }).toEqual({ sector, id: guest[sector] });
    }
  }
}

interface Step {
  readonly kind: 'write' | 'zeroes' | 'flush';
  readonly first: number;
  readonly count: number;
  readonly id: number;
}

function randomStep(random: Random, id: number): Step {
  const place = random.pick(PLACES)!;
  const first = place.first + random.below(place.count);
  const count = Math.min(place.first + place.count - first, random.pick([1, 2, 7, 8, 9, 30] as const));
  return { kind: random.chance(0.15) ? 'flush' : random.chance(0.25) ? 'zeroes' : 'write', first, count, id };
}

async function perform(node: QedNode, { kind, first, count, id }: Step): Promise<void> {
  if (kind === 'flush') {
    await node.flush();
  } else if (kind === 'zeroes') {
    await node.writeZeroes(first * SECTOR, count * SECTOR, { mayUnmap: true });
  } else {
    await node.write(first * SECTOR, bytesOf(new Int32Array(count).fill(id)));
  }
}

function randomBase(random: Random): { readonly sectors: Sectors; readonly node: BytesNode } | null {
  if (random.chance(0.4)) {
    return null;
  }
  const length = random.pick([SIZE / SECTOR, (COVERAGE + 3 * CLUSTER) / SECTOR + 3, SIZE / SECTOR + 40] as const);
  const base = Int32Array.from({ length }, (_, i) => -1 - i);
  const sectors = new Int32Array(SIZE / SECTOR);
  sectors.set(base.subarray(0, sectors.length));
  return { sectors, node: new BytesNode(bytesOf(base)) };
}

async function emptyImage(base: boolean): Promise<TestStorage> {
  const storage = new TestStorage();
  await createQed(storage, { size: SIZE, cluster_size: CLUSTER, table_size: TABLE_CLUSTERS, ...(base ? { backing_file: 'base' } : {}) });
  return storage;
}

async function corruptionsOf(bytes: Uint8Array): Promise<number> {
  const { counts } = await checkQed(readQedMetadata(new MemorySource(bytes)), { deep: false, maxFindings: 1 });
  return counts.corruptions;
}

const seed = testSeed();

describe(`a QED image (CHAINSCOPE_SEED=${seed})`, () => {
  test('is consistent after a crash at any point, and has every byte that was flushed', async () => {
    let crashes = 0;
    for (let round = 0; round < testCases(12); round++) {
      const random = new Random(seed + round);
      const base = randomBase(random);
      const storage = await emptyImage(base !== null);
      const start = storage.bytes;
      storage.log.length = 0;
      const node = await openQed(storage, { backing: base?.node ?? null });
      /** For each flush that ended: how long the log was then, and what the guest had written. */
      let guest: Sectors = base?.sectors.slice() ?? new Int32Array(SIZE / SECTOR);
      const flushed = [{ at: 0, sectors: guest.slice() }];
      const written: { at: number; step: Step }[] = [];
      for (let id = 1; id <= 25; id++) {
        const step = randomStep(random, id);
        written.push({ at: storage.log.length, step });
        await perform(node, step);
        if (step.kind === 'flush') {
          flushed.push({ at: storage.log.length, sectors: guest.slice() });
        } else {
          guest = guest.slice().fill(step.kind === 'zeroes' ? 0 : step.id, step.first, step.first + step.count);
        }
      }
      await node.close();
      flushed.push({ at: storage.log.length, sectors: guest.slice() });
      for (let count = 0; count <= storage.log.length; count++) {
        for (const probability of [0, 1, 0.5]) {
          crashes++;
          const bytes = crashed(start, storage.log, count, () => random.chance(probability));
          // No repair is needed for that: entries reach the disk after what they lead to.
          expect(await corruptionsOf(bytes)).toBe(0);
          const durable = flushed.findLast(({ at }) => at <= count)!;
          const later = written.filter(({ at }) => at >= durable.at && at <= count);
          const reopened = await openQed(new TestStorage(bytes), { backing: base?.node ?? null });
          expectAllowed(
            await readPlaces(reopened),
            durable.sectors,
            later.map(({ step }) => step),
          );
        }
      }
    }
    expect(crashes).toBeGreaterThan(100);
  });

  test('survives an error of any operation: it is told, nothing else changes, and later writes work', async () => {
    for (let round = 0; round < testCases(6); round++) {
      const random = new Random(seed + round);
      const base = randomBase(random);
      const steps = Array.from({ length: 12 }, (_, i) => randomStep(random, i + 1));
      const empty = (await emptyImage(base !== null)).bytes;
      const run = async (failAt: number, failWith: 'file.io' | 'file.full'): Promise<number> => {
        const storage = new TestStorage(empty);
        const node = await openQed(storage, { backing: base?.node ?? null });
        storage.failAt = failAt;
        storage.failWith = failWith;
        const guest: Sectors = base?.sectors.slice() ?? new Int32Array(SIZE / SECTOR);
        let errors = 0;
        for (const step of steps) {
          try {
            await perform(node, step);
          } catch (error) {
            expect(error).toMatchObject({ code: failWith });
            errors++;
            // What a failed request leaves in its own range is not known; written again, it is.
            await perform(node, step);
          }
          if (step.kind !== 'flush') {
            guest.fill(step.kind === 'zeroes' ? 0 : step.id, step.first, step.first + step.count);
          }
          await expectGuest(node, guest);
        }
        const operations = storage.operations;
        await node.close().catch((error: unknown) => {
          expect(error).toMatchObject({ code: failWith });
          errors++;
        });
        expect(errors).toBe(failAt >= 0 && failAt < storage.operations ? 1 : 0);
        expect(storage.closed).toBe(true);
        expect(await corruptionsOf(storage.bytes)).toBe(0);
        const again = await openQed(new TestStorage(storage.bytes), { backing: base?.node ?? null });
        if (failAt < operations) {
          await expectGuest(again, guest);
        }
        return storage.operations;
      };
      const operations = await run(-1, 'file.io');
      for (let failAt = 0; failAt < operations; failAt++) {
        await run(failAt, random.pick(['file.io', 'file.full'] as const));
      }
    }
  });

  test('gives every request its bytes when many run at once over a slow file and a slow backing file', async () => {
    for (let round = 0; round < testCases(8); round++) {
      const random = new Random(seed + round);
      const sectors = SIZE / SECTOR;
      const base = Int32Array.from({ length: sectors - random.below(2000) }, (_, i) => -1 - i);
      const storage = await emptyImage(true);
      storage.slow = random;
      const node = await openQed(storage, { backing: new BytesNode(bytesOf(base), random), cacheBytes: 1 });
      const guest = new Int32Array(sectors);
      guest.set(base);
      for (let batch = 0; batch < 25; batch++) {
        // Requests of a batch touch the same clusters but not the same sectors.
        const taken = new Set<number>();
        const requests: Promise<void>[] = [];
        for (let i = 0; i < 12; i++) {
          const step = randomStep(random, batch * 100 + i + 1);
          const range = Array.from({ length: step.count }, (_, k) => step.first + k);
          if (step.kind === 'flush') {
            requests.push(node.flush());
          } else if (range.every((sector) => !taken.has(sector))) {
            range.forEach((sector) => taken.add(sector));
            if (random.chance(0.25)) {
              const expected = bytesOf(guest.slice(step.first, step.first + step.count));
              const target = new Uint8Array(step.count * SECTOR);
              requests.push(Promise.resolve(node.read(step.first * SECTOR, target)).then(() => expectSame(target, expected)));
            } else {
              requests.push(perform(node, step));
              guest.fill(step.kind === 'zeroes' ? 0 : step.id, step.first, step.first + step.count);
            }
          }
        }
        await Promise.all(requests);
      }
      await expectGuest(node, guest);
      await node.close();
      expect(await corruptionsOf(storage.bytes)).toBe(0);
      storage.slow = null;
      await expectGuest(await openQed(storage, { backing: new BytesNode(bytesOf(base)) }), guest);
    }
  });
});

/** Every sector is as it was flushed, or as one of the later requests made it. */
function expectAllowed(seen: ReadonlyMap<number, number>, flushed: Sectors, later: readonly Step[]): void {
  for (const [sector, id] of seen) {
    const made = ({ kind, first, count, id: written }: Step): boolean =>
      kind !== 'flush' && sector >= first && sector < first + count && id === (kind === 'zeroes' ? 0 : written);
    if (id !== flushed[sector] && !later.some(made)) {
      expect({ sector, id }).toEqual({ sector, id: flushed[sector] });
    }
  }
}
