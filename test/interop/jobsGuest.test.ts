import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import type { OpenedImage } from '../../src/engine/block/graph/openedImage';
import { NbdServer } from '../../src/engine/exports/nbdServer';
import { followGate } from '../../src/engine/gate/policies';
import type { Job } from '../../src/engine/jobs/job';
import { JobManager, type ManagedJob } from '../../src/engine/jobs/jobManager';
import { mayBeTold } from '../../src/engine/jobs/states';
import type { JobRequest, JobSettings } from '../../src/protocol/jobs';
import { keepContent, linksOf, makeJobChain, mapOf, requireSound, type ChainLayer } from './jobChains';
import { Random, testCases, testSeed } from './random';
import { ShadowGuest } from './shadowGuest';
import { makeWithQemuImg, temporaryFolder } from './tools';

/* Jobs on the disk of a guest that goes on reading and writing through an NBD export of the same process. */

const remains: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const remove of remains.splice(0).reverse()) {
    await remove();
  }
});

interface Machine {
  readonly folder: string;
  readonly layers: readonly ChainLayer[];
  readonly image: OpenedImage;
  readonly guest: ShadowGuest;
  readonly jobs: JobManager;
  readonly graph: BlockGraph;
  readonly path: (depth: number) => string;
  /** Ends the guest and what serves it; the shadow is compared with what is in the files then. @returns the guest's requests */
  end(top?: ChainLayer): Promise<number>;
}

/** A chain with its active layer served, and a guest on it. */
async function machine(random: Random, depth: number, growing = false): Promise<Machine> {
  const folder = await temporaryFolder('jobs');
  remains.push(() => folder.dispose());
  const layers = await makeJobChain(random, folder.path, depth, growing);
  const top = layers.at(-1)!;
  await keepContent(folder.path, top, 'content');
  const shadow = await readFile(join(folder.path, 'content'));
  const gate = followGate('all');
  const graph = new BlockGraph({ gate });
  const path = (index: number) => join(folder.path, layers[index]!.name);
  const image = await graph.open(path(depth - 1), { format: top.format, readOnly: false, user: 'an NBD export' });
  const socket = join(folder.path, 'socket');
  const server = await NbdServer.listen({
    exports: [{ name: '', description: '', node: image.node, readOnly: false, allocationDepth: true, bitmaps: [], discard: 'unmap' }],
    address: { kind: 'unix', path: socket },
  });
  const guest = await ShadowGuest.connect(socket, 4, shadow, random.bits());
  let isOver = false;
  remains.push(async () => {
    // A test that has failed leaves its guest at work.
    if (!isOver) {
      await guest.stop().catch(() => 0);
      await server.close();
    }
  });
  guest.start();
  return {
    folder: folder.path,
    layers,
    image,
    guest,
    path,
    graph,
    jobs: new JobManager({ graph: () => graph, gate }),
    end: async (active = top) => {
      const requests = await guest.stop();
      await server.close();
      isOver = true;
      await image.close();
      await writeFile(join(folder.path, 'content'), shadow);
      await requireSound(folder.path, active, 'content');
      return requests;
    },
  };
}

function streamInto({ layers, path }: Machine, into: number, base: number | null): JobRequest {
  return {
    type: 'stream',
    image: { path: path(into), format: layers[into]!.format },
    base: base === null ? null : path(base),
    bottom: null,
    range: null,
  };
}

/** Ends when a job has done that much, or has ended: at the first turn, before it does more. */
async function progressed({ job }: ManagedJob, bytes: number): Promise<void> {
  while (job.info.currentProgress < bytes && job.info.outcome === null) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Ends when a job is as it should be; when it has ended, too. */
function until({ job }: ManagedJob, is: (info: Job['info']) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (info: Job['info']) => {
      if (is(info) || info.outcome !== null) {
        stop();
        resolve();
      }
    };
    const stop = job.onDidChange(look);
    look(job.info);
  });
}

/** The guest goes on a while. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 5);
  });
}

/** Twice the disk in a second, so that the guest meets the job everywhere. */
function slowly({ layers }: Machine): Partial<JobSettings> {
  return { speed: layers.at(-1)!.size * 2 };
}

