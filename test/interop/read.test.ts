import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openChain } from '../../src/engine/chain/openChain';
import type { OpenedChain } from '../../src/engine/chain/layer';
import { openReader, type ChainReader } from '../../src/engine/chain/chainReader';
import { EngineError } from '../../src/engine/errors';
import { followGate } from '../../src/engine/gate/policies';
import { FileSource } from '../../src/engine/io/file';
import { makeImage, type ImageOptions } from './images';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* Guest bytes as our engine reads them beside those that qemu-img copies out, for every byte of random images. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder('read');
});
afterAll(() => folder.dispose());

async function withChain<T>(path: string, use: (chain: OpenedChain) => T | Promise<T>): Promise<T> {
  const chain = await openChain(path, { gate: followGate('all') });
  try {
    return await use(chain);
  } finally {
    chain.close();
  }
}

const SECTOR = 512;

/**
 * Copies an image's guest bytes to a raw file. Returns the offsets of the sectors that qemu-img could not read, and has left as zeroes.
 * There are some where a compressed cluster was overwritten: QEMU 7.2 goes on filling a host cluster with compressed data that was freed
 * in between (`write -c`, `discard`, `write -c` in one session), also when another guest cluster has got it by then.
 */
async function copyOut(args: readonly string[], image: string, copy: string): Promise<ReadonlySet<number>> {
  const { code, stderr } = await qemuImg(['convert', '--salvage', ...args, '-O', 'raw', image, copy]);
  expect(code, stderr).toBe(0);
  const warnings = stderr.split('\n').filter((line) => line !== '');
  return new Set(
    warnings.map((warning) => {
      const offset = /^qemu-img: warning: error while reading offset (\d+): Input\/output error$/.exec(warning)?.[1];
      expect(offset, warning).toBeDefined();
      return Number(offset);
    }),
  );
}

/** Expects the reader and a raw copy to hold the same bytes, read in pieces of random length, and sectors without any to be refused. */
function expectSameBytes(reader: ChainReader, rawCopy: string, random: Random, unreadable: ReadonlySet<number> = new Set()): void {
  const copy = FileSource.open(rawCopy);
  try {
    expect(reader.size).toBe(copy.size);
    let offset = 0;
    while (offset < reader.size) {
      const sector = offset - (offset % SECTOR);
      if (unreadable.has(sector)) {
        expect(codeOf(() => reader.read(offset, Buffer.alloc(sector + SECTOR - offset)))).toBe('data.undecodable');
        offset = sector + SECTOR;
        continue;
      }
      const next = Math.min(reader.size, ...[...unreadable].filter((other) => other > offset));
      const length = Math.min(next - offset, random.pick([1, 511, 4096, 65537, 1 << 20, 3 << 20]));
      const ours = Buffer.alloc(length, 0xa5);
      const theirs = Buffer.alloc(length);
      reader.read(offset, ours);
      copy.read(theirs, offset);
      if (!ours.equals(theirs)) {
        const different = ours.findIndex((byte, index) => byte !== theirs[index]);
        expect.fail(`guest offset ${offset + different}: ours ${ours[different]}, theirs ${theirs[different]}`);
      }
      offset += length;
    }
  } finally {
    copy.close();
  }
}

/** `qemu-img map` of an image, with what our block status says in the same words. */
async function expectSameMap(reader: ChainReader, image: string): Promise<void> {
  const { stdout, code, stderr } = await qemuImg(['map', '--output=json', image]);
  expect(code, stderr).toBe(0);
  interface Run {
    readonly start: number;
    readonly length: number;
    readonly depth: number;
    readonly present: boolean;
    readonly zero: boolean;
    readonly data: boolean;
    readonly offset?: number;
  }
  let offset = 0;
  for (const run of JSON.parse(stdout) as Run[]) {
    const end = run.start + run.length;
    while (offset < end) {
      const extent = reader.blockStatus(offset, end - offset);
      const { depth, hostOffset } = extent;
      const ours = { offset, present: extent.class !== 'unallocated', data: extent.class === 'data' || extent.class === 'compressed' };
      expect(ours, JSON.stringify({ run, extent })).toEqual({ offset, present: run.present, data: run.data });
      if (run.present) {
        expect(depth).toBe(run.depth);
      }
      if (run.offset !== undefined && extent.class === 'data') {
        expect(hostOffset).toBe(run.offset + offset - run.start);
      }
      offset += extent.length;
    }
  }
  expect(offset).toBe(reader.size);
}

const seed = testSeed();
const MIB = 1024 * 1024;
const kinds: readonly (readonly [name: string, options: ImageOptions])[] = [
  ['any image', { encrypted: 0, maxSize: 48 * MIB, crash: true }],
  ['a chain', { encrypted: 0, maxSize: 24 * MIB, maxDepth: 6 }],
  ['a QED image', { format: 'qed', maxSize: 48 * MIB, maxDepth: 2 }],
];

