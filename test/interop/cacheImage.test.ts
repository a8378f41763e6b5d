import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { serveNoise, type CountedBase } from './countedBase';
import { chainscopeNbd, type RunningServer } from './nbdServers';
import { Random, testCases, testSeed } from './random';
import { mountSmall } from './smallMount';
import { chainscope, makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* Cache images between a base on a server that counts its reads and the overlays of several guests. */

const MIB = 2 ** 20;
const SIZE = 8 * MIB;

const ended: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

interface World {
  readonly folder: string;
  readonly base: CountedBase;
  readonly cache: string;
  readonly at: (name: string) => string;
}

/** A base with noise and zeroes, a cache on it, and two overlays on that. */
async function world(options: {
  readonly quota: number;
  readonly cluster?: number;
  readonly cacheFolder?: string;
  readonly local?: boolean;
}): Promise<World> {
  const { quota, cluster = 65536, cacheFolder, local = false } = options;
  const folder = await temporaryFolder('cache');
  ended.push(() => folder.dispose());
  const at = (name: string) => join(folder.path, name);
  const base = await serveNoise(folder.path, SIZE);
  ended.push(() => base.stop());
  const cache = join(cacheFolder ?? folder.path, 'cache.qcow2');
  const created = await chainscope([
    ...['create', '-q', '-f', 'qcow2', '-o'],
    `cache_img_quota=${quota},cluster_size=${cluster},backing_file=${local ? at('base.raw') : base.uri},backing_fmt=raw`,
    cache,
  ]);
  expect(created).toMatchObject({ code: 0, stderr: '' });
  for (const overlay of ['one.qcow2', 'two.qcow2']) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', cache, '-F', 'qcow2', at(overlay)]);
  }
  return { folder: folder.path, base, cache, at };
}

async function serve({ folder, at }: World, overlay: string): Promise<RunningServer> {
  const server = await chainscopeNbd(folder, ['-f', 'qcow2', at(overlay)]);
  ended.push(() => server.stop());
  return server;
}

/** What a client sees of a disk is what the base holds. */
async function requireReads({ at }: World, server: RunningServer): Promise<void> {
  const copy = `${server.socket}.copy`;
  expect(await runTool('nbdcopy', ['--connections=2', server.uri, copy])).toMatchObject({ code: 0, stderr: '' });
  expect(await runTool('cmp', [copy, at('base.raw')])).toMatchObject({ code: 0, stdout: '' });
}

async function requireSound({ cache, at }: World): Promise<void> {
  expect(await qemuImg(['check', cache])).toMatchObject({ code: 0 });
  for (const overlay of ['one.qcow2', 'two.qcow2']) {
    expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', at(overlay), at('base.raw')])).toMatchObject({ code: 0 });
  }
}

async function readFromBase(base: CountedBase, work: () => Promise<void>): Promise<number> {
  const before = await base.bytesRead();
  await work();
  return (await base.bytesRead()) - before;
}

