import { describe, expect, test } from 'vitest';
import { TrackedNode } from '../../../src/engine/block/trackedNode';
import { Job } from '../../../src/engine/jobs/job';
import { MirrorWork } from '../../../src/engine/jobs/mirror';
import { Random, testSeed } from '../../interop/random';
import { MemoryNode } from '../block/memoryNode';

const CLUSTER = 64 * 1024;
const SIZE = 24 * CLUSTER;
const seed = testSeed();
const seeds = Array.from({ length: 8 }, (_, index) => seed + index);

function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A guest that writes until it is told to stop. */
async function guest(random: Random, disk: TrackedNode, expected: Uint8Array, goesOn: () => boolean): Promise<number> {
  let requests = 0;
  while (goesOn()) {
    const offset = random.below(SIZE - 1);
    const length = random.between(1, Math.min(SIZE - offset, 2 * CLUSTER));
    const zero = random.chance(0.2);
    const bytes = new Uint8Array(length).fill(zero ? 0 : random.between(1, 255));
    expected.set(bytes, offset);
    await (zero ? disk.writeZeroes(offset, length) : disk.write(offset, bytes));
    requests++;
    if (random.chance(0.5)) {
      await pause();
    }
  }
  return requests;
}

async function world(caseSeed: number) {
  const random = new Random(caseSeed);
  const slow = new Random(caseSeed + 1);
  const base = new MemoryNode('base', { size: SIZE, clusterSize: CLUSTER, slow });
  const top = new MemoryNode('top', { size: SIZE, clusterSize: CLUSTER, backing: base, slow });
  for (const layer of [base, top]) {
    for (let request = 0; request < 8; request++) {
      const offset = random.below(SIZE - CLUSTER);
      await layer.write(offset, new Uint8Array(CLUSTER).fill(random.between(1, 255)));
    }
  }
  const expected = new Uint8Array(SIZE);
  await top.read(0, expected);
  return { random, base, top, source: new TrackedNode(top), expected };
}

async function contents(node: MemoryNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE);
  await node.read(0, bytes);
  return bytes;
}

/** A pivot as the graph does it: with nothing of the guest in flight. */
function quietly(source: TrackedNode, replace: () => unknown = () => undefined): (settle: () => Promise<void>) => Promise<void> {
  return async (settle) => {
    await source.requests.run(0, Infinity, true, async () => {
      await settle();
      replace();
    });
  };
}

describe('a mirror', () => {
  test.each(seeds)('follows a guest that writes all the time, and takes its place (seed %i)', async (caseSeed) => {
    const { random, source, expected } = await world(caseSeed);
    const target = new MemoryNode('target', { size: SIZE, clusterSize: CLUSTER, slow: new Random(caseSeed + 2) });
    const pivot = quietly(source, () => source.replaceImage(target));
    const job = new Job({
      id: 'mirror0',
      type: 'mirror',
      work: new MirrorWork({ source, target, base: null, targetIsZero: true, pivot }),
    });
    let running = true;
    const requests = guest(random, source, expected, () => running);
    const ready = new Promise<void>((resolve) => job.onDidChange(({ status }) => status === 'ready' && resolve()));
    const ended = job.start();
    await ready;
    for (let turn = 0; turn < 50; turn++) {
      await pause();
    }
    job.complete();
    expect(await ended).toBe('completed');
    running = false;
    expect(await requests).toBeGreaterThan(0);
    expect(source.image).toBe(target);
    expect(Buffer.compare(await contents(target), expected)).toBe(0);
  });

  test.each(seeds)('commits an active layer into its base (seed %i)', async (caseSeed) => {
    const { random, base, source, expected } = await world(caseSeed);
    let running = true;
    const requests = guest(random, source, expected, () => running);
    const work = new MirrorWork({ source, target: base, base, targetIsZero: false, pivot: quietly(source) });
    const job = new Job({ id: 'commit0', type: 'commit', work });
    const ready = new Promise<void>((resolve) => job.onDidChange(({ status }) => status === 'ready' && resolve()));
    const ended = job.start();
    await ready;
    running = false;
    await requests;
    job.complete();
    expect(await ended).toBe('completed');
    expect(Buffer.compare(await contents(base), expected)).toBe(0);
  });

  test('that is cancelled leaves the guest where it is', async () => {
    const { source, top, expected } = await world(seed);
    const target = new MemoryNode('target', { size: SIZE, clusterSize: CLUSTER });
    const pivots: string[] = [];
    const pivot = quietly(source, () => pivots.push('pivoted'));
    const job = new Job({ id: 'mirror0', type: 'mirror', work: new MirrorWork({ source, target, base: null, targetIsZero: true, pivot }) });
    const ready = new Promise<void>((resolve) => job.onDidChange(({ status }) => status === 'ready' && resolve()));
    const ended = job.start();
    await ready;
    job.cancel();
    expect(await ended).toBe('cancelled');
    expect(pivots).toEqual([]);
    expect(Buffer.compare(await contents(top), expected)).toBe(0);
  });
});
