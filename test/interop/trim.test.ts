import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';

import { trimStep } from '../../src/engine/allocation/trim';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { followGate } from '../../src/engine/gate/policies';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* `trim`: zeroes that take space give it back, and the disk reads the same. */

const MIB = 2 ** 20;
const SIZE = 4 * MIB;
const CLUSTER = 65536;

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

interface Kind {
  readonly format: 'qcow2' | 'qed' | 'raw';
  readonly options?: string;
  readonly backed?: boolean;
  readonly dataFile?: boolean;
  readonly compressed?: boolean;
  /** QEMU preallocates its clusters. */
  readonly reserved?: boolean;
}

const KINDS: Readonly<Record<string, Kind>> = {
  qcow2: { format: 'qcow2' },
  'qcow2 with a backing file': { format: 'qcow2', backed: true },
  'qcow2 version 2': { format: 'qcow2', options: 'compat=0.10' },
  'qcow2 version 2 with a backing file': { format: 'qcow2', options: 'compat=0.10', backed: true },
  'small clusters': { format: 'qcow2', options: 'cluster_size=4k', backed: true },
  'extended L2 entries': { format: 'qcow2', options: 'extended_l2=on', backed: true },
  'compressed clusters': { format: 'qcow2', compressed: true },
  'an external data file': { format: 'qcow2', dataFile: true },
  'a raw external data file': { format: 'qcow2', dataFile: true, options: 'data_file_raw=on', reserved: true },
  'QED with a backing file': { format: 'qed', backed: true },
  raw: { format: 'raw' },
};

/** An image with zeroes that were written out between data and empty ranges; its files' names. */
async function makeImage({ format, options, backed, dataFile, compressed }: Kind, random: Random): Promise<readonly string[]> {
  const folder = await temporaryFolder('trim');
  ended.push(() => folder.dispose());
  const at = (name: string) => join(folder.path, name);
  if (backed) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', at('base'), `${SIZE}`]);
    await writeWithQemuIo(['-f', 'qcow2', at('base')], [`write -P 7 0 ${random.between(1, 3)}M`]);
  }
  const all = [...(options ? [options] : []), ...(dataFile ? [`data_file=${at('data')}`] : [])].join(',');
  const disk = at('disk');
  const create = ['create', '-q', '-f', format, ...(all ? ['-o', all] : []), ...(backed ? ['-b', at('base'), '-F', 'qcow2'] : [])];
  await makeWithQemuImg([...create, disk, `${SIZE}`]);
  const writes = Array.from({ length: 12 }, (_, index) => {
    const start = CLUSTER * random.below(48) + (random.chance(0.3) ? 4096 * random.below(16) : 0);
    const write = compressed ? 'write -c' : 'write';
    const length = compressed ? CLUSTER : 4096 * random.between(1, 160);
    return `${write} -P ${index % 2 === 0 ? 0 : 30 + index} ${compressed ? 4 * index * CLUSTER : start} ${length}`;
  });
  await writeWithQemuIo(['-f', format, disk], writes);
  return dataFile ? [disk, at('data')] : [disk];
}

async function usedBytes(files: readonly string[]): Promise<number> {
  const all = await Promise.all(files.map((file) => stat(file)));
  return all.reduce((bytes, { blocks }) => bytes + 512 * blocks, 0);
}

