import { describe, expect, test } from 'vitest';
import { after } from '../../../src/engine/awaitable';
import { TrackedNode } from '../../../src/engine/block/trackedNode';
import { EngineError } from '../../../src/engine/errors';
import { GuestActivity } from '../../../src/engine/jobs/guestActivity';
import { Job } from '../../../src/engine/jobs/job';
import { streamStep, StreamWork } from '../../../src/engine/jobs/stream';
import { Random } from '../../interop/random';
import { MemoryNode } from '../block/memoryNode';
import { HandClock } from './clock';

const CLUSTER = 64 * 1024;
const SIZE = 40 * CLUSTER;

function chain(slow = false) {
  const turns = slow ? new Random(7) : null;
  const base = new MemoryNode('base', { size: SIZE, clusterSize: CLUSTER, slow: turns });
  const top = new MemoryNode('top', { size: SIZE, clusterSize: CLUSTER, backing: base, slow: turns });
  for (let cluster = 0; cluster < 40; cluster += 2) {
    base.bytes.fill(cluster + 1, cluster * CLUSTER, (cluster + 1) * CLUSTER);
    base.allocated[cluster] = 'data';
  }
  top.bytes.fill(99, 4 * CLUSTER, 5 * CLUSTER);
  top.allocated[4] = 'data';
  return { base, top, node: new TrackedNode(top) };
}

class CountingNode extends TrackedNode {
  /** Copied so far. */
  pieces = 0;

  override populate(...piece: Parameters<TrackedNode['populate']>): ReturnType<TrackedNode['populate']> {
    return after(super.populate(...piece), (done) => {
      this.pieces += done.copied > 0 ? 1 : 0;
      return done;
    });
  }
}

describe('a stream step', () => {
  test('driven by a loop does what the job does', async () => {
    const { node, top } = chain();
    const steps = [];
    for (let at = 0; at < SIZE;) {
      const step = await streamStep(node, null, at, 1_000_000);
      steps.push(step.copied);
      at += step.advanced;
    }
    expect(steps.reduce((sum, copied) => sum + copied)).toBe(19 * CLUSTER);
    expect(top.allocated.filter((kind) => kind === 'data')).toHaveLength(20);
    expect(top.bytes[4 * CLUSTER]).toBe(99);
    expect(top.bytes[6 * CLUSTER]).toBe(7);
  });

  test('does not go past the end, nor before it', async () => {
    const { node } = chain();
    expect(await streamStep(node, null, SIZE - 10, 1000)).toEqual({ advanced: 10, copied: 0 });
    await expect(streamStep(node, null, SIZE + 1, 1)).rejects.toMatchObject({ code: 'request.invalid' });
  });
});

describe('a stream job', () => {
  function job(options: Partial<ConstructorParameters<typeof Job>[0]> = {}, slow = false) {
    const world = chain(slow);
    const relinked: string[] = [];
    const relink = () => {
      relinked.push('relinked');
      return Promise.resolve();
    };
    const clock = new HandClock();
    const work = new StreamWork({ node: world.node, base: null, relink });
    return { ...world, relinked, clock, job: new Job({ id: 'job0', type: 'stream', work, clock, ...options }) };
  }

  test('copies all, then changes the backing link', async () => {
    const { job: stream, relinked, top } = job({}, true);
    expect(await stream.start()).toBe('completed');
    expect(relinked).toEqual(['relinked']);
    expect(stream.info).toMatchObject({ currentProgress: SIZE, totalProgress: SIZE });
    expect(top.allocated.filter((kind) => kind !== null)).toHaveLength(20);
  });

  test('keeps the link and what it has copied when it is cancelled', async () => {
    const { job: stream, relinked, top, clock } = job({ speed: 2 * CLUSTER });
    const ended = stream.start();
    await clock.pass(3000);
    stream.cancel();
    expect(await ended).toBe('cancelled');
    expect(relinked).toEqual([]);
    const copied = top.allocated.filter((kind) => kind !== null).length;
    expect(copied).toBeGreaterThan(3);
    expect(copied).toBeLessThan(20);
  });

  test('keeps the link after an error that it was told to ignore', async () => {
    const { job: stream, relinked, top } = job({ onError: 'ignore' });
    top.failWrites = new EngineError('file.io', 'EIO');
    expect(await stream.start()).toBe('failed');
    expect(relinked).toEqual([]);
    expect(stream.info).toMatchObject({ currentProgress: SIZE, error: { code: 'file.io' } });
  });

  test('waits for room and goes on', async () => {
    const { job: stream, relinked, top, clock } = job({ onError: 'enospc' });
    top.failWrites = new EngineError('file.full', 'No space left.');
    const ended = stream.start();
    await clock.pass(10);
    expect(stream.status).toBe('paused');
    top.failWrites = null;
    stream.resume();
    expect(await ended).toBe('completed');
    expect(relinked).toEqual(['relinked']);
  });

  test('lets a guest wait for one piece at most, also when it is started, paused, resumed and cancelled', async () => {
    const { top } = chain();
    const node = new CountingNode(top);
    const activity = new GuestActivity();
    node.observe(activity);
    const work = new StreamWork({ node, base: null, activity, relink: () => Promise.resolve() });
    const stream = new Job({ id: 'job0', type: 'stream', work, activity });
    /** The pieces that the job has copied by the time the guest's next request is answered. */
    const request = async () => {
      const before = node.pieces;
      await new Promise((resolve) => setImmediate(resolve));
      await node.read(0, new Uint8Array(512));
      return node.pieces - before;
    };
    const waits: number[] = [await request()];
    const until = async (enough: () => boolean) => {
      while (!enough()) {
        waits.push(await request());
      }
    };
    const ended = stream.start();
    await until(() => node.pieces > 0);
    stream.pause();
    await until(() => stream.status === 'paused');
    waits.push(await request());
    stream.resume();
    await until(() => node.pieces > 1);
    stream.cancel();
    await until(() => stream.status === 'null');
    expect(await ended).toBe('cancelled');
    expect(Math.max(...waits)).toBe(1);
  });
});
