import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { openChain } from '../../src/engine/chain/openChain';
import { openReader } from '../../src/engine/chain/chainReader';
import { EngineError } from '../../src/engine/errors';
import { followGate } from '../../src/engine/gate/policies';
import { GuestMap } from '../../src/engine/map/guestMap';
import { ClassCounter } from '../../src/engine/map/classSource';
import { FileSource } from '../../src/engine/io/file';
import { readPadded } from '../../src/engine/io/source';
import { Pace } from '../../src/engine/pace';
import { ACTIVE_VIEW } from '../../src/engine/chain/layerStatus';
import { expectSame } from '../unit/qed/nodes';
import { descriptor } from '../unit/vmdk/files';
import { settle } from './images';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, sideBySide, temporaryFolder, writeWithQemuIo } from './tools';

const SUBFORMATS = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'] as const;
const seed = testSeed();
let folder: Awaited<ReturnType<typeof temporaryFolder>>;

beforeAll(async () => {
  folder = await temporaryFolder('vmdk');
});

afterAll(async () => {
  await folder.dispose();
});

/** All of a chain's guest bytes from `start` on. */
async function read(image: string, start: number, length: number): Promise<Uint8Array> {
  const chain = await openChain(image, { gate: followGate('all') });
  try {
    const bytes = new Uint8Array(length).fill(0xee);
    openReader(chain).read(start, bytes);
    return bytes;
  } finally {
    chain.close();
  }
}

async function codeOfReading(image: string): Promise<unknown> {
  return read(image, 0, 512).then(
    () => null,
    (error: unknown) => (error as { readonly code: string }).code,
  );
}

async function expectSameMaps(image: string): Promise<void> {
  for (const args of [
    ['map', '--output=json', image],
    ['map', image],
  ]) {
    const { theirs, ours } = await sideBySide(args, { cwd: folder.path });
    expect(ours.stdout, ours.stderr).toBe(theirs.stdout);
    expect(ours.code).toBe(theirs.code);
  }
  // Our `info` opens no other file than the image unless it is told to follow the names in it.
  for (const output of ['json', 'human']) {
    const args = ['info', `--output=${output}`, image];
    const theirs = await qemuImg(args, { cwd: folder.path });
    expect(await chainscope([...args, '--follow', 'local'], { cwd: folder.path })).toEqual(theirs);
  }
}

/** A part of a file that may be longer than what can be read at once. */
function partOf(path: string, offset: number, length: number): Uint8Array {
  const file = FileSource.open(path);
  try {
    return readPadded(file, offset, length);
  } finally {
    file.close();
  }
}

/** A raw disk with data here and there, written sparsely. */
async function rawDisk(random: Random, name: string, size: number): Promise<void> {
  await makeWithQemuImg(['create', '-q', '-f', 'raw', name, String(size)], { cwd: folder.path });
  const commands = Array.from({ length: 12 }, () => {
    const length = 512 * random.between(1, 400);
    const border = random.pick([0, size - 300 * 512, Math.min(size, 2 ** 31) - 70_000 * 2] as const);
    const offset = Math.max(0, Math.min(size - length, Math.floor(border / 512) * 512 + 512 * random.below(600)));
    return `write -P ${random.between(0, 255)} ${offset} ${length}`;
  });
  await writeWithQemuIo(['-f', 'raw', name], commands, { cwd: folder.path });
}

/** qemu-io commands that write here and there. */
function writesTo(random: Random, sectors: number): string[] {
  return Array.from({ length: 4 }, (_, index) => {
    const length = random.between(1, 200);
    return `write -P ${index + 1} ${512 * random.below(sectors - length)} ${512 * length}`;
  });
}

/** Changes a few words of the header, of the directory, or of the tables; returns which. */
async function damage(random: Random, path: string): Promise<string> {
  const bytes = await readFile(path);
  const sector = (offset: number) => Number(bytes.readBigUInt64LE(offset)) * 512;
  const footer = bytes.readBigUInt64LE(56) === 2n ** 64n - 1n ? bytes.length - 1024 : 0;
  const directory = sector(footer + 56);
  const table = bytes.readUInt32LE(directory) * 512;
  const done: string[] = [];
  for (let count = random.between(1, 3); count > 0; count--) {
    const at = random.pick([
      directory,
      ...Array.from({ length: 6 }, () => table + 4 * random.below(60)),
      footer + random.pick([4, 8, 12, 20, 44, 56, 64, 77]),
    ]);
    const before = bytes.readUInt32LE(at);
    const flipped = before ^ (1 << random.below(32));
    bytes.writeUInt32LE(random.pick([0, 1, flipped, flipped, random.below(bytes.length / 512)]) >>> 0, at);
    done.push(`${at}: ${before} -> ${bytes.readUInt32LE(at)}`);
  }
  await writeFile(path, bytes);
  return done.join(', ');
}

