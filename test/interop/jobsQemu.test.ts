import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { followGate } from '../../src/engine/gate/policies';
import { JobManager } from '../../src/engine/jobs/jobManager';
import type { JobRequest } from '../../src/protocol/jobs';
import { comparedMaps, keepContent, linksOf, makeJobChain, mapOf, requireSound, type ChainLayer } from './jobChains';
import { Random, testCases, testSeed } from './random';
import { imageNode, StorageDaemon } from './storageDaemon';
import { chainscope, makeWithQemuImg, writeWithQemuIo } from './tools';
import { twinFolders, type Twins } from './twins';

/* Commits and mirrors beside those of a qemu-storage-daemon, on the same chains. */

const folders: Twins[] = [];
afterEach(async () => {
  await Promise.all(folders.splice(0).map((folder) => folder.dispose()));
});

interface Case extends Twins {
  readonly layers: readonly ChainLayer[];
  readonly top: ChainLayer;
}

/** The same chain in both folders, and what its guest reads in our one. */
async function chains(seed: number, depth: number, growing = false): Promise<Case> {
  const made = await twinFolders('jobs');
  folders.push(made);
  const [layers] = await Promise.all([made.theirs, made.ours].map((folder) => makeJobChain(new Random(seed), folder, depth, growing)));
  const top = layers!.at(-1)!;
  await keepContent(made.ours, top, 'content');
  return { ...made, layers: layers!, top };
}

async function theirs({ theirs: folder, layers }: Case, command: string, args: object, isReady: boolean, more: readonly object[] = []) {
  const nodes = layers.map(({ name, format }, index) =>
    imageNode(`n${index}`, format, name, index > 0 ? { backing: `n${index - 1}` } : {}),
  );
  const daemon = await StorageDaemon.start([...nodes, ...more], folder);
  await daemon.runJob(command, { device: `n${layers.length - 1}`, ...args }, isReady);
  await daemon.quit();
}

async function ours({ ours: currentFolder, top }: Case, request: (image: JobRequest['image']) => JobRequest): Promise<void> {
  const gate = followGate('all');
  const graph = new BlockGraph({ gate, currentFolder });
  const jobs = new JobManager({ graph: () => graph, gate, currentFolder });
  const { job, ended } = await jobs.start(request({ path: join(currentFolder, top.name), format: top.format }));
  job.onDidChange(({ status }) => {
    if (status === 'ready') {
      job.complete();
    }
  });
  expect(await ended).toMatchObject({ outcome: 'completed', error: null });
}

const SAME = { layersDiffer: 0, moreData: 0 };
const first = testSeed();
const seeds = Array.from({ length: testCases(5) }, (_, index) => first + index);

describe('a commit', () => {
  test.each(seeds)('of images between leaves the bytes, links and allocation that QEMU does (seed %i)', async (seed) => {
    const random = new Random(seed);
    const depth = random.between(3, 5);
    const world = await chains(seed, depth);
    const base = random.below(depth - 2);
    const top = random.between(base + 1, depth - 2);
    await theirs(world, 'block-commit', { 'top-node': `n${top}`, 'base-node': `n${base}` }, false);
    const path = (index: number) => join(world.ours, world.layers[index]!.name);
    await ours(world, (image) => ({ type: 'commit', image, top: path(top), base: path(base) }));
    await requireSound(world.ours, world.top, 'content');
    if (world.layers[base]!.size > world.layers[top]!.size) {
      // QEMU lets what the base has past the end of the committed image show through.
      return;
    }
    const names = async (folder: string) =>
      (await linksOf(folder, world.top)).map((link) => JSON.stringify(link).replaceAll(`${folder}/`, ''));
    expect(await names(world.ours)).toEqual(await names(world.theirs));
    expect(comparedMaps(await mapOf(world.theirs, world.layers[base]!), await mapOf(world.ours, world.layers[base]!))).toEqual(SAME);
  });

  test.each(seeds)('of the active layer leaves the base as QEMU does (seed %i)', async (seed) => {
    const random = new Random(seed);
    const depth = random.between(2, 4);
    const world = await chains(seed, depth, true);
    const base = random.below(depth - 1);
    await theirs(world, 'block-commit', { 'base-node': `n${base}` }, true);
    await ours(world, (image) => ({ type: 'commit', image, top: null, base: join(world.ours, world.layers[base]!.name) }));
    const target = world.layers[base]!;
    await requireSound(world.ours, target, 'content');
    expect(await linksOf(world.ours, target)).toEqual(await linksOf(world.theirs, target));
    expect(comparedMaps(await mapOf(world.theirs, target), await mapOf(world.ours, target))).toEqual(SAME);
  });
});