describe('a stream beside its guest', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(5); seed++) {
    test(`loses nothing that the guest writes (seed ${seed})`, async () => {
      const random = new Random(seed);
      const depth = random.between(2, 4);
      const world = await machine(random, depth);
      const into = random.chance(0.6) ? depth - 1 : random.between(1, depth - 1);
      const base = random.chance(0.6) ? null : random.below(into);
      const streaming = await world.jobs.start(streamInto(world, into, base), slowly(world));
      if (random.chance(0.5)) {
        await progressed(streaming, world.layers[into]!.size / 4);
        if (streaming.job.status === 'running') {
          streaming.job.pause();
          await turn();
          if (mayBeTold(streaming.job.status, 'resume')) {
            streaming.job.resume();
          }
        }
      }
      expect(await streaming.ended).toMatchObject({ outcome: 'completed', error: null });
      expect(world.image.chain()).toHaveLength(depth - into + (base === null ? 0 : base + 1));
      expect(await world.end()).toBeGreaterThan(0);
      expect(await linksOf(world.folder, world.layers.at(-1)!)).toHaveLength(depth - into + (base === null ? 0 : base + 1));
    });
  }

  test('that is cancelled keeps the backing file and what it has copied', async () => {
    const world = await machine(new Random(1), 3);
    const streaming = await world.jobs.start(streamInto(world, 2, null), slowly(world));
    await progressed(streaming, world.layers[2]!.size / 3);
    streaming.job.cancel();
    expect(await streaming.ended).toMatchObject({ outcome: 'cancelled', error: null });
    expect(world.image.chain()).toHaveLength(3);
    await world.end();
    expect(await linksOf(world.folder, world.layers[2]!)).toHaveLength(3);
  });

  test('of two that would change one link refuses the later one', async () => {
    const world = await machine(new Random(2), 4);
    const streaming = await world.jobs.start(streamInto(world, 3, 1), slowly(world));
    streaming.job.pause();
    await expect(world.jobs.start(streamInto(world, 2, 0))).rejects.toMatchObject({ code: 'file.locked' });
    const below = await world.jobs.start(streamInto(world, 1, null));
    expect(await below.ended).toMatchObject({ outcome: 'completed' });
    streaming.job.resume();
    expect(await streaming.ended).toMatchObject({ outcome: 'completed' });
    expect(world.image.chain()).toHaveLength(2);
    await world.end();
  });

  test('waits for a busy guest when it is paced by idleness', async () => {
    const world = await machine(new Random(3), 2);
    const idleFor = (graceMs: number) => ({ pace: { kind: 'idle', graceMs, systemPressure: null } as const });
    const waiting = await world.jobs.start(streamInto(world, 1, null), idleFor(3_600_000));
    await until(waiting, ({ hold }) => hold === 'idle');
    await turn();
    expect(waiting.job.info).toMatchObject({ hold: 'idle', currentProgress: 0 });
    waiting.job.cancel();
    expect(await waiting.ended).toMatchObject({ outcome: 'cancelled' });
    const streaming = await world.jobs.start(streamInto(world, 1, null), idleFor(50));
    await world.guest.pause();
    expect(await streaming.ended).toMatchObject({ outcome: 'completed' });
    expect(world.image.chain()).toHaveLength(1);
    await world.end();
  });
});

/** Completes a job that is ready, when the guest has gone on a while with both alike. */
async function completed(managed: ManagedJob): Promise<void> {
  const { job, ended } = managed;
  await until(managed, ({ status }) => status === 'ready');
  await turn();
  await turn();
  job.complete();
  expect(await ended).toMatchObject({ outcome: 'completed', error: null });
}