/** Bytes of a damaged disk that are read. */
const READ_OF_DAMAGED = 64 * 2 ** 20;

/** What the guest reads, or the code and the message of the error. */
async function readStart(image: string): Promise<Uint8Array | string> {
  const chain = await openChain(image, { gate: followGate('all'), format: 'vmdk' });
  try {
    const reader = openReader(chain);
    const bytes = new Uint8Array(Math.min(reader.size, READ_OF_DAMAGED));
    reader.read(0, bytes);
    return bytes;
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    const { code, message } = error as EngineError;
    return `${code}: ${message}`;
  } finally {
    chain.close();
  }
}

describe(`images that qemu-img made (CHAINSCOPE_SEED=${seed})`, () => {
  test.each(SUBFORMATS)('%s reads and maps as with qemu-img', async (subformat) => {
    const random = new Random(seed);
    await mkdir(join(folder.path, subformat), { recursive: true });
    const split = subformat.startsWith('two');
    for (let round = 0; round < testCases(2); round++) {
      const size = (split ? 2 ** 31 : 0) + 65536 * random.between(10, 100) + (random.chance(0.5) ? 512 * random.below(128) : 0);
      await rawDisk(random, 'disk.raw', size);
      const image = `${subformat}/disk-${round}.vmdk`;
      await makeWithQemuImg(['convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${subformat}`, 'disk.raw', image], {
        cwd: folder.path,
      });
      await expectSameMaps(image);
      const { theirs, ours } = await sideBySide(['compare', '-f', 'vmdk', '-F', 'raw', image, 'disk.raw'], { cwd: folder.path });
      expect(ours).toEqual(theirs);
      const strict = await sideBySide(['compare', '-s', '-f', 'vmdk', '-F', 'vmdk', image, image], { cwd: folder.path });
      expect(strict.ours).toEqual(strict.theirs);
      // The end of the disk, read in odd pieces.
      const from = size - 300_001;
      expectSame(await read(join(folder.path, image), from, 300_001), partOf(join(folder.path, 'disk.raw'), from, 300_001));
    }
  });

  test('grains of zeroes, and a parent', async () => {
    const random = new Random(seed);
    for (let round = 0; round < testCases(4); round++) {
      await makeWithQemuImg(['create', '-q', '-f', 'vmdk', 'parent.vmdk', '4M'], { cwd: folder.path });
      await writeWithQemuIo(['parent.vmdk'], ['write -P 1 0 2M', `write -P 2 ${65536 * random.below(64)} 64k`], { cwd: folder.path });
      await makeWithQemuImg(['create', '-q', '-f', 'vmdk', '-o', 'zeroed_grain=on', '-b', 'parent.vmdk', '-F', 'vmdk', 'child.vmdk'], {
        cwd: folder.path,
      });
      const commands = Array.from({ length: 6 }, (_, i) => {
        const offset = 65536 * random.below(60);
        return random.chance(0.5) ? `write -z ${offset} 128k` : `write -P ${i + 3} ${offset + 512 * random.below(100)} 8k`;
      });
      await writeWithQemuIo(['child.vmdk'], commands, { cwd: folder.path });
      await expectSameMaps('child.vmdk');
      await makeWithQemuImg(['convert', '-O', 'raw', 'child.vmdk', 'child.raw'], { cwd: folder.path });
      expectSame(await read(join(folder.path, 'child.vmdk'), 0, 4 * 2 ** 20), await readFile(join(folder.path, 'child.raw')));
    }
    // A parent that was written again is not what the child was made on.
    await writeWithQemuIo(['parent.vmdk'], ['write -P 9 0 512'], { cwd: folder.path });
    expect((await qemuImg(['convert', '-O', 'raw', 'child.vmdk', 'child.raw'], { cwd: folder.path })).code).not.toBe(0);
    expect(await codeOfReading(join(folder.path, 'child.vmdk'))).toBe('format.invalid');
  });

  test('extents of odd lengths, in one file and in several, sparse and flat', async () => {
    const random = new Random(seed);
    for (let round = 0; round < testCases(4); round++) {
      const flat = random.chance(0.5);
      const lines: string[] = [];
      let flatSectors = 0;
      for (let index = 0; index < 3; index++) {
        // QEMU reads on in the grain at the end of a sparse extent; only the last one may end inside a grain.
        const sectors = flat || index === 2 ? random.between(300, 3000) : 128 * random.between(3, 24);
        if (flat) {
          // The second begins in its file where the first ends in another one.
          const from = index === 1 ? flatSectors : random.below(50);
          const name = `odd-${round}-${index}.raw`;
          await makeWithQemuImg(['create', '-q', '-f', 'raw', name, `${(from + sectors) * 512}`], { cwd: folder.path });
          await writeWithQemuIo(['-f', 'raw', name], writesTo(random, sectors + from), { cwd: folder.path });
          flatSectors = from + sectors;
          lines.push(`RW ${sectors} FLAT "${name}" ${from}`);
        } else {
          const name = `odd-${round}-${index}.vmdk`;
          await makeWithQemuImg(['create', '-q', '-f', 'vmdk', '-o', 'zeroed_grain=on', name, `${sectors * 512}`], { cwd: folder.path });
          await writeWithQemuIo(['-f', 'vmdk', name], [...writesTo(random, sectors), 'write -z 0 64k'], { cwd: folder.path });
          lines.push(`RW ${sectors} SPARSE "${name}"`);
        }
      }
      const image = `odd-${round}.vmdk`;
      await writeFile(join(folder.path, image), descriptor(lines, flat ? { createType: 'twoGbMaxExtentFlat' } : {}));
      await settle(lines.map((line) => join(folder.path, /"(.*)"/.exec(line)![1]!)));
      await expectSameMaps(image);
      await makeWithQemuImg(['convert', '-f', 'vmdk', '-O', 'raw', image, 'odd.raw'], { cwd: folder.path });
      const bytes = await readFile(join(folder.path, 'odd.raw'));
      expectSame(await read(join(folder.path, image), 0, bytes.length), bytes);
      for (const strict of [[], ['-s']]) {
        const args = ['compare', ...strict, '-f', 'vmdk', '-F', 'raw', image, 'odd.raw'];
        const { theirs, ours } = await sideBySide(args, { cwd: folder.path });
        expect(ours, lines.join('\n')).toEqual(theirs);
      }
    }
  });

  test('damaged tables and headers are read, or refused, as by qemu-img', async () => {
    const random = new Random(seed);
    for (let round = 0; round < testCases(12); round++) {
      const subformat = random.pick(['monolithicSparse', 'streamOptimized'] as const);
      await rawDisk(random, 'whole.raw', 65536 * random.between(10, 60));
      const args = ['convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${subformat}`, 'whole.raw', 'damaged.vmdk'];
      await makeWithQemuImg(args, { cwd: folder.path });
      const image = join(folder.path, 'damaged.vmdk');
      const what = await damage(random, image);
      // Damage can make the disk many GiB large.
      const start = ['-f', 'vmdk', '-O', 'raw', 'bs=1M', `count=${READ_OF_DAMAGED / 2 ** 20}`];
      const theirs = await qemuImg(['dd', ...start, 'if=damaged.vmdk', 'of=read.raw'], { cwd: folder.path });
      const outcome = await readStart(image);
      if (theirs.code !== 0) {
        expect(outcome, `${what}\n${theirs.stderr}`).toMatch(/^(format\.invalid|format\.unsupported|data\.undecodable): /);
      } else if (typeof outcome === 'string') {
        // QEMU takes what the file does not hold for zeroes.
        expect(outcome, what).toMatch(/past the end of the file|lies on the header/);
      } else {
        expectSame(outcome, await readFile(join(folder.path, 'read.raw')));
      }
    }
  });

  test('a map of the guest disk shows their grains', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'vmdk', 'map.vmdk', '1M'], { cwd: folder.path });
    await writeWithQemuIo(['map.vmdk'], ['write 0 128k', 'write 512k 1k'], { cwd: folder.path });
    const chain = await openChain(join(folder.path, 'map.vmdk'), { gate: followGate('all') });
    const map = new GuestMap(chain, 'state', ACTIVE_VIEW);
    const counter = new ClassCounter();
    await map.scan(0, map.clusters, counter, new Pace());
    expect([map.clusterSize, map.clusters]).toEqual([65536, 16]);
    expect(Object.fromEntries(map.classes.map(({ id }, i) => [id, counter.counts[i]]))).toMatchObject({ data: 3, unallocated: 13 });
    chain.close();
  });

  test('an extent that is missing, or named by a protocol, is an error', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', 'flat.vmdk', '1M'], { cwd: folder.path });
    await rename(join(folder.path, 'flat-flat.vmdk'), join(folder.path, 'gone.vmdk'));
    expect(await codeOfReading(join(folder.path, 'flat.vmdk'))).toBe('file.notFound');
    const text = await readFile(join(folder.path, 'flat.vmdk'), 'latin1');
    await writeFile(join(folder.path, 'flat.vmdk'), text.replace('flat-flat.vmdk', 'file:gone.vmdk'), 'latin1');
    expect(await codeOfReading(join(folder.path, 'flat.vmdk'))).toBe('chain.refused');
  });
});
