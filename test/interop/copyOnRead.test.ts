import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { serveNoise, type CountedBase } from './countedBase';
import { chainscopeNbd } from './nbdServers';
import { Random, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* `nbd --copy-on-read`, with clients of libnbd and QEMU. */

const MIB = 2 ** 20;
const SIZE = 8 * MIB;
const CLUSTER = 65536;

const ended: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

interface World {
  readonly folder: string;
  readonly base: CountedBase;
  readonly disk: string;
}

/** A qcow2 overlay on a raw disk that a server counts the reads of; every fourth MiB of it is zeroes. */
async function world(...options: readonly string[]): Promise<World> {
  const folder = await temporaryFolder('copy-on-read');
  ended.push(() => folder.dispose());
  const base = await serveNoise(folder.path, SIZE);
  ended.push(() => base.stop());
  const disk = join(folder.path, 'disk.qcow2');
  const created = ['create', '-q', '-f', 'qcow2', '-b', base.uri, '-F', 'raw', ...options, disk];
  await makeWithQemuImg(created);
  return { folder: folder.path, base, disk };
}

async function requireSame({ folder, disk }: World): Promise<void> {
  expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', disk, join(folder, 'base.raw')])).toMatchObject({ code: 0 });
  expect(await qemuImg(['check', disk])).toMatchObject({ code: 0 });
}

describe('nbd --copy-on-read', () => {
  test('copies what qemu-io reads, each cluster once', async () => {
    const made = await world();
    const { folder, base, disk } = made;
    const server = await chainscopeNbd(folder, ['-f', 'qcow2', '--copy-on-read', disk]);
    ended.push(() => server.stop());
    const before = await base.bytesRead();
    const random = new Random(testSeed());
    const reads = Array.from({ length: 60 }, () => {
      const offset = random.below(SIZE / 512 - 1) * 512;
      return { offset, length: Math.min(SIZE - offset, 512 * random.between(1, 400)) };
    });
    const commands = [...reads, ...reads].flatMap(({ offset, length }) => ['-c', `aio_read -q ${offset} ${length}`]);
    expect(await runTool('qemu-io', ['-f', 'raw', ...commands, '-c', 'aio_flush', server.uri])).toMatchObject({ code: 0, stderr: '' });
    const wanted = new Set(
      reads.flatMap(({ offset, length }) => {
        const first = Math.floor(offset / CLUSTER);
        return Array.from({ length: Math.ceil((offset + length) / CLUSTER) - first }, (_, index) => first + index);
      }),
    );
    expect((await base.bytesRead()) - before).toBe(wanted.size * CLUSTER);
    await server.stop();
    const map = JSON.parse((await qemuImg(['map', '--output=json', disk])).stdout) as {
      start: number;
      length: number;
      depth: number;
    }[];
    const copied = map.filter(({ depth }) => depth === 0).reduce((bytes, { length }) => bytes + length, 0);
    expect(copied).toBe(wanted.size * CLUSTER);
    await requireSame(made);
  });

  test('makes the image whole when nbdcopy has read it with several connections', async () => {
    const made = await world();
    const { folder, base, disk } = made;
    const server = await chainscopeNbd(folder, ['-f', 'qcow2', '--copy-on-read', disk]);
    ended.push(() => server.stop());
    const before = await base.bytesRead();
    for (const copy of ['first', 'second']) {
      const file = join(folder, copy);
      const copied = ['--connections=4', '--requests=16', '--allocated', '--request-size=262144', server.uri, file];
      expect(await runTool('nbdcopy', copied)).toMatchObject({ code: 0, stderr: '' });
      expect(await runTool('cmp', [file, join(folder, 'base.raw')])).toMatchObject({ code: 0, stdout: '' });
    }
    expect((await base.bytesRead()) - before).toBeLessThanOrEqual(SIZE);
    await server.stop();
    const map = JSON.parse((await qemuImg(['map', '--output=json', disk])).stdout) as {
      depth: number;
      zero: boolean;
      data: boolean;
      length: number;
    }[];
    // Zeroes are stored as such, without clusters.
    expect(map.filter(({ depth, data }) => depth === 0 && !data).reduce((bytes, { length }) => bytes + length, 0)).toBe(2 * MIB);
    await requireSame(made);
  });

  test('is refused for an export that is only read, as QEMU does', async () => {
    const { disk } = await world();
    expect(await chainscope(['nbd', '-r', '--copy-on-read', disk])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Can't use copy-on-read on read-only device") as string,
    });
  });
});
