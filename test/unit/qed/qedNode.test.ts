import { describe, expect, test } from 'vitest';

import { checkQed } from '../../../src/engine/check/qedCheck';
import { createQed } from '../../../src/engine/formats/qed/create';
import { readQedMetadata } from '../../../src/engine/formats/qed/metadata';
import { MemorySource } from '../io/memorySource';
import { BytesNode, expectSame, openQed, pattern, readAll } from './nodes';
import { crashed } from '../../harness/storage/recordingStorage';
import { TestStorage } from './testStorage';

const CLUSTER = 4096;
/** Guest bytes of one L2 table of two clusters (QEMU opens no image with tables of one). */
const COVERAGE = ((2 * CLUSTER) / 8) * CLUSTER;

async function image(size: number, options: { readonly backing_file?: string; readonly backing_fmt?: string } = {}): Promise<TestStorage> {
  const storage = new TestStorage();
  await createQed(storage, { size, cluster_size: CLUSTER, table_size: 2, ...options });
  return storage;
}

async function checkOf(bytes: Uint8Array): Promise<{ readonly corruptions: number; readonly leaks: number; readonly needCheck: boolean }> {
  const metadata = readQedMetadata(new MemorySource(bytes, 'image'));
  const { counts } = await checkQed(metadata, { deep: false, maxFindings: 1 });
  return { corruptions: counts.corruptions, leaks: counts.leaks, needCheck: metadata.needCheck };
}

const CLEAN = { corruptions: 0, leaks: 0, needCheck: false };

describe('writing', () => {
  test('what is written is read back, also by who opens the image next', async () => {
    const storage = await image(2 * COVERAGE + 512);
    const node = await openQed(storage);
    const expected = new Uint8Array(node.size);
    for (const [at, length] of [
      [100, 10],
      [CLUSTER - 1, CLUSTER + 2],
      [COVERAGE - 5000, 10_000],
      [2 * COVERAGE, 512],
    ] as const) {
      const bytes = pattern(length, at);
      await node.write(at, bytes);
      expected.set(bytes, at);
    }
    expectSame(await readAll(node), expected);
    await node.close();
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
    expectSame(await readAll(await openQed(new TestStorage(storage.bytes), { readOnly: true })), expected);
  });

  test('the rest of a new cluster comes from the backing file, and zeroes past its end', async () => {
    const base = pattern(CLUSTER + 1024, 7);
    const storage = await image(3 * CLUSTER, { backing_file: 'base' });
    const node = await openQed(storage, { backing: new BytesNode(base) });
    await node.write(512, pattern(512, 1));
    await node.write(CLUSTER + 2048, pattern(512, 2));
    const expected = new Uint8Array(3 * CLUSTER);
    expected.set(base);
    expected.set(pattern(512, 1), 512);
    expected.set(pattern(512, 2), CLUSTER + 2048);
    expectSame(await readAll(node), expected);
    node.replaceBacking(null);
    expectSame(await readAll(node), expected);
  });

  test('zero clusters hide the backing file and become data again', async () => {
    const base = pattern(4 * CLUSTER, 3);
    const storage = await image(4 * CLUSTER, { backing_file: 'base' });
    const node = await openQed(storage, { backing: new BytesNode(base) });
    await node.writeZeroes(100, 3 * CLUSTER);
    const expected = base.slice().fill(0, 100, 100 + 3 * CLUSTER);
    expectSame(await readAll(node), expected);
    expect(node.blockStatus(CLUSTER, CLUSTER)).toMatchObject({ class: 'zero' });
    await node.write(CLUSTER + 5, pattern(5, 5));
    expected.set(pattern(5, 5), CLUSTER + 5);
    expectSame(await readAll(node), expected);
    expect(node.blockStatus(0, 4 * CLUSTER)).toMatchObject({ class: 'data' });
    expect(node.blockStatus(2 * CLUSTER, 2 * CLUSTER)).toEqual({ class: 'zero', length: CLUSTER, hostOffset: null });
  });

  test('zeroes over nothing take no space, and zeroes over data stay in place', async () => {
    const storage = await image(8 * CLUSTER);
    const node = await openQed(storage);
    await node.writeZeroes(100, 2 * CLUSTER);
    await node.flush();
    // Header, L1 table, L2 table of two clusters each.
    expect(storage.size).toBe(5 * CLUSTER);
    await node.write(4 * CLUSTER, pattern(CLUSTER, 1));
    await node.writeZeroes(4 * CLUSTER, 100, { mayUnmap: true });
    const expected = new Uint8Array(8 * CLUSTER);
    expected.set(pattern(CLUSTER, 1).fill(0, 0, 100), 4 * CLUSTER);
    expectSame(await readAll(node), expected);
    expect(() => node.writeZeroes(4 * CLUSTER, 100, { noFallback: true })).toThrow(
      expect.objectContaining({ code: 'request.unsupported' }),
    );
  });

  test('garbage behind the last whole cluster never shows', async () => {
    const storage = await image(4 * CLUSTER);
    await storage.write(pattern(1000, 9), storage.size);
    const node = await openQed(storage);
    await node.write(10, pattern(10, 1));
    const expected = new Uint8Array(4 * CLUSTER);
    expected.set(pattern(10, 1), 10);
    expectSame(await readAll(node), expected);
  });

  test('an image opened for reading is not written', async () => {
    const storage = await image(4 * CLUSTER);
    const node = await openQed(storage, { readOnly: true });
    for (const change of [
      () => node.write(0, new Uint8Array(1)),
      () => node.writeZeroes(0, 1),
      () => node.discard(0, 1),
      () => node.resize(8 * CLUSTER),
      () => node.changeBackingFile(null, null),
    ]) {
      await expect((async () => change())()).rejects.toMatchObject({ code: 'request.readOnly' });
    }
    const before = storage.operations;
    await node.flush();
    await node.close();
    expect(storage.operations).toBe(before);
    expect(storage.closed).toBe(true);
  });

  test('requests outside the disk are refused', async () => {
    const node = await openQed(await image(4 * CLUSTER));
    expect(() => node.read(4 * CLUSTER - 1, new Uint8Array(2))).toThrow(expect.objectContaining({ code: 'request.invalid' }));
    expect(() => node.write(-1, new Uint8Array(2))).toThrow(expect.objectContaining({ code: 'request.invalid' }));
    expect(() => node.blockStatus(4 * CLUSTER, 0)).toThrow(expect.objectContaining({ code: 'request.invalid' }));
  });

  test('tables larger than the cache are kept apart', async () => {
    const storage = new TestStorage();
    await createQed(storage, { size: 64 * COVERAGE, cluster_size: CLUSTER, table_size: 2 });
    const node = await openQed(storage, { cacheBytes: 1 });
    for (let round = 0; round < 2; round++) {
      for (let table = 0; table < 64; table++) {
        await node.write(table * COVERAGE + round * CLUSTER, pattern(16, table * 2 + round));
      }
    }
    await node.close();
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
    const again = await openQed(new TestStorage(storage.bytes), { readOnly: true });
    const target = new Uint8Array(16);
    for (let table = 0; table < 64; table++) {
      await again.read(table * COVERAGE + CLUSTER, target);
      expect(target).toEqual(pattern(16, table * 2 + 1));
    }
  });
});

