import { describe, expect, test } from 'vitest';
import { TrackedNode } from '../../../src/engine/block/trackedNode';
import { GuestActivity } from '../../../src/engine/jobs/guestActivity';
import { Job } from '../../../src/engine/jobs/job';
import { RebaseWork } from '../../../src/engine/jobs/rebase';
import { Random, testSeed } from '../../interop/random';
import { MemoryNode, type MemoryNodeOptions } from '../block/memoryNode';

const CLUSTER = 64 * 1024;
const SIZE = 24 * CLUSTER;
const seed = testSeed();
const seeds = Array.from({ length: 8 }, (_, index) => seed + index);

/** Gives up what is discarded, as a thin image does: without a backing file clusters that are gone read as zero. */
class ThinNode extends MemoryNode {
  override discard(guestOffset = 0, length = 0): void {
    for (let cluster = Math.ceil(guestOffset / CLUSTER); (cluster + 1) * CLUSTER <= guestOffset + length; cluster++) {
      this.bytes.fill(0, cluster * CLUSTER, (cluster + 1) * CLUSTER);
      this.allocated[cluster] = this.backing === null ? null : 'zero';
    }
  }

  /** The same image on another backing file. */
  on(backing: MemoryNode | null): ThinNode {
    const image = new ThinNode(this.nodeName, { size: this.size, clusterSize: this.clusterSize, backing });
    image.bytes.set(this.bytes);
    image.allocated.splice(0, Infinity, ...this.allocated);
    return image;
  }
}

async function filled<T extends MemoryNode>(node: T, random: Random, writes: number): Promise<T> {
  for (let count = 0; count < writes; count++) {
    const clusters = random.between(1, 4);
    const first = random.below(node.size / CLUSTER - clusters);
    // Few values, so that two images are alike here and there.
    const bytes = new Uint8Array(clusters * CLUSTER).fill(random.below(3));
    await node.write(first * CLUSTER, bytes);
  }
  return node;
}

async function contents(node: MemoryNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE);
  await node.read(0, bytes);
  return bytes;
}

interface World {
  readonly top: ThinNode;
  readonly below: MemoryNode | null;
  readonly image: TrackedNode;
  readonly expected: Uint8Array;
  readonly relinked: ThinNode[];
  readonly job: Job;
}

async function world(random: Random): Promise<World> {
  const options = (slow: number): MemoryNodeOptions => ({ size: SIZE, clusterSize: CLUSTER, slow: new Random(random.bits() + slow) });
  const shorter = { ...options(1), size: SIZE - CLUSTER * random.below(6) };
  const old = random.chance(0.3) ? null : await filled(new MemoryNode('old', shorter), random, 8);
  const below = random.chance(0.2) ? null : await filled(new MemoryNode('below', options(2)), random, 8);
  const top = await filled(new ThinNode('top', { ...options(3), backing: old }), random, 3);
  const image = new TrackedNode(top);
  const relinked: ThinNode[] = [];
  const work = new RebaseWork({
    image,
    below,
    activity: new GuestActivity(),
    relink: async (settle) => {
      await image.requests.run(0, Infinity, true, async () => {
        await settle();
        relinked.push(top.on(below));
        image.replaceImage(relinked[0]!);
      });
    },
    release: () => Promise.resolve(),
  });
  return { top, below, image, relinked, expected: await contents(top), job: new Job({ id: 'rebase0', type: 'rebase', work }) };
}

function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A guest that writes, makes zero and discards until it is told to stop. */
async function guest(random: Random, disk: TrackedNode, expected: Uint8Array, goesOn: () => boolean): Promise<number> {
  let requests = 0;
  for (; goesOn(); requests++) {
    const offset = random.below(SIZE - 1);
    const length = random.between(1, Math.min(SIZE - offset, 3 * CLUSTER));
    if (random.chance(0.4)) {
      const [from, to] = [Math.ceil(offset / CLUSTER) * CLUSTER, Math.floor((offset + length) / CLUSTER) * CLUSTER];
      expected.fill(0, from, Math.max(from, to));
      await disk.discard(offset, length);
    } else {
      const value = random.below(4);
      expected.fill(value, offset, offset + length);
      await (value === 0 ? disk.writeZeroes(offset, length) : disk.write(offset, new Uint8Array(length).fill(value)));
    }
    if (random.chance(0.5)) {
      await pause();
    }
  }
  return requests;
}

describe('a rebase', () => {
  test.each(seeds)('keeps what the guest reads while it goes on (seed %i)', async (caseSeed) => {
    const random = new Random(caseSeed);
    const { image, expected, relinked, job } = await world(random);
    let running = true;
    const requests = guest(random, image, expected, () => running);
    expect(await job.start()).toBe('completed');
    for (let turn = 0; turn < 50; turn++) {
      await pause();
    }
    running = false;
    expect(await requests).toBeGreaterThan(0);
    expect(relinked).toHaveLength(1);
    expect(Buffer.compare(await contents(relinked[0]!), expected)).toBe(0);
  });

  test('looks again at what the guest gives up after it was copied: the new backing file must not shine through', async () => {
    const below = await filled(new MemoryNode('below', { size: SIZE, clusterSize: CLUSTER }), new Random(seed), 12);
    const top = new ThinNode('top', { size: SIZE, clusterSize: CLUSTER });
    await top.write(0, new Uint8Array(SIZE).fill(7));
    const image = new TrackedNode(top);
    const relinked: ThinNode[] = [];
    const relink = async (settle: () => Promise<void>) => {
      await settle();
      relinked.push(top.on(below));
    };
    const work = new RebaseWork({ image, below, activity: new GuestActivity(), relink, release: () => Promise.resolve() });
    const job = new Job({ id: 'rebase0', type: 'rebase', work, autoFinalize: false });
    const pending = new Promise<void>((resolve) => job.onDidChange(({ status }) => status === 'pending' && resolve()));
    const ended = job.start();
    await pending;
    await image.discard(0, SIZE);
    job.finalize();
    expect(await ended).toBe('completed');
    expect((await contents(relinked[0]!)).every((byte) => byte === 0)).toBe(true);
  });

  test('copies nothing where both backing files read the same', async () => {
    const old = await filled(new MemoryNode('old', { size: SIZE, clusterSize: CLUSTER }), new Random(seed), 8);
    const same = new MemoryNode('same', { size: SIZE, clusterSize: CLUSTER });
    await same.write(0, await contents(old));
    const top = new ThinNode('top', { size: SIZE, clusterSize: CLUSTER, backing: old });
    const work = new RebaseWork({
      image: new TrackedNode(top),
      below: same,
      activity: new GuestActivity(),
      relink: (settle) => settle(),
      release: () => Promise.resolve(),
    });
    expect(await new Job({ id: 'rebase0', type: 'rebase', work }).start()).toBe('completed');
    expect(top.allocated.filter((kind) => kind !== null)).toEqual([]);
  });

  test('that is cancelled keeps the backing file, and what the guest reads', async () => {
    const { image, top, expected, relinked, job } = await world(new Random(seed));
    const ended = job.start();
    await pause();
    job.cancel();
    expect(await ended).toBe('cancelled');
    expect(relinked).toEqual([]);
    expect(image.image).toBe(top);
    expect(Buffer.compare(await contents(top), expected)).toBe(0);
  });
});
