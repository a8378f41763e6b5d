import * as fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import type { BlockGraphOptions, OpenedImage } from '../../src/engine/block/graph/openedImage';
import { Election } from '../../src/engine/cache/election';
import { followGate } from '../../src/engine/gate/policies';
import { FileSource } from '../../src/engine/io/file';
import { nativeCalls } from '../../src/engine/io/native';
import { serveNoise, type CountedBase } from './countedBase';
import { chainscopeNbd } from './nbdServers';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* Who warms a cache image of several who use it. Locks are those of open files, so each graph here is to the others as another process. */

const MIB = 2 ** 20;
const SIZE = 4 * MIB;

const ended: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

let base: CountedBase;
let at: (name: string) => string;
let content: Buffer;
beforeEach(async () => {
  const folder = await temporaryFolder('cache-sharing');
  ended.push(() => folder.dispose());
  at = (name) => join(folder.path, name);
  base = await serveNoise(folder.path, SIZE);
  ended.push(() => base.stop());
  content = await readFile(at('base.raw'));
  await makeCache(base.uri);
  for (const overlay of ['one.qcow2', 'two.qcow2', 'three.qcow2']) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', at('cache.qcow2'), '-F', 'qcow2', at(overlay)]);
  }
});

/** A cache image on a base, without what it held before. */
async function makeCache(below: string): Promise<void> {
  const options = `cache_img_quota=${100 * MIB},cluster_size=4096,backing_file=${below},backing_fmt=raw`;
  expect(await chainscope(['create', '-q', '-f', 'qcow2', '-o', options, at('cache.qcow2')])).toMatchObject({ code: 0 });
}

function graph(options: Partial<BlockGraphOptions> = {}): BlockGraph {
  return new BlockGraph({ gate: followGate('all'), candidacyMs: 5, ...options });
}

async function open(images: BlockGraph, overlay: string): Promise<OpenedImage> {
  const image = await images.open(at(overlay), { format: 'qcow2', readOnly: false, user: 'a guest', warmCaches: true });
  ended.push(() => image.close());
  return image;
}

function stateOf(image: OpenedImage): string | undefined {
  return image.chain()[1]?.cache?.state;
}

async function requireRead({ node }: OpenedImage, offset = 0, length = SIZE): Promise<void> {
  const bytes = Buffer.alloc(length);
  await node.read(offset, bytes);
  expect(content.subarray(offset, offset + length).equals(bytes)).toBe(true);
}