describe('the mark of an image in use', () => {
  test('is on the disk before the first change of a table, and goes when the image was idle for 5 seconds', async () => {
    const storage = await image(4 * CLUSTER);
    const timers: { ms: number; fire: () => void }[] = [];
    const node = await openQed(storage, {
      idleTimer: (ms, fire) => {
        timers.push({ ms, fire });
        return () => undefined;
      },
    });
    const start = storage.log.length;
    await node.write(0, pattern(10, 1));
    const [first, second] = storage.log.slice(start);
    expect(first).toMatchObject({ kind: 'write', hostOffset: 0 });
    expect(second).toEqual({ kind: 'flush', accepted: start + 1 });
    expect(readQedMetadata(storage).needCheck).toBe(true);
    await node.write(CLUSTER, pattern(10, 1));
    timers[0]!.fire();
    expect(timers.map(({ ms }) => ms)).toEqual([5000, 5000]);
    timers[1]!.fire();
    await expect.poll(() => readQedMetadata(storage).needCheck).toBe(false);
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
    // And comes again.
    await node.write(2 * CLUSTER, pattern(10, 1));
    expect(readQedMetadata(storage).needCheck).toBe(true);
    await node.close();
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
  });

  test('is not needed for writes in place', async () => {
    const storage = await image(4 * CLUSTER);
    const node = await openQed(storage);
    await node.write(0, pattern(10, 1));
    await node.close();
    const again = await openQed(storage);
    await again.write(5, pattern(10, 2));
    expect(readQedMetadata(storage).needCheck).toBe(false);
  });

  test('a failed flush while idle is told by the next one', async () => {
    const storage = await image(4 * CLUSTER);
    const timers: (() => void)[] = [];
    const node = await openQed(storage, {
      idleTimer: (_, fire) => {
        timers.push(fire);
        return () => undefined;
      },
    });
    await node.write(0, pattern(10, 1));
    storage.failAt = storage.operations + 1;
    timers[0]!();
    await expect.poll(() => timers.length).toBe(2);
    await expect(node.flush()).rejects.toMatchObject({ code: 'file.io' });
    await node.flush();
    await node.close();
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
  });

  test('an image that has it is repaired when it is opened for writing, and only then', async () => {
    const storage = await image(4 * CLUSTER);
    const node = await openQed(storage);
    await node.write(0, pattern(CLUSTER, 1));
    await node.flush();
    const bytes = storage.bytes;
    const view = new DataView(bytes.buffer);
    // L2 entries of guest clusters 1 and 2, and an L1 entry: past the end, not aligned, into the header.
    const l2 = Number(view.getBigUint64(CLUSTER, true));
    view.setBigUint64(l2 + 8, BigInt(bytes.length), true);
    view.setBigUint64(l2 + 16, BigInt(CLUSTER + 1), true);
    view.setBigUint64(CLUSTER + 8, 1n, true);
    const reading = new TestStorage(bytes);
    await openQed(reading, { readOnly: true });
    expect(reading.log).toEqual([]);
    const repaired = new TestStorage(bytes);
    const again = await openQed(repaired);
    expect(await checkOf(repaired.bytes)).toEqual(CLEAN);
    const expected = new Uint8Array(4 * CLUSTER);
    expected.set(pattern(CLUSTER, 1));
    expectSame(await readAll(again), expected);
  });

  test('stays on an image that the repair cannot put right, and nothing is written to that', async () => {
    const storage = await image(4 * CLUSTER);
    const node = await openQed(storage);
    await node.write(0, pattern(2 * CLUSTER, 1));
    await node.flush();
    const bytes = storage.bytes;
    const view = new DataView(bytes.buffer);
    const l2 = Number(view.getBigUint64(CLUSTER, true));
    view.setBigUint64(l2 + 8, view.getBigUint64(l2, true), true);
    const damaged = new TestStorage(bytes);
    const again = await openQed(damaged);
    expect(() => again.write(0, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'image.corrupt' }));
    await again.close();
    expectSame(damaged.bytes, bytes);
  });
});

