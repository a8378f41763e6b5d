import { once } from 'node:events';
import { cp, copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { comparedMaps, keepContent, linksOf, makeJobChain, mapOf, requireSound, type ChainLayer } from './jobChains';
import { spawnKept } from './processes';
import { Random, testCases, testSeed } from './random';
import { StorageDaemon, imageNode } from './storageDaemon';
import { CLI, chainscope, makeWithQemuImg, qemuImg, writeWithQemuIo, type Outcome } from './tools';
import { twinFolders, type Twins } from './twins';

/* `stream` beside the block-stream of a qemu-storage-daemon, on the same chains. */

const folders: Twins[] = [];
afterEach(async () => {
  await Promise.all(folders.splice(0).map((folder) => folder.dispose()));
});

async function twins(name: string): Promise<Twins> {
  const made = await twinFolders(name);
  folders.push(made);
  return made;
}

/** What QEMU 7.2 ends with for some chains whose clusters differ in size. */
const QEMU_FAULT = "Assertion `skip_bytes < pnum' failed";

/** block-stream into one image of a chain, with all of it open. False when QEMU itself fell over. */
async function theirStream(folder: string, layers: readonly ChainLayer[], into: number, base: number | null): Promise<boolean> {
  const nodes = layers.map(({ name, format }, index) =>
    imageNode(`n${index}`, format, name, index > 0 ? { backing: `n${index - 1}` } : {}),
  );
  const daemon = await StorageDaemon.start(nodes, folder);
  try {
    await daemon.runJob('block-stream', { device: `n${into}`, ...(base === null ? {} : { 'base-node': `n${base}` }) });
  } catch (error) {
    if (String(error).includes(QEMU_FAULT)) {
      return false;
    }
    throw error;
  }
  await daemon.quit();
  return true;
}

function ourStream(cwd: string, { name, format }: ChainLayer, args: readonly string[] = []): Promise<Outcome> {
  return chainscope(['stream', '-q', '-f', format, ...args, name], { cwd });
}

const succeeded = expect.objectContaining({ code: 0, stderr: '' }) as Outcome;

/** A disk of 16 MiB over a base that has data in each fourth of its 256 clusters. */
async function sparseChain(cwd: string): Promise<void> {
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'base.qcow2', '16M'], { cwd });
  const writes = Array.from({ length: 64 }, (_, index) => `write -P ${index + 1} ${index * 256}k 64k`);
  await writeWithQemuIo(['-f', 'qcow2', 'base.qcow2'], writes, { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd });
}

const TOP: ChainLayer = { name: 'top.qcow2', format: 'qcow2', size: 16 * 1024 * 1024 };

describe('streaming', () => {
  const first = testSeed();
  for (let seed = first; seed < first + testCases(12); seed++) {
    test(`leaves the bytes, links and allocation that QEMU's does (seed ${seed})`, async () => {
      const random = new Random(seed);
      const { theirs, ours } = await twins('stream');
      const depth = random.between(2, 5);
      const [layers] = await Promise.all([theirs, ours].map((folder) => makeJobChain(new Random(seed), folder, depth)));
      const top = layers!.at(-1)!;
      await keepContent(ours, top, 'content');
      const into = random.chance(0.6) ? depth - 1 : random.between(1, depth - 1);
      const base = random.chance(0.5) ? null : random.below(into);
      const comparable = await theirStream(theirs, layers!, into, base);
      const target = layers![into]!;
      expect(await ourStream(ours, target, base === null ? [] : ['--base', layers![base]!.name])).toEqual(succeeded);
      await requireSound(ours, top, 'content');
      expect((await linksOf(ours, top)).length).toBe(depth - into + (base === null ? 0 : base + 1));
      if (!comparable) {
        return;
      }
      expect(await linksOf(ours, top)).toEqual(await linksOf(theirs, top));
      // Past the end of a layer in between QEMU 7.2 lets the base show through, where zeroes were before.
      const end = Math.min(...layers!.slice(base === null ? 0 : base + 1, into).map(({ size }) => size));
      expect(comparedMaps(await mapOf(theirs, target), await mapOf(ours, target), end)).toEqual({ layersDiffer: 0, moreData: 0 });
    });
  }
});