test('a commit of the active layer into a longer base leaves what that has past its end, as QEMU does', async () => {
  const made = await twinFolders('jobs');
  folders.push(made);
  const layers: readonly ChainLayer[] = [
    { name: 'base.qcow2', format: 'qcow2', size: 8 * 2 ** 20 },
    { name: 'top.qcow2', format: 'qcow2', size: 6 * 2 ** 20 },
  ];
  await made.both(async (cwd) => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'base.qcow2', '8M'], { cwd });
    await writeWithQemuIo(['-f', 'qcow2', 'base.qcow2'], ['write -P 1 0 8M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2', '6M'], { cwd });
    await writeWithQemuIo(['-f', 'qcow2', 'top.qcow2'], ['write -P 2 1M 1M', 'write -P 3 6143k 1k'], { cwd });
  });
  const world: Case = { ...made, layers, top: layers[1]! };
  await theirs(world, 'block-commit', { 'base-node': 'n0' }, true);
  await ours(world, (image) => ({ type: 'commit', image, top: null, base: null }));
  await keepContent(made.theirs, layers[0]!, 'content');
  await requireSound(made.path, { ...layers[0]!, name: 'ours/base.qcow2' }, 'theirs/content');
  expect(await mapOf(made.ours, layers[0]!)).toEqual(await mapOf(made.theirs, layers[0]!));
});

describe('a mirror', () => {
  test.each(seeds)('copies what QEMU copies (seed %i)', async (seed) => {
    const random = new Random(seed);
    const world = await chains(seed, random.between(1, 4));
    const copy: ChainLayer = { name: 'copy', format: 'qcow2', size: world.top.size };
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'copy', `${copy.size}`], { cwd: world.theirs });
    await theirs(world, 'blockdev-mirror', { target: 'copy', sync: 'full' }, true, [imageNode('copy', 'qcow2', 'copy')]);
    const { code, stderr } = await chainscope(['mirror', '-q', '-f', world.top.format, world.top.name, 'copy'], { cwd: world.ours });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    await requireSound(world.ours, copy, 'content');
    expect(comparedMaps(await mapOf(world.theirs, copy), await mapOf(world.ours, copy))).toEqual(SAME);
  });
});

describe('a rebase', () => {
  test.each(seeds)('leaves the bytes, links and allocation that qemu-img rebase does (seed %i)', async (seed) => {
    const random = new Random(seed);
    const world = await chains(seed, random.between(2, 4));
    const other: ChainLayer = { name: 'other.qcow2', format: 'qcow2', size: world.top.size };
    const all = random.chance(0.5);
    const writes = [`write -P 5 0 ${world.top.size / 2}`, `write -P 1 ${world.top.size / 4} 65536`];
    await world.both(async (cwd) => {
      // What the chain has already, and something else over it.
      await makeWithQemuImg(['convert', '-f', world.top.format, '-O', 'qcow2', world.top.name, other.name], { cwd });
      await writeWithQemuIo(['-f', 'qcow2', other.name], all ? writes : writes.slice(1), { cwd });
    });
    const backing = random.chance(0.7) ? other : world.layers[0]!;
    await makeWithQemuImg(['rebase', '-f', world.top.format, '-b', backing.name, '-F', backing.format, world.top.name], {
      cwd: world.theirs,
    });
    await ours(world, (image) => ({ type: 'rebase', image, backing: { name: backing.name, format: backing.format } }));
    await requireSound(world.ours, world.top, 'content');
    expect(await linksOf(world.ours, world.top)).toEqual(await linksOf(world.theirs, world.top));
    expect(comparedMaps(await mapOf(world.theirs, world.top), await mapOf(world.ours, world.top))).toEqual(SAME);
  });
});
