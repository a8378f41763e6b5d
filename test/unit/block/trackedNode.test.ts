import { describe, expect, test } from 'vitest';
import { TrackedNode } from '../../../src/engine/block/trackedNode';
import { EngineError } from '../../../src/engine/errors';
import { Random, testSeed } from '../../interop/random';
import { MemoryNode } from './memoryNode';

const CLUSTER = 64;
const SIZE = 64 * CLUSTER - 16;

interface World {
  readonly random: Random;
  readonly base: MemoryNode;
  readonly middle: MemoryNode;
  readonly top: MemoryNode;
  readonly node: TrackedNode;
  /** What the guest must read. */
  readonly expected: Uint8Array;
}

/** Three layers, the lowest shorter, with scattered data; slow when the requests are to overtake one another. */
async function makeWorld(seed: number, slow: boolean): Promise<World> {
  const random = new Random(seed);
  const turns = slow ? new Random(seed + 1) : null;
  const base = new MemoryNode('base', { size: SIZE - 10 * CLUSTER, clusterSize: CLUSTER, slow: turns });
  const middle = new MemoryNode('middle', { size: SIZE - 3 * CLUSTER, clusterSize: CLUSTER, backing: base, slow: turns });
  const top = new MemoryNode('top', { size: SIZE, clusterSize: CLUSTER, backing: middle, slow: turns });
  for (const layer of [base, middle, top]) {
    for (let request = 0; request < 12; request++) {
      const { offset, length } = range(random, layer.size);
      await (random.chance(0.3) ? layer.writeZeroes(offset, length) : layer.write(offset, pattern(random, length)));
    }
    layer.reads.length = 0;
  }
  const expected = new Uint8Array(SIZE);
  await top.read(0, expected);
  for (const layer of [base, middle, top]) {
    layer.reads.length = 0;
  }
  return { random, base, middle, top, node: new TrackedNode(top), expected };
}

function range(random: Random, size: number): { offset: number; length: number } {
  const offset = random.below(size);
  return { offset, length: random.between(1, Math.min(size - offset, 5 * CLUSTER)) };
}

function pattern(random: Random, length: number): Uint8Array {
  return new Uint8Array(length).fill(random.between(1, 255));
}

async function contents(node: TrackedNode | MemoryNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.size);
  await node.read(0, bytes);
  return bytes;
}

/** Populates everything, one step after the other. */
async function populateAll(world: World, base: MemoryNode | null): Promise<number> {
  let copied = 0;
  for (let at = 0; at < SIZE;) {
    const step = await world.node.populate(base, at, SIZE - at, 3 * CLUSTER);
    expect(step.length).toBeGreaterThan(0);
    copied += step.copied;
    at += step.length;
  }
  return copied;
}

const seed = testSeed();
const seeds = Array.from({ length: 20 }, (_, index) => seed + index);

describe('copying up', () => {
  test.each(seeds)('makes the image stand without the chain (seed %i)', async (caseSeed) => {
    const world = await makeWorld(caseSeed, false);
    await populateAll(world, null);
    const alone = new MemoryNode('alone', { size: SIZE, clusterSize: CLUSTER });
    alone.bytes.set(world.top.bytes);
    world.top.allocated.forEach((kind, cluster) => (alone.allocated[cluster] = kind));
    expect(await contents(alone)).toEqual(world.expected);
    expect(await populateAll(world, null)).toBe(0);
  });

  test.each(seeds)('leaves to the base what is the base’s (seed %i)', async (caseSeed) => {
    const world = await makeWorld(caseSeed, false);
    const onlyInBase = world.base.allocated.flatMap((kind, cluster) =>
      kind !== null && world.middle.allocated[cluster] === null && world.top.allocated[cluster] === null ? [cluster] : [],
    );
    await populateAll(world, world.base);
    const onBase = new MemoryNode('on-base', { size: SIZE, clusterSize: CLUSTER, backing: world.base });
    onBase.bytes.set(world.top.bytes);
    world.top.allocated.forEach((kind, cluster) => (onBase.allocated[cluster] = kind));
    expect(await contents(onBase)).toEqual(world.expected);
    expect(onlyInBase.filter((cluster) => world.top.allocated[cluster] !== null)).toEqual([]);
  });

  test.each(seeds)('never undoes what the guest writes meanwhile (seed %i)', async (caseSeed) => {
    const world = await makeWorld(caseSeed, true);
    const { random, node, expected } = world;
    if (random.chance(0.5)) {
      node.setCopyOnRead({ bottom: null });
    }
    const copying = populateAll(world, null);
    // Guests do not write one range twice at once; everything else goes on at the same time.
    const writing = new Set<{ offset: number; length: number }>();
    const requests: Promise<void>[] = [];
    for (let request = 0; request < 300; request++) {
      const { offset, length } = range(random, SIZE);
      if ([...writing].some((other) => other.offset < offset + length && offset < other.offset + other.length)) {
        await Promise.race(requests);
        continue;
      }
      if (random.chance(0.4)) {
        const target = new Uint8Array(length);
        const wanted = expected.slice(offset, offset + length);
        const entry = { offset, length };
        writing.add(entry);
        requests.push(
          Promise.resolve(node.read(offset, target)).then(() => {
            writing.delete(entry);
            expect(target).toEqual(wanted);
          }),
        );
        continue;
      }
      const zero = random.chance(0.3);
      const bytes = zero ? new Uint8Array(length) : pattern(random, length);
      const entry = { offset, length };
      writing.add(entry);
      expected.set(bytes, offset);
      const written = zero ? node.writeZeroes(offset, length) : node.write(offset, bytes);
      requests.push(Promise.resolve(written).then(() => void writing.delete(entry)));
      if (random.chance(0.3)) {
        await Promise.race(requests);
      }
    }
    await Promise.all(requests);
    await copying;
    expect(await contents(node)).toEqual(expected);
  });
});