describe('a cache image', () => {
  test('keeps what one guest reads for the next, and nothing of what they write', async () => {
    const made = await world({ quota: 100 * MIB });
    const { base, cache, at } = made;
    const first = await serve(made, 'one.qcow2');
    const cold = await readFromBase(base, () => requireReads(made, first));
    expect(cold).toBe(SIZE);
    expect(await readFromBase(base, () => requireReads(made, first))).toBe(0);
    await runTool('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 1M 300k', first.uri]);
    await first.stop();
    const second = await serve(made, 'two.qcow2');
    expect(await readFromBase(base, () => requireReads(made, second))).toBe(0);
    await second.stop();
    expect(await qemuImg(['check', cache])).toMatchObject({ code: 0 });
    expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', at('two.qcow2'), at('base.raw')])).toMatchObject({ code: 0 });
    expect(await runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -q -P 0x5a 1M 300k', at('one.qcow2')])).toMatchObject({ code: 0 });
  });

  test('tells its quota and what is used of it, and stays a qcow2 to QEMU', async () => {
    const made = await world({ quota: 100 * MIB });
    const { size } = await stat(made.cache);
    const human = await chainscope(['info', made.cache]);
    expect(human.stdout).toContain(`cache img quota: ${100 * MIB}\n`);
    expect(human.stdout).toContain(`cache img used: ${size}\n`);
    const json = JSON.parse((await chainscope(['info', '--output=json', made.cache])).stdout) as Record<string, { data: unknown }>;
    expect(json['format-specific']!.data).toMatchObject({ 'cache-img-quota': 100 * MIB, 'cache-img-used': size });
    // QEMU keeps what it does not know when it writes the header.
    await makeWithQemuImg(['rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', made.base.uri, made.cache]);
    await makeWithQemuImg(['amend', '-f', 'qcow2', '-o', 'lazy_refcounts=on', made.cache]);
    expect((await chainscope(['info', made.cache])).stdout).toContain(`cache img quota: ${100 * MIB}\n`);
  });

  const seed = testSeed();
  for (let index = 0; index < testCases(6); index++) {
    test(`never grows beyond its quota (seed ${seed + index})`, async () => {
      const random = new Random(seed + index);
      const cluster = [512, 4096, 65536][index % 3]!;
      const empty = { 512: 160 * 1024, 4096: 32 * 1024, 65536: 320 * 1024 }[cluster]!;
      const quota = empty + random.below(SIZE);
      const made = await world({ quota, cluster });
      const server = await serve(made, 'one.qcow2');
      await requireReads(made, server);
      await requireReads(made, server);
      await server.stop();
      const { size } = await stat(made.cache);
      expect(size).toBeLessThanOrEqual(quota);
      if (quota < 5 * MIB) {
        // A new cluster may need a table, and that a refcount block.
        expect(size).toBeGreaterThan(quota - 4 * cluster);
      }
      await requireSound(made);
    });
  }

  test('holds no more than was read, in small clusters', async () => {
    const made = await world({ quota: 100 * MIB, cluster: 512 });
    const server = await serve(made, 'one.qcow2');
    expect(await runTool('qemu-io', ['-f', 'raw', '-c', 'read -q 1M 512', '-c', 'read -q 3072 1024', server.uri])).toMatchObject({
      code: 0,
    });
    await server.stop();
    const map = JSON.parse((await qemuImg(['map', '--output=json', made.cache])).stdout) as {
      start: number;
      length: number;
      depth: number;
    }[];
    expect(map.filter(({ depth }) => depth === 0).map(({ start, length }) => [start, length])).toEqual(
      expect.arrayContaining([
        [3072, 1024],
        [MIB, 512],
      ]),
    );
    expect(map.filter(({ depth }) => depth === 0).length).toBeLessThanOrEqual(3);
  });

  test('is read by another process while one warms it, and by QEMU only afterwards', async () => {
    const made = await world({ quota: 100 * MIB, cluster: 4096 });
    const { base, at, cache } = made;
    const warmer = await serve(made, 'one.qcow2');
    const reader = await serve(made, 'two.qcow2');
    expect(await runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 0 512', at('two.qcow2')])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`Failed to get shared "write" lock`) as string,
    });
    const random = new Random(testSeed());
    const reads = Array.from({ length: 3000 }, () => 512 * random.below(SIZE / 512));
    const bytes = await readFile(at('base.raw'));
    const commands = reads.flatMap((offset) => ['-c', `read -q -P ${bytes[offset]!} ${offset} 512`]);
    const before = await stat(cache);
    const [warmed, read] = await Promise.all([
      requireReads(made, warmer).then(() => 'warmed'),
      runTool('qemu-io', ['-f', 'raw', ...commands, reader.uri]),
    ]);
    expect(warmed).toBe('warmed');
    expect(read).toMatchObject({ code: 0, stdout: '', stderr: '' });
    await requireReads(made, reader);
    expect((await stat(cache)).size).toBeGreaterThan(before.size);
    await warmer.stop();
    await reader.stop();
    expect(await readFromBase(base, () => requireSound(made))).toBeLessThan(SIZE);
  });

  test('is sound when whoever warms it is killed', async () => {
    const made = await world({ quota: 100 * MIB, cluster: 512, local: true });
    for (let round = 0; round < 3; round++) {
      const server = await serve(made, 'one.qcow2');
      const copied = runTool('nbdcopy', [server.uri, made.at('partly')]);
      await new Promise<void>((resolve) => {
        const look = async () => {
          if ((await stat(made.cache)).size > (round + 1) * MIB) {
            resolve();
          } else {
            setImmediate(() => void look());
          }
        };
        void look();
      });
      await server.stop('SIGKILL');
      await copied;
      // Clusters may be counted for nobody (3), nothing worse.
      const checked = await qemuImg(['check', made.cache]);
      expect([0, 3], checked.stderr).toContain(checked.code);
      expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', made.at('one.qcow2'), made.at('base.raw')])).toMatchObject({ code: 0 });
    }
  });

  test('lets everybody read when its disk is full or read-only', async () => {
    const mount = await mountSmall(3 * MIB);
    ended.push(() => mount.dispose());
    const made = await world({ quota: 100 * MIB, cacheFolder: mount.path });
    const server = await serve(made, 'one.qcow2');
    await requireReads(made, server);
    await requireReads(made, server);
    await server.stop();
    expect(await readFromBase(made.base, () => requireSound(made))).toBeLessThan(2 * SIZE);
    await mount.makeReadOnly();
    const second = await serve(made, 'two.qcow2');
    await requireReads(made, second);
    await second.stop();
  });
});