describe.each(kinds)('%s reads as qemu-img copies it', (name, options) => {
  const seeds = Array.from({ length: testCases(20) }, (_, index) => seed + index);
  test.each(seeds)('seed %i', async (caseSeed) => {
    const home = join(folder.path, `${name.replaceAll(' ', '-')}-${caseSeed}`);
    await mkdir(home);
    const image = await makeImage(caseSeed, home, options);
    const random = new Random(caseSeed);
    const copy = join(home, 'copy');
    const unreadable = await copyOut(['-f', image.format], image.path, copy);
    await withChain(image.path, async (chain) => {
      const reader = openReader(chain);
      expectSameBytes(reader, copy, random, unreadable);
      await expectSameMap(reader, image.path);
      for (const { index, id, diskSize } of chain.links[0]?.image?.snapshots ?? []) {
        // Several snapshots can have the same name.
        const lost = await copyOut(['-l', `snapshot.id=${id}`, '-f', 'qcow2'], image.path, `${copy}-${id}`);
        const view = openReader(chain, { view: { kind: 'snapshot', index } });
        expect(view.size).toBe(diskSize);
        expectSameBytes(view, `${copy}-${id}`, random, lost);
      }
    });
  });
});

test('a compressed cluster that QEMU itself has overwritten is refused, what lies around it is read', async () => {
  const home = join(folder.path, 'overwritten');
  await mkdir(home);
  const image = await makeImage(2101598517, home, { encrypted: 0, maxSize: 24 * MIB, maxDepth: 6 });
  const unreadable = await copyOut(['-f', image.format], image.path, join(home, 'copy'));
  expect([...unreadable]).toEqual([1645568, 1646080]);
  await withChain(image.path, (chain) => {
    expectSameBytes(openReader(chain), join(home, 'copy'), new Random(1), unreadable);
  });
});