describe('a streamed image', () => {
  test('is made step by step as in one go, but for its backing file', async () => {
    const { theirs, ours } = await twins('steps');
    await sparseChain(theirs);
    await cp(theirs, ours, { recursive: true });
    expect(await ourStream(theirs, TOP)).toEqual(succeeded);
    const offsets: number[] = [];
    for (let offset = 0; offset < TOP.size;) {
      const { stdout } = await chainscope(['stream', '--offset', `${offset}`, '--length', '5M', TOP.name], { cwd: ours });
      offset = Number(stdout);
      offsets.push(offset);
    }
    expect(offsets).toEqual([5, 10, 15, 16].map((mebibytes) => mebibytes * 1024 * 1024));
    expect(await linksOf(ours, TOP)).toMatchObject([{ backing: 'base.qcow2' }, { filename: 'base.qcow2' }]);
    await makeWithQemuImg(['rebase', '-u', '-f', 'qcow2', '-b', '', TOP.name], { cwd: ours });
    expect(await mapOf(ours, TOP)).toEqual(await mapOf(theirs, TOP));
    expect((await qemuImg(['compare', join(ours, TOP.name), join(theirs, TOP.name)])).code).toBe(0);
  });

  test('keeps what lies below its base out, and names the base', async () => {
    const { ours } = await twins('base');
    await sparseChain(ours);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'top.qcow2', '-F', 'qcow2', 'upper.qcow2'], { cwd: ours });
    await writeWithQemuIo(['-f', 'qcow2', 'top.qcow2'], ['write -P 9 1M 100k'], { cwd: ours });
    const upper: ChainLayer = { ...TOP, name: 'upper.qcow2' };
    await keepContent(ours, upper, 'content');
    expect(await ourStream(ours, upper, ['--bottom', 'top.qcow2'])).toEqual(succeeded);
    expect(await linksOf(ours, upper)).toEqual([
      { filename: 'upper.qcow2', format: 'qcow2', backing: 'base.qcow2', backingFormat: 'qcow2' },
      { filename: 'base.qcow2', format: 'qcow2' },
    ]);
    await requireSound(ours, upper, 'content');
  });

  test('keeps links relative that were, so that the chain can be moved', async () => {
    const { ours } = await twins('moved');
    await sparseChain(ours);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'top.qcow2', '-F', 'qcow2', 'upper.qcow2'], { cwd: ours });
    const { code } = await chainscope(['stream', '--base', join(ours, 'base.qcow2'), join(ours, 'upper.qcow2')]);
    expect(code).toBe(0);
    expect(await linksOf(ours, { ...TOP, name: 'upper.qcow2' })).toMatchObject([{ backing: 'base.qcow2' }, {}]);
  });

  test('tells in JSON how it went', async () => {
    const { ours } = await twins('json');
    await sparseChain(ours);
    const step = await chainscope(['stream', '--offset', '1M', '--length', '1M', '--output=json', TOP.name], { cwd: ours });
    expect(JSON.parse(step.stdout)).toEqual({ 'next-offset': 2 << 20, copied: 4 << 16, size: TOP.size });
    const whole = await chainscope(['stream', '--output=json', TOP.name], { cwd: ours });
    expect(JSON.parse(whole.stdout)).toMatchObject({ type: 'stream', outcome: 'completed', 'current-progress': TOP.size });
  });

  test('is refused for a base that it is not built on, and while QEMU writes it', async () => {
    const { ours } = await twins('refused');
    await sparseChain(ours);
    await copyFile(join(ours, 'base.qcow2'), join(ours, 'other.qcow2'));
    expect(await ourStream(ours, TOP, ['--base', 'other.qcow2'])).toMatchObject({
      code: 1,
      stderr: "qemu-img: Did not find 'other.qcow2' in the backing chain of 'top.qcow2'\n",
    });
    const daemon = await StorageDaemon.start([imageNode('n', 'qcow2', TOP.name)], ours);
    const refused = await ourStream(ours, TOP);
    await daemon.quit();
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('lock') as string });
  });
});

describe('a stream that is stopped', () => {
  /** Starts a slow stream and ends it with a signal when it has copied something. */
  async function stopped(cwd: string, signal: NodeJS.Signals): Promise<number | null> {
    // Half a minute's work, lest it should be done before this process comes to end it.
    const args = [CLI, 'stream', '-p', '--speed', '128K', TOP.name];
    const child = spawnKept(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = once(child, 'exit');
    let shown = '';
    for await (const chunk of child.stdout) {
      shown += String(chunk);
      if ((shown.match(/100%/g)?.length ?? 0) > 2) {
        child.kill(signal);
        break;
      }
    }
    const [code] = (await ended) as [number | null];
    return code;
  }

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGKILL', null],
  ] as const) {
    test(`by ${signal} leaves a sound image with its backing file, and goes on from there`, async () => {
      const { ours } = await twins('stopped');
      await sparseChain(ours);
      await keepContent(ours, TOP, 'content');
      expect(await stopped(ours, signal)).toBe(code);
      await requireSound(ours, TOP, 'content');
      const there = (await mapOf(ours, TOP)).filter(({ depth, data }) => depth === 0 && data).length;
      if (signal !== 'SIGKILL') {
        // One that was cancelled has put on the disk what it had copied; one that was killed need not have.
        expect(there).toBeGreaterThan(0);
      }
      expect(there).toBeLessThan(64);
      expect(await linksOf(ours, TOP)).toMatchObject([{ backing: 'base.qcow2' }, {}]);
      expect(await ourStream(ours, TOP)).toEqual(succeeded);
      await requireSound(ours, TOP, 'content');
      expect(await linksOf(ours, TOP)).toHaveLength(1);
    });
  }
});