describe('a hostile table', () => {
  async function withEntry(value: (l2: number) => number): Promise<TestStorage> {
    const storage = await image(2 * COVERAGE);
    const node = await openQed(storage);
    await node.write(0, pattern(CLUSTER, 1));
    await node.close();
    const bytes = storage.bytes;
    const view = new DataView(bytes.buffer);
    const l2 = Number(view.getBigUint64(CLUSTER, true));
    view.setBigUint64(l2 + 8, BigInt(value(l2)), true);
    return new TestStorage(bytes);
  }

  test.each([
    ['the header', () => 0x800],
    ['the L1 table', () => CLUSTER],
    ['an L2 table', (l2: number) => l2],
    ['past the end', () => 1 << 30],
    ['the middle of a cluster', () => 3 * CLUSTER + 512],
  ])('an entry that leads to %s stops all writing, and nothing changes', async (_, value) => {
    const storage = await withEntry(value);
    const before = storage.bytes;
    const node = await openQed(storage);
    await expect((async () => node.write(CLUSTER, pattern(CLUSTER, 5)))()).rejects.toMatchObject({ code: 'image.corrupt' });
    await expect((async () => node.write(0, pattern(CLUSTER, 5)))()).rejects.toMatchObject({ code: 'image.corrupt' });
    await expect((async () => node.writeZeroes(CLUSTER, CLUSTER))()).rejects.toMatchObject({ code: 'image.corrupt' });
    await node.close();
    expectSame(storage.bytes, before);
  });

  test('two L1 entries with one table stop all writing, not reading', async () => {
    const storage = await withEntry(() => 0);
    await storage.write(storage.bytes.slice(CLUSTER, CLUSTER + 8), CLUSTER + 8);
    const before = storage.bytes;
    const node = await openQed(storage);
    const target = new Uint8Array(CLUSTER);
    await node.read(COVERAGE, target);
    expect(target).toEqual(pattern(CLUSTER, 1));
    await expect((async () => node.write(2 * CLUSTER, pattern(1, 5)))()).rejects.toMatchObject({ code: 'image.corrupt' });
    await node.close();
    expectSame(storage.bytes, before);
  });
});