describe('sizes along a chain', () => {
  test.each([
    ['qcow2', 'an overlay larger than its base', 5 * MIB + 1536, 3 * MIB + 512],
    ['qcow2', 'an overlay smaller than its base', 2 * MIB + 512, 7 * MIB],
    ['raw', 'an overlay larger than a raw base of no whole sector', 3 * MIB, 1 * MIB + 100],
    ['qed', 'an overlay larger than a QED base', 3 * MIB, 1 * MIB + 512],
  ])('%s: %s', async (format, name, overlaySize, baseSize) => {
    const home = join(folder.path, name.replaceAll(' ', '-'));
    await mkdir(home);
    const at = (file: string): string => join(home, file);
    const deep = Math.ceil(baseSize / 512) * 512 + MIB;
    await makeWithQemuImg(['create', '-q', '-f', 'raw', at('deep'), `${deep}`]);
    await writeWithQemuIo(['-f', 'raw', at('deep')], [`write -P 17 0 ${deep}`]);
    if (format === 'raw') {
      await makeWithQemuImg(['create', '-q', '-f', 'raw', at('base'), `${baseSize}`]);
    } else {
      await makeWithQemuImg(['create', '-q', '-f', format, '-b', at('deep'), '-F', 'raw', at('base'), `${baseSize}`]);
    }
    await writeWithQemuIo(['-f', format, at('base')], ['write -P 34 64k 64k']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', at('base'), '-F', format, at('overlay'), `${overlaySize}`]);
    await writeWithQemuIo(['-f', 'qcow2', at('overlay')], ['write -P 51 96k 64k']);
    await makeWithQemuImg(['convert', '-q', '-f', 'qcow2', '-O', 'raw', at('overlay'), at('copy')]);
    await withChain(at('overlay'), (chain) => expectSameBytes(openReader(chain), at('copy'), new Random(1)));
  });

  test('a snapshot of a disk that grew since', async () => {
    const image = join(folder.path, 'grown.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '1M']);
    await writeWithQemuIo(['-f', 'qcow2', image], ['write -P 1 0 1M']);
    await makeWithQemuImg(['snapshot', '-c', 'before', image]);
    await makeWithQemuImg(['resize', '-q', '-f', 'qcow2', image, '2M']);
    await writeWithQemuIo(['-f', 'qcow2', image], ['write -P 2 512k 1M']);
    await withChain(image, (chain) => {
      const reader = openReader(chain, { view: { kind: 'snapshot', index: 0 } });
      const bytes = Buffer.alloc(MIB);
      reader.read(0, bytes);
      expect({ size: reader.size, same: bytes.every((byte) => byte === 1) }).toEqual({ size: MIB, same: true });
    });
  });
});

describe('compressed clusters of real data', () => {
  const methods = ['zlib', 'zstd'] as const;
  const clusterSizes = [512, 4096, 65536, 2 * MIB];
  test.each(methods.flatMap((method) => clusterSizes.map((clusterSize) => [method, clusterSize] as const)))(
    '%s, clusters of %i bytes',
    async (method, clusterSize) => {
      const [plain, image, copy] = ['plain', 'image', 'copy'].map((name) => join(folder.path, `${name}-${method}-${clusterSize}`));
      const random = new Random(clusterSize);
      // Between text and noise: every cluster compresses, none to the same length.
      const bytes = Buffer.alloc(3 * MIB + 512);
      for (let offset = 0; offset < bytes.length; offset += 4) {
        bytes.writeUInt32LE(random.chance(0.6) ? 0x20656874 : random.bits(), offset);
      }
      await writeFile(plain!, bytes);
      const options = `compression_type=${method},cluster_size=${clusterSize}`;
      await makeWithQemuImg(['convert', '-q', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, plain!, image!]);
      await makeWithQemuImg(['convert', '-q', '-f', 'qcow2', '-O', 'raw', image!, copy!]);
      await withChain(image!, (chain) => {
        const reader = openReader(chain);
        expect(reader.blockStatus(0, 1).class).toBe('compressed');
        expectSameBytes(reader, copy!, random);
      });
    },
  );
});

describe('damaged tables are read, or refused, as by qemu-img', () => {
  const seeds = Array.from({ length: testCases(40) }, (_, index) => seed + index);
  test.each(seeds)('seed %i', async (caseSeed) => {
    const home = join(folder.path, `damaged-${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 4 * MIB, maxDepth: 2 });
    await damageTables(image.path, image.format, random);
    const copy = join(home, 'copy');
    const theirs = await qemuImg(['convert', '-q', '-f', image.format, '-O', 'raw', image.path, copy]);
    await withChain(image.path, (chain) => {
      const read = () => {
        const reader = openReader(chain);
        readAll(reader);
        return reader;
      };
      if (theirs.code === 0) {
        expectSameBytes(read(), copy, random);
      } else {
        expect(codeOf(read), theirs.stderr).toMatch(/^(format\.invalid|data\.undecodable)$/);
      }
    });
  });
});

/** Puts a few random bits, and a few bits that mean something, into the L1 table and the first L2 tables. */
async function damageTables(path: string, format: string, random: Random): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    const bytes = Buffer.alloc(size);
    await file.read(bytes, 0, size, 0);
    const big = format === 'qcow2';
    const word = (at: number) => (big ? bytes.readBigUInt64BE(at) : bytes.readBigUInt64LE(at));
    const put = (value: bigint, at: number) => {
      const cut = BigInt.asUintN(64, value);
      return big ? bytes.writeBigUInt64BE(cut, at) : bytes.writeBigUInt64LE(cut, at);
    };
    const l1 = Number(word(40));
    const entries: number[] = [l1];
    const table = Number(word(l1) & 0x00fffffffffffe00n);
    if (table > 0 && table + 512 <= size) {
      for (let index = 0; index < 64; index++) {
        if (word(table + index * 8) !== 0n || random.chance(0.1)) {
          entries.push(table + index * 8);
        }
      }
    }
    for (let count = random.between(1, 4); count > 0; count--) {
      const at = random.chance(0.15) ? l1 : random.pick(entries)!;
      const bit = random.pick([0, 1, 8, 9, 12, 16, 20, 30, 33, 47, 55, 56, 62, 63, random.below(64)]);
      put(random.chance(0.8) ? word(at) ^ (1n << BigInt(bit)) : BigInt(random.below(size)), at);
    }
    await file.write(bytes, 0, size, 0);
  } finally {
    await file.close();
  }
}

function readAll(reader: ChainReader): void {
  const piece = Buffer.alloc(1 << 20);
  for (let offset = 0; offset < reader.size; offset += piece.length) {
    reader.read(offset, piece.subarray(0, Math.min(piece.length, reader.size - offset)));
  }
}

describe('what cannot be read says so', () => {
  test('an encrypted image', async () => {
    const image = join(folder.path, 'secret.qcow2');
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    await makeWithQemuImg(['create', '-q', '--object', 'secret,id=s,data=x', '-f', 'qcow2', '-o', options, image, '1M']);
    await withChain(image, (chain) => {
      expect(codeOf(() => openReader(chain))).toBe('data.encrypted');
    });
  });

  test('a missing base, a refused one, and a loop', async () => {
    const [a, b] = [join(folder.path, 'a.qcow2'), join(folder.path, 'b.qcow2')];
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', b, '-F', 'qcow2', a, '1M']);
    await withChain(a, (chain) => expect(codeOf(() => openReader(chain))).toBe('file.notFound'));
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', a, '-F', 'qcow2', b, '1M']);
    await withChain(a, (chain) => {
      expect(chain.links.map(({ state }) => state.kind)).toEqual(['open', 'open', 'loop']);
      expect(codeOf(() => openReader(chain))).toBe('chain.loop');
    });
    const chain = await openChain(a, { gate: followGate('none') });
    expect(codeOf(() => openReader(chain))).toBe('chain.refused');
    chain.close();
  });
});

function codeOf(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    return error instanceof EngineError ? error.code : String(error);
  }
}