describe('trim', () => {
  const first = testSeed();
  const seeds = Array.from({ length: testCases(1) }, (_, index) => first + index);
  test.each(Object.entries(KINDS).flatMap(([title, kind]) => seeds.map((seed) => ({ title, kind, seed }))))(
    'gives zeroes back and changes nothing that is read: $title (seed $seed)',
    async ({ kind, seed }) => {
      const { format } = kind;
      const files = await makeImage(kind, new Random(seed));
      const [disk] = files as [string];
      const content = `${disk}.content`;
      await makeWithQemuImg(['convert', '-f', format, '-O', 'raw', disk, content]);
      const before = await usedBytes(files);
      const told = JSON.parse((await chainscope(['trim', '-n', '-f', format, '--output=json', disk])).stdout) as Record<string, number>;
      expect(told['zero-bytes']).toBeGreaterThan(0);
      expect(await usedBytes(files)).toBe(before);

      const trimmed = await chainscope(['trim', '-f', format, '--output=json', disk]);
      expect(trimmed).toMatchObject({ code: 0, stderr: '' });
      expect(await qemuImg(['compare', '-f', format, '-F', 'raw', disk, content])).toMatchObject({ code: 0 });
      if (format !== 'raw') {
        expect(await qemuImg(['check', '-f', format, disk])).toMatchObject({ code: 0 });
      }
      const after = await usedBytes(files);
      expect(JSON.parse(trimmed.stdout)).toMatchObject({ outcome: 'completed', 'actual-size-before': before, 'actual-size': after });
      // Compressed zeroes take next to nothing; a raw data file has holes where clusters are preallocated.
      expect(before - after).toBeGreaterThanOrEqual(kind.compressed ? 0 : kind.reserved ? CLUSTER : told['zero-bytes']! - 2 * CLUSTER);
      // What can only get holes is found again, and has nothing to give.
      const again = await chainscope(['trim', '-f', format, disk]);
      expect(again).toMatchObject({ code: 0, stdout: '0 bytes given back.\n' });
    },
  );

  test('leaves alone what a snapshot of a version 2 image needs too', async () => {
    const folder = await temporaryFolder('trim');
    ended.push(() => folder.dispose());
    const disk = join(folder.path, 'disk');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', disk, `${SIZE}`]);
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write -P 0 0 1M', 'write -P 3 1M 1M']);
    await makeWithQemuImg(['snapshot', '-c', 'before', disk]);
    const before = await usedBytes([disk]);
    expect(await chainscope(['trim', disk])).toMatchObject({ code: 0, stdout: '0 bytes given back.\n' });
    expect(await usedBytes([disk])).toBe(before);
    expect(await qemuImg(['check', disk])).toMatchObject({ code: 0 });
  });

  test('gives back what an allocation has reserved', async () => {
    const folder = await temporaryFolder('trim');
    ended.push(() => folder.dispose());
    const disk = join(folder.path, 'disk');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', disk, `${SIZE}`]);
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write -P 3 1M 1M']);
    const thin = await usedBytes([disk]);
    expect(await chainscope(['allocate', '--mode', 'metadata', disk])).toMatchObject({ code: 0 });
    expect(await usedBytes([disk])).toBeGreaterThan(thin + 2 * MIB);
    const part = await chainscope(['trim', '--offset', '0', '--length', '1M', disk]);
    expect(part).toMatchObject({ code: 0, stderr: '' });
    // The file system's own blocks come and go.
    expect(Number(/^(\d+) bytes given back\.\n$/.exec(part.stdout)?.[1])).toBeGreaterThanOrEqual(MIB - CLUSTER);
    expect(await chainscope(['trim', '-q', disk])).toMatchObject({ code: 0, stdout: '' });
    expect(await usedBytes([disk])).toBeLessThanOrEqual(thin + CLUSTER);
    expect(await qemuImg(['check', disk])).toMatchObject({ code: 0 });
  });

  for (let seed = first; seed < first + testCases(3); seed++) {
    test(`never takes what a guest writes meanwhile (seed ${seed})`, async () => {
      const random = new Random(seed);
      const format = random.pick(['qcow2', 'raw', 'qed'] as const);
      const [disk] = (await makeImage({ format, backed: format === 'qed' }, random)) as [string];
      const content = `${disk}.content`;
      await makeWithQemuImg(['convert', '-f', format, '-O', 'raw', disk, content]);
      const graph = new BlockGraph({ gate: followGate('all') });
      const image = await graph.open(disk, { format, readOnly: false, user: 'a guest' });
      const writes: string[] = [];
      const guest = async () => {
        for (let index = 0; index < 200; index++) {
          const offset = 512 * random.below(SIZE / 512 - 64);
          const pattern = random.chance(0.5) ? 0 : random.between(1, 255);
          const length = 512 * random.between(1, 64);
          writes.push(`write -P ${pattern} ${offset} ${length}`);
          await image.node.write(offset, new Uint8Array(length).fill(pattern));
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const trimming = async () => {
        for (let round = 0; round < 3; round++) {
          for (let at = 0; at < SIZE;) {
            at += (await trimStep(image.node, at, SIZE - at, CLUSTER)).length;
            await new Promise((resolve) => setImmediate(resolve));
          }
        }
      };
      await Promise.all([guest(), guest(), trimming()]);
      await image.close();
      await writeWithQemuIo(['-f', 'raw', content], writes);
      expect(await qemuImg(['compare', '-f', format, '-F', 'raw', disk, content])).toMatchObject({ code: 0 });
      if (format !== 'raw') {
        expect(await qemuImg(['check', '-f', format, disk])).toMatchObject({ code: 0 });
      }
    });
  }
});