describe('the header', () => {
  test('grows the disk; what is new reads as zero, also over a longer backing file', async () => {
    const base = pattern(6 * CLUSTER, 4);
    const storage = await image(CLUSTER + 512, { backing_file: 'base' });
    const node = await openQed(storage, { backing: new BytesNode(base) });
    await node.resize(8 * CLUSTER + 512);
    const expected = new Uint8Array(8 * CLUSTER + 512);
    expected.set(base.subarray(0, CLUSTER + 512));
    expectSame(await readAll(node), expected);
    await node.close();
    expect(await checkOf(storage.bytes)).toEqual(CLEAN);
    expect(readQedMetadata(storage).size).toBe(8 * CLUSTER + 512);
  });

  test('grows over more L2 tables, and over what an earlier writer left in the last cluster', async () => {
    const storage = await image(CLUSTER);
    const first = await openQed(storage);
    await first.write(0, pattern(CLUSTER, 1));
    await first.close();
    await storage.write(new Uint8Array([0, 2, 0, 0]), 48);
    const node = await openQed(storage);
    expect(node.size).toBe(512);
    await node.resize(3 * COVERAGE);
    await node.write(2 * COVERAGE, pattern(10, 2));
    const expected = new Uint8Array(3 * COVERAGE);
    expected.set(pattern(CLUSTER, 1).subarray(0, 512));
    expected.set(pattern(10, 2), 2 * COVERAGE);
    expectSame(await readAll(node), expected);
  });

  test('refuses what the format cannot do', async () => {
    const node = await openQed(await image(4 * CLUSTER));
    await expect(node.resize(CLUSTER)).rejects.toMatchObject({ code: 'request.unsupported' });
    await expect(node.resize(8 * CLUSTER, 'full')).rejects.toMatchObject({ code: 'request.unsupported' });
    await expect(node.resize(4 * CLUSTER + 1)).rejects.toMatchObject({ code: 'request.invalid' });
    await expect(node.resize(1024 * COVERAGE + 512)).rejects.toMatchObject({ code: 'request.invalid' });
  });

  test.each([
    ['short', 'next', 'raw'],
    ['long', 'n'.repeat(1000), null],
  ])('changes the backing file to a %s name; at no point are header and name of two minds', async (_, name, format) => {
    const long = 'o'.repeat(1000);
    const storage = await image(4 * CLUSTER, { backing_file: long });
    const start = storage.bytes;
    storage.log.length = 0;
    const node = await openQed(storage);
    await node.changeBackingFile(name, format);
    expect(readQedMetadata(storage)).toMatchObject({ backingFile: { name }, backingFormat: format, problems: [] });
    for (let count = 0; count <= storage.log.length; count++) {
      for (const keep of [() => true, () => false, (operation: number) => operation % 2 === 0]) {
        const left = readQedMetadata(new MemorySource(crashed(start, storage.log, count, keep)));
        expect([long, name]).toContain(left.backingFile?.name);
      }
    }
    await node.changeBackingFile('x'.repeat(1023), null);
    expect(readQedMetadata(storage)).toMatchObject({ backingFile: { name: 'x'.repeat(1023) }, backingFormat: null });
    await node.changeBackingFile(null, null);
    expect(readQedMetadata(storage)).toMatchObject({ backingFile: null, features: 0n });
    await expect(node.changeBackingFile('x'.repeat(1024), null)).rejects.toMatchObject({ code: 'request.invalid' });
  });

  test('keeps fields that nobody knows, except those that a writer must clear', async () => {
    const storage = await image(4 * CLUSTER);
    await storage.write(new Uint8Array([0xaa]), 24);
    await storage.write(new Uint8Array([0xbb]), 32);
    const node = await openQed(storage);
    expect(storage.bytes[32]).toBe(0);
    await node.write(0, new Uint8Array(1));
    await node.close();
    expect(storage.bytes[24]).toBe(0xaa);
    const again = await openQed(storage);
    await expect(again.changeBackingFile('x', null)).rejects.toMatchObject({ code: 'request.unsupported' });
  });
});

describe('creation', () => {
  test.each([
    [{ size: 512, cluster_size: 1000 }, 'QED cluster size must be within range [4096, 67108864] and power of 2'],
    [{ size: 512, table_size: 3 }, 'QED table size must be within range [1, 16] and power of 2'],
    [
      { size: 2 ** 40, cluster_size: 4096, table_size: 1 },
      'QED image size must be a non-zero multiple of cluster size and less than 1073741824 bytes',
    ],
  ])("%j is refused in QEMU's words", async (options, message) => {
    const storage = new TestStorage(pattern(100, 1));
    await expect(createQed(storage, options)).rejects.toMatchObject({ code: 'request.invalid', message });
    expect(storage.log).toEqual([]);
  });
});