describe('copy-on-read', () => {
  test.each(seeds)('reads each cluster of the base once (seed %i)', async (caseSeed) => {
    const world = await makeWorld(caseSeed, true);
    const { random, node, base, expected } = world;
    node.setCopyOnRead({ bottom: null });
    const unique = new Set<number>();
    for (let round = 0; round < 2; round++) {
      const reads = Array.from({ length: 40 }, () => range(new Random(random.below(1000)), SIZE));
      await Promise.all(
        reads.map(async ({ offset, length }) => {
          const target = new Uint8Array(length);
          await node.read(offset, target);
          expect(target).toEqual(expected.slice(offset, offset + length));
        }),
      );
    }
    for (const { offset, length } of [...base.reads]) {
      for (let cluster = Math.floor(offset / CLUSTER); cluster * CLUSTER < offset + length; cluster++) {
        if (base.allocated[cluster] !== null) {
          expect(unique.has(cluster), `cluster ${cluster} of the base is read again`).toBe(false);
          unique.add(cluster);
        }
      }
    }
  });

  test.each(seeds)('reads of the base exactly the clusters that the guest needs, once (seed %i)', async (caseSeed) => {
    const random = new Random(caseSeed);
    const base = new MemoryNode('base', { size: SIZE, clusterSize: CLUSTER, slow: new Random(caseSeed + 1) });
    await base.write(0, pattern(random, SIZE));
    const top = new MemoryNode('top', { size: SIZE, clusterSize: CLUSTER, backing: base, slow: new Random(caseSeed + 2) });
    const node = new TrackedNode(top);
    node.setCopyOnRead({ bottom: null });
    const reads = Array.from({ length: 60 }, () => range(random, SIZE));
    const wanted = new Set(
      reads.flatMap(({ offset, length }) =>
        Array.from({ length: Math.ceil((offset + length) / CLUSTER) - Math.floor(offset / CLUSTER) }, (_, index) =>
          Math.floor(offset / CLUSTER + index),
        ),
      ),
    );
    for (let round = 0; round < 2; round++) {
      await Promise.all(reads.map(async ({ offset, length }) => node.read(offset, new Uint8Array(length))));
    }
    const needed = [...wanted].reduce((bytes, cluster) => bytes + Math.min(CLUSTER, SIZE - cluster * CLUSTER), 0);
    expect(base.reads.reduce((bytes, { length }) => bytes + length, 0)).toBe(needed);
  });

  test.each(seeds)('shows the guest its own bytes while it is switched on and off (seed %i)', async (caseSeed) => {
    const world = await makeWorld(caseSeed, true);
    const { random, node, expected } = world;
    const busy = new Set<{ offset: number; length: number }>();
    const requests: Promise<void>[] = [];
    for (let request = 0; request < 300; request++) {
      if (random.chance(0.1)) {
        node.setCopyOnRead(random.chance(0.5) ? { bottom: random.chance(0.5) ? null : world.middle } : null);
      }
      const entry = range(random, SIZE);
      const { offset, length } = entry;
      if ([...busy].some((other) => other.offset < offset + length && offset < other.offset + other.length)) {
        await Promise.race(requests);
        continue;
      }
      busy.add(entry);
      const write = random.chance(0.4);
      const bytes = write ? pattern(random, length) : new Uint8Array(length);
      if (write) {
        expected.set(bytes, offset);
      }
      const wanted = expected.slice(offset, offset + length);
      requests.push(
        Promise.resolve(write ? node.write(offset, bytes) : node.read(offset, bytes)).then(() => {
          busy.delete(entry);
          expect(bytes).toEqual(wanted);
        }),
      );
    }
    await Promise.all(requests);
    expect(await contents(node)).toEqual(expected);
  });

  test('copies nothing from below its bottom', async () => {
    const world = await makeWorld(seed, false);
    const before = [...world.top.allocated];
    world.node.setCopyOnRead({ bottom: world.middle });
    expect(await contents(world.node)).toEqual(world.expected);
    const copied = (cluster: number) => world.top.allocated[cluster] !== null && before[cluster] === null;
    const clusters = Array.from(before, (_, cluster) => cluster).filter((cluster) => (cluster + 1) * CLUSTER <= world.middle.size);
    expect(clusters.filter((cluster) => copied(cluster) && world.middle.allocated[cluster] === null)).toEqual([]);
    const counts = world.node.readCounts;
    expect(counts.hits + counts.misses).toBe(SIZE);
  });

  test('gives the guest its bytes when the layer is full', async () => {
    const world = await makeWorld(seed, false);
    const errors: unknown[] = [];
    world.top.failWrites = new EngineError('file.full', 'No space left.');
    world.node.setCopyOnRead({ bottom: null, onError: (error) => errors.push(error) });
    expect(await contents(world.node)).toEqual(world.expected);
    expect(errors.length).toBeGreaterThan(0);
  });

  test('stops when it is switched off', async () => {
    const world = await makeWorld(seed, false);
    world.node.setCopyOnRead({ bottom: null });
    world.node.setCopyOnRead(null);
    const before = [...world.top.allocated];
    expect(await contents(world.node)).toEqual(world.expected);
    expect(world.top.allocated).toEqual(before);
  });
});