describe('a commit beside its guest', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(3); seed++) {
    test(`of images between puts the overlay on the base (seed ${seed})`, async () => {
      const random = new Random(seed);
      const depth = random.between(3, 5);
      const world = await machine(random, depth);
      const base = random.below(depth - 2);
      const top = random.between(base + 1, depth - 2);
      const commit = await world.jobs.start(
        { type: 'commit', image: imageOf(world), top: world.path(top), base: world.path(base) },
        slowly(world),
      );
      expect(await commit.ended).toMatchObject({ outcome: 'completed', error: null });
      expect(world.image.chain()).toHaveLength(depth - (top - base));
      await world.end();
      expect(await linksOf(world.folder, world.layers.at(-1)!)).toHaveLength(depth - (top - base));
    });

    test(`of the active layer lets the guest go on in the base (seed ${seed})`, async () => {
      const random = new Random(seed);
      const depth = random.between(2, 4);
      const world = await machine(random, depth, true);
      const base = random.below(depth - 1);
      const commit = await world.jobs.start({ type: 'commit', image: imageOf(world), top: null, base: world.path(base) }, slowly(world));
      await completed(commit);
      expect(world.image.chain()).toHaveLength(base + 1);
      await turn();
      const grown = { ...world.layers[base]!, size: world.layers.at(-1)!.size };
      await world.end(grown);
    });
  }

  test('is refused where a change would show to another user', async () => {
    const world = await machine(new Random(4), 3);
    const other = await world.graph.open(world.path(1), { format: null, readOnly: true, user: 'another export' });
    const commit = () => world.jobs.start({ type: 'commit', image: imageOf(world), top: world.path(1), base: world.path(0) });
    const deep = () => world.jobs.start({ type: 'commit', image: imageOf(world), top: null, base: world.path(0) });
    await expect(deep()).rejects.toMatchObject({ code: 'file.locked' });
    await other.close();
    expect(await (await commit()).ended).toMatchObject({ outcome: 'completed' });
    await world.end();
  });
});

describe('a mirror beside its guest', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(3); seed++) {
    test(`lets the guest go on in the copy (seed ${seed})`, async () => {
      const random = new Random(seed);
      const depth = random.between(1, 3);
      const world = await machine(random, depth);
      const sync = random.chance(0.5) ? 'full' : 'top';
      const targetFormat = random.chance(0.3) ? 'qed' : sync === 'full' && random.chance(0.4) ? 'raw' : 'qcow2';
      const target = join(world.folder, 'copy');
      const mirror = await world.jobs.start(
        { type: 'mirror', image: imageOf(world), target, targetFormat, options: {}, sync },
        slowly(world),
      );
      await completed(mirror);
      await turn();
      await world.end({ name: 'copy', format: targetFormat, size: world.layers.at(-1)!.size });
    });
  }

  test('that is cancelled leaves nothing behind, and the guest where it was', async () => {
    const world = await machine(new Random(5), 2);
    const target = join(world.folder, 'copy');
    const mirror = await world.jobs.start(
      { type: 'mirror', image: imageOf(world), target, targetFormat: 'qcow2', options: {}, sync: 'full' },
      slowly(world),
    );
    mirror.job.cancel();
    expect(await mirror.ended).toMatchObject({ outcome: 'cancelled' });
    expect(existsSync(target)).toBe(false);
    await world.end();
  });
});

describe('a mirror over an image that is there already', () => {
  test('replaces what an earlier one has left', async () => {
    const world = await machine(new Random(10), 2);
    const target = join(world.folder, 'copy');
    const request: JobRequest = { type: 'mirror', image: imageOf(world), target, targetFormat: 'qcow2', options: {}, sync: 'full' };
    const cancelled = await world.jobs.start(request);
    await until(cancelled, ({ status }) => status === 'ready');
    cancelled.job.cancel();
    expect(await cancelled.ended).toMatchObject({ outcome: 'cancelled' });
    expect(existsSync(target)).toBe(true);
    await completed(await world.jobs.start(request, slowly(world)));
    await world.end({ name: 'copy', format: 'qcow2', size: world.layers[1]!.size });
  });

  test('is refused where that is an image of the chain, under whatever name', async () => {
    const world = await machine(new Random(11), 2);
    await symlink(world.path(0), join(world.folder, 'link'));
    for (const target of [world.path(0), world.path(1), join(world.folder, 'link')]) {
      const request: JobRequest = { type: 'mirror', image: imageOf(world), target, targetFormat: 'qcow2', options: {}, sync: 'full' };
      await expect(world.jobs.start(request)).rejects.toMatchObject({ code: 'request.invalid' });
    }
    await world.end();
  });
});