/** @throws by the test's time limit */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('a cache image of several', () => {
  test('is one warming node for all guests of an engine', async () => {
    const images = graph();
    const [one, two] = [await open(images, 'one.qcow2'), await open(images, 'two.qcow2')];
    expect(two.chain()[1]!.node).toBe(one.chain()[1]!.node);
    const before = (await base.reads()).length;
    await Promise.all([requireRead(one, 0, SIZE / 2), requireRead(two, 0, SIZE / 2)]);
    await one.close();
    expect(stateOf(two)).toBe('warming');
    await requireRead(two);
    const reads = (await base.reads()).slice(before);
    const blocks = reads.flatMap(({ offset, length }) => Array.from({ length: length / 4096 }, (_, index) => offset + index * 4096));
    expect(blocks.length).toBe(new Set(blocks).size);
    expect(blocks.length).toBeLessThanOrEqual(SIZE / 4096);
  });

  for (let round = 0; round < testCases(2); round++) {
    test(`has one who warms it of those who come at the same moment (${round})`, async () => {
      const opened = await Promise.all(['one.qcow2', 'two.qcow2', 'three.qcow2'].map((overlay) => open(graph(), overlay)));
      expect(opened.map(stateOf).sort()).toEqual(['reading', 'reading', 'warming']);
      await Promise.all(opened.map((image) => requireRead(image)));
    });
  }

  test('is opened by one after the other where it is to be warmed', async () => {
    const file = FileSource.open(at('cache.qcow2'));
    const election = await Election.begin(file);
    file.close();
    const order: string[] = [];
    const opening = open(graph(), 'one.qcow2').then(() => order.push('to warm it'));
    // Began later, and waits for nobody.
    const reader = await graph().open(at('two.qcow2'), { format: 'qcow2', readOnly: true, user: 'a reader' });
    await reader.close();
    order.push('to read it');
    election?.end();
    await opening;
    expect(order).toEqual(['to read it', 'to warm it']);
  });

  test('is warmed by who is left when the others have gone', async () => {
    const [one, two, three] = [await open(graph(), 'one.qcow2'), await open(graph(), 'two.qcow2'), await open(graph(), 'three.qcow2')];
    await requireRead(one, 0, MIB);
    await requireRead(two, 0, MIB);
    await one.close();
    await three.close();
    await until(() => stateOf(two) === 'warming');
    const before = await base.bytesRead();
    await requireRead(two);
    await requireRead(two);
    const read = (await base.bytesRead()) - before;
    // The first MiB is there, and what is read is read once.
    expect(read).toBeLessThanOrEqual(SIZE - MIB);
    await two.close();
    expect(await qemuImg(['check', at('cache.qcow2')])).toMatchObject({ code: 0 });
  });

  test('is changed by a job only where nobody reads it in another process', async () => {
    const images = graph();
    const one = await open(images, 'one.qcow2');
    const two = await open(graph({ candidacyMs: 2 ** 30 }), 'two.qcow2');
    await requireRead(one, 0, MIB);
    const filling = { format: 'qcow2', readOnly: false, unchanged: true, user: 'a job' } as const;
    await expect(images.open(at('cache.qcow2'), filling)).rejects.toMatchObject({ code: 'file.locked' });
    expect(stateOf(one)).toBe('warming');
    await requireRead(two, 0, MIB);
    await two.close();
    const job = await images.open(at('cache.qcow2'), filling);
    expect(stateOf(one)).toBe('reading');
    await requireRead(one);
    await job.close();
    await requireRead(one);
    await one.close();
    expect(await qemuImg(['check', at('cache.qcow2')])).toMatchObject({ code: 0 });
  });

  test('shows its readers no torn metadata when who warms it is killed', async () => {
    const random = new Random(testSeed());
    for (let round = 0; round < 3; round++) {
      await makeCache(at('base.raw'));
      const warmer = await chainscopeNbd(at('.'), ['-f', 'qcow2', at('one.qcow2')]);
      const two = await open(graph({ candidacyMs: 2 ** 30 }), 'two.qcow2');
      expect(stateOf(two)).toBe('reading');
      const warming = runTool('nbdcopy', [warmer.uri, at('copy')]);
      const last = random.between(1, 60);
      const reading = (async () => {
        for (let reads = 0; reads < 150; reads++) {
          await requireRead(two, 4096 * random.below(SIZE / 4096), 4096);
          if (reads === last) {
            await warmer.stop('SIGKILL');
          }
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
      await Promise.all([reading, warming]);
      await requireRead(two);
      await two.close();
      // Clusters may be counted for nobody (3), nothing worse.
      const checked = await qemuImg(['check', at('cache.qcow2')]);
      expect([0, 3], checked.stderr).toContain(checked.code);
    }
  });

  test('is left alone where a reader keeps its bytes for itself, and the guest reads all the same', async () => {
    const told: string[] = [];
    const one = await open(graph({ onCacheProblem: (filename) => told.push(filename) }), 'one.qcow2');
    const holder = FileSource.open(at('cache.qcow2'));
    ended.push(async () => {
      holder.close();
      await Promise.resolve();
    });
    // A shared lock on every byte, as of a reader that was stopped while it read.
    const everything = { l_type: 0, l_whence: 0, l_start: 2 ** 52, l_len: 2 ** 40, l_pid: 0 };
    expect(nativeCalls()!.lock!(holder.fd, 37, everything)).toBe(0);
    await requireRead(one);
    expect(stateOf(one)).toBe('failed');
    expect(told).toEqual([at('cache.qcow2')]);
    await requireRead(one);
    expect(fs.statSync(at('cache.qcow2')).size).toBeLessThan(MIB);
  });
});