describe('a rebase beside its guest', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(5); seed++) {
    test(`keeps what the guest reads, onto whatever image (seed ${seed})`, async () => {
      const random = new Random(seed);
      const depth = random.between(1, 4);
      const kind = random.pick(['other', 'other', 'below', 'none'] as const);
      const world = await machine(random, depth);
      const into = random.between(Math.min(1, depth - 1), depth - 1);
      const format = world.layers[into]!.format;
      await mkdir(join(world.folder, 'other'));
      const others = await makeJobChain(random, join(world.folder, 'other'), random.between(1, 2));
      const other = others.at(-1)!;
      const base = random.below(into + 1) - 1;
      const backing =
        kind === 'other'
          ? { name: join('other', other.name), format: other.format }
          : kind === 'none' || base < 0
            ? null
            : { name: world.path(base), format: world.layers[base]!.format };
      const request = { type: 'rebase', image: { path: world.path(into), format }, backing } as const;
      if (format === 'raw') {
        await expect(world.jobs.start(request)).rejects.toMatchObject({ code: 'request.unsupported' });
        await world.end();
        return;
      }
      const preview = await world.jobs.preview(request);
      const rebasing = await world.jobs.start(request, slowly(world));
      expect(await rebasing.ended).toMatchObject({ outcome: 'completed', error: null });
      const below = backing === null ? 0 : kind === 'other' ? others.length : base + 1;
      expect(world.image.chain()).toHaveLength(depth - into + below);
      expect(preview.relinked).toEqual([{ path: world.path(into), backing: below === 0 ? null : world.image.chain()[depth - into]!.path }]);
      await turn();
      expect(await world.end()).toBeGreaterThan(0);
      expect(await linksOf(world.folder, world.layers.at(-1)!)).toHaveLength(depth - into + below);
    });
  }

  test('is refused onto an image that is built on it', async () => {
    const world = await machine(new Random(8), 3);
    const [over, { format }] = [join(world.folder, 'over.qcow2'), world.layers[1]!];
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', world.path(1), '-F', format, over]);
    const request = { type: 'rebase', image: { path: world.path(1), format }, backing: { name: over, format: 'qcow2' } } as const;
    await expect(world.jobs.start(request)).rejects.toMatchObject({ code: 'request.invalid' });
    await world.end();
  });

  test('keeps others from changing what the image will be built on', async () => {
    const world = await machine(new Random(9), 2);
    const other = join(world.folder, 'other.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', other, '8M']);
    const request = { type: 'rebase', image: imageOf(world), backing: { name: other, format: 'qcow2' } } as const;
    const writer = await world.graph.open(other, { format: 'qcow2', readOnly: false, user: 'another export' });
    await expect(world.jobs.start(request)).rejects.toMatchObject({ code: 'file.locked' });
    await writer.close();
    const rebasing = await world.jobs.start(request, slowly(world));
    rebasing.job.pause();
    await expect(world.graph.open(other, { format: 'qcow2', readOnly: false, user: 'another export' })).rejects.toMatchObject({
      code: 'file.locked',
    });
    rebasing.job.resume();
    expect(await rebasing.ended).toMatchObject({ outcome: 'completed' });
    await world.end();
  });
});

describe('an allocation beside its guest', () => {
  test('leaves nothing unallocated, and what the guest wrote', async () => {
    const world = await machine(new Random(7), 2);
    const request = { type: 'allocate', image: imageOf(world), range: null, mode: 'zero' } as const;
    const allocating = await world.jobs.start(request, slowly(world));
    expect(await allocating.ended).toMatchObject({ outcome: 'completed', error: null });
    await world.end();
    expect((await mapOf(world.folder, world.layers[1]!)).filter(({ depth }) => depth !== 0)).toEqual([]);
  });
});

describe('a trim beside its guest', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(2); seed++) {
    test(`takes no write of the guest's back (seed ${seed})`, async () => {
      const world = await machine(new Random(seed), 2);
      const trimming = await world.jobs.start({ type: 'trim', image: imageOf(world), range: null }, slowly(world));
      expect(await trimming.ended).toMatchObject({ outcome: 'completed', error: null });
      await world.end();
    });
  }
});

function imageOf({ layers, path }: Machine): JobRequest['image'] {
  return { path: path(layers.length - 1), format: layers.at(-1)!.format };
}
