import { describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import type { TableRow } from '../../../src/protocol/inspect';
import type { TableId } from '../../../src/protocol/place';
import type { Inspector } from '../../../src/engine/inspect/inspector';
import { Random, testSeed } from '../../interop/random';
import { bigEndian, inspect, sourceOf, SparseSource } from './memory';

const ACTIVE = { kind: 'active' } as const;
const L2: TableId = { kind: 'l2', view: ACTIVE };
const L1: TableId = { kind: 'l1', view: ACTIVE };
const REFCOUNTS: TableId = { kind: 'refcounts' };

function rows(inspector: Inspector, table: TableId, first: number, count: number): readonly TableRow[] {
  return inspector.tablePage({ table, first, count }).rows;
}

/** Every row whose entry is not zero, by asking for the next one until there is none. */
async function walk(inspector: Inspector, table: TableId, from: number, backwards: boolean): Promise<number[]> {
  const found: number[] = [];
  for (let row = await inspector.nextUsedRow(table, from, backwards); row >= 0;) {
    found.push(row);
    row = await inspector.nextUsedRow(table, row, backwards);
  }
  return found;
}

describe('the tables of a qcow2 image', () => {
  const builder = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 })
    .write(0, Uint8Array.of(1))
    .zero(1)
    .zero(2, true)
    .writeCompressed(3, new Uint8Array(4096).fill(7))
    .write(250, Uint8Array.of(2))
    .snapshot({ id: '1', name: 'first', dateSec: 1, uptimeSec: 0 })
    .write(0, Uint8Array.of(3));
  const image = builder.build();
  const inspector = inspect(sourceOf(image));

  it('have shapes with declarations, for each view', async () => {
    const shapes = await inspector.tableShapes(ACTIVE);
    expect(shapes.map(({ table, title, rows: count, rowsPerParent }) => [table.kind, title, count, rowsPerParent])).toEqual([
      ['l1', 'L1 table', 1, 0],
      ['l2', 'L2 tables', 512, 512],
      ['refcountTable', 'Refcount table', 512, 0],
      ['refcounts', 'Refcounts', image.layout.fileSize / 4096, 2048],
    ]);
    expect(shapes[1]?.entries?.map(({ title, kinds }) => [title, kinds])).toEqual([
      ['compressed cluster descriptor', ['compressed']],
      ['L2 table entry', null],
    ]);
    const [snapshot] = await inspector.tableShapes({ kind: 'snapshot', index: 0 });
    expect(snapshot?.title).toBe("L1 table of snapshot 1 'first'");
    await expect(inspector.tableShapes({ kind: 'snapshot', index: 9 })).rejects.toMatchObject({ code: 'request.invalid' });
  });

  it('decode L2 entries of every kind', () => {
    const [data, zero, preallocated, compressed, unallocated] = rows(inspector, L2, 0, 5);
    expect(data).toMatchObject({ kind: 'data', flags: ['OFLAG_COPIED'], targetLength: 4096, problem: null, guestOffset: 0 });
    expect(data?.target).toEqual({ kind: 'host', hostOffset: data?.targetOffset, length: 4096 });
    expect(zero).toMatchObject({ kind: 'zero', flags: ['OFLAG_ZERO'], targetOffset: null, rawHex: '0000000000000001', guestOffset: 4096 });
    expect(preallocated).toMatchObject({ kind: 'zero', flags: ['OFLAG_ZERO'], targetLength: 4096 });
    expect(compressed).toMatchObject({ kind: 'compressed', flags: ['OFLAG_COMPRESSED'], targetLength: 512, problem: null });
    expect(unallocated).toMatchObject({ kind: 'unallocated', rawHex: '0000000000000000', target: null });
    expect(unallocated?.hostOffset).toBe((image.layout.l2TableOffsets[0] ?? 0) + 32);
    expect(rows(inspector, L2, 256, 1)[0]?.flags).toEqual(['past the end of the disk']);
  });

  it("show a snapshot's mapping, and no quarrel with its COPIED flags", () => {
    const [then] = rows(inspector, { kind: 'l2', view: { kind: 'snapshot', index: 0 } }, 0, 1);
    const [now] = rows(inspector, L2, 0, 1);
    expect(then?.targetOffset).not.toBe(now?.targetOffset);
    expect(then?.problem).toBeNull();
  });

  it('lead from L1 to L2, and from the refcount table to the counts', () => {
    expect(rows(inspector, L1, 0, 1)[0]).toMatchObject({ kind: 'table', target: { kind: 'tableRow', table: L2, row: 0 } });
    expect(rows(inspector, { kind: 'refcountTable' }, 0, 2)).toMatchObject([
      { kind: 'block', target: { kind: 'tableRow', table: REFCOUNTS, row: 0 } },
      { kind: 'unallocated', target: null },
    ]);
    expect(rows(inspector, REFCOUNTS, 0, 1)[0]).toMatchObject({ kind: 'refcount 1', refcount: 1, target: { kind: 'host', hostOffset: 0 } });
  });

  it('page without end or beginning', () => {
    expect(rows(inspector, L2, 510, 100)).toHaveLength(2);
    expect(rows(inspector, L2, 100_000, 10)).toHaveLength(0);
    expect(rows(inspector, L2, -5, 10_000)).toHaveLength(512);
  });

  it('find the next used row both ways', async () => {
    expect(await walk(inspector, L2, -1, false)).toEqual([0, 1, 2, 3, 250]);
    expect(await walk(inspector, L2, 512, true)).toEqual([250, 3, 2, 1, 0]);
    expect(await walk(inspector, L1, -1, false)).toEqual([0]);
    expect(await walk(inspector, { kind: 'refcountTable' }, 1e15, true)).toEqual([0]);
    expect(await inspector.nextUsedRow(L2, 250, false)).toBe(-1);
  });

  it('say what is wrong with an entry', () => {
    const at = (image.layout.l2TableOffsets[0] ?? 0) + 8 * 100;
    const words = [
      0x8000000000001700n, // not aligned, reserved
      0x8000000010000000n, // past the end
      0xc000000000001000n, // compressed and COPIED
      0x00fffffffffff000n, // past 2^53-1
      BigInt(rows(inspector, L2, 250, 1)[0]?.targetOffset ?? 0), // refcount is 2 after the snapshot
      (1n << 63n) | BigInt(rows(inspector, L2, 250, 1)[0]?.targetOffset ?? 0),
    ];
    const bytes = Uint8Array.from(words.flatMap((word) => [...bigEndian(word, 8)]));
    const broken = inspect(sourceOf(image, [{ hostOffset: at, bytes }]));
    expect(rows(broken, L2, 100, 6).map(({ problem }) => problem)).toEqual([
      'Reserved bits 0x100 are set. The offset 0x1600 is not aligned to a cluster (0x1000).',
      `0x10000000 lies past the end of the file (0x${image.layout.fileSize.toString(16)}).`,
      'OFLAG_COPIED is set, which a compressed cluster never has.',
      'The offset 0xfffffffffff000 is past 2^53-1.',
      null,
      'OFLAG_COPIED is set, but the refcount is 2.',
    ]);
  });

  it('survive a file that ends inside a table', () => {
    const { fileSize, l1TableOffset } = image.layout;
    const l1 = { hostOffset: l1TableOffset, bytes: bigEndian(fileSize, 8) };
    const cut = inspect(sourceOf(image, [l1, { hostOffset: fileSize, bytes: new Uint8Array(12) }], fileSize + 12));
    expect(rows(cut, L2, 0, 3).map(({ rawHex, problem }) => [rawHex.length, problem?.slice(0, 41) ?? null])).toEqual([
      [16, null],
      [8, 'The entry lies past the end of the file, '],
      [0, 'The entry lies past the end of the file, '],
    ]);
  });
});

describe('extended L2 entries', () => {
  const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 14, extendedL2: true })
    .write(0, Uint8Array.of(1))
    .zero(1)
    .writeSubclusters(2, new Uint8Array(16384).fill(5), 0x0000000f, 0x80000000)
    .build();

  it('show their subclusters', async () => {
    const inspector = inspect(sourceOf(image));
    expect(rows(inspector, L2, 0, 4).map(({ kind, subclusters, problem }) => ({ kind, subclusters, problem }))).toEqual([
      { kind: 'data', subclusters: { allocated: 0xffffffff, zero: 0 }, problem: null },
      { kind: 'zero', subclusters: { allocated: 0, zero: 0xffffffff }, problem: null },
      { kind: 'subclusters', subclusters: { allocated: 0xf, zero: 0x80000000 }, problem: null },
      { kind: 'unallocated', subclusters: { allocated: 0, zero: 0 }, problem: null },
    ]);
    const [, l2] = await inspector.tableShapes(ACTIVE);
    expect(l2?.entries?.[1]?.bits.map(({ name, lowBit }) => `${name} ${lowBit}`).slice(-2)).toEqual(['allocated 64', 'zero 96']);
  });

  it('say when their bitmaps contradict each other', () => {
    const at = image.layout.l2TableOffsets[0] ?? 0;
    const bytes = Uint8Array.from([...bigEndian(0, 8), ...bigEndian(0x1_00000001n, 8)]);
    const [row] = rows(inspect(sourceOf(image, [{ hostOffset: at, bytes }])), L2, 0, 1);
    expect(row?.problem).toBe('A subcluster is marked both allocated and zero. Subclusters are marked allocated, but no host cluster is.');
  });
});

describe('refcounts of every width', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])('are read and searched with refcount_order %i', async (refcountOrder) => {
    const builder = new Qcow2Builder({ size: 2 ** 20, clusterBits: 9, refcountOrder });
    for (let cluster = 0; cluster < 40; cluster += 3) {
      builder.write(cluster, Uint8Array.of(cluster));
    }
    const image = builder.build();
    const inspector = inspect(sourceOf(image));
    const shape = (await inspector.tableShapes(ACTIVE)).find(({ table }) => table.kind === 'refcounts');
    expect(shape).toMatchObject({ rows: image.layout.fileSize / 512, rowsPerParent: 4096 / 2 ** refcountOrder });
    const counts: (number | null)[] = [];
    for (let first = 0; first < (shape?.rows ?? 0); first += 512) {
      counts.push(...rows(inspector, REFCOUNTS, first, Math.min(512, (shape?.rows ?? 0) - first)).map(({ refcount }) => refcount));
    }
    // The builder uses every cluster of the file exactly once.
    expect(new Set(counts)).toEqual(new Set([1]));
    expect(await walk(inspector, REFCOUNTS, -1, false)).toEqual(counts.map((_, row) => row));
    expect(await walk(inspector, REFCOUNTS, counts.length, true)).toEqual(counts.map((_, row) => row).reverse());
  });

  it('show the greatest count of 64 bits', () => {
    const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12, refcountOrder: 6 }).build();
    const at = (image.layout.refcountBlockOffsets[0] ?? 0) + 8;
    const patched = inspect(sourceOf(image, [{ hostOffset: at, bytes: bigEndian(2n ** 64n - 1n, 8) }]));
    expect(rows(patched, REFCOUNTS, 1, 1)[0]).toMatchObject({ kind: 'refcount 18446744073709551615', rawHex: 'ffffffffffffffff' });
  });

  it('reach past the end of the file only where a count stands there', async () => {
    const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).build();
    const clusters = image.layout.fileSize / 4096;
    const at = (image.layout.refcountBlockOffsets[0] ?? 0) + 2 * (clusters + 7);
    const shapes = await inspect(sourceOf(image, [{ hostOffset: at, bytes: bigEndian(1, 2) }])).tableShapes(ACTIVE);
    expect(shapes.find(({ table }) => table.kind === 'refcounts')?.rows).toBe(clusters + 8);
  });
});

describe('searching big tables', () => {
  it('finds scattered entries of random images as a plain pass does', async () => {
    const random = new Random(testSeed());
    for (let round = 0; round < 5; round++) {
      const clusterBits = random.between(9, 13);
      const builder = new Qcow2Builder({ size: 2 ** clusterBits * 50_000, clusterBits });
      const used = new Set(Array.from({ length: random.between(1, 60) }, () => random.below(50_000)));
      for (const cluster of used) {
        builder.write(cluster, Uint8Array.of(1));
      }
      const inspector = inspect(sourceOf(builder.build()));
      const sorted = [...used].sort((a, b) => a - b);
      expect(await walk(inspector, L2, -1, false), `seed ${random.seed}`).toEqual(sorted);
      expect(await walk(inspector, L2, 1e9, true), `seed ${random.seed}`).toEqual(sorted.reverse());
    }
  });

  it('jumps over the holes of a sparse terabyte', async () => {
    const image = new Qcow2Builder({ size: 2 ** 40 }).write(0, Uint8Array.of(1)).write(16_777_215, Uint8Array.of(1)).build();
    const source = sourceOf(image);
    const inspector = inspect(source);
    source.bytesRead = 0;
    expect(await walk(inspector, L2, -1, false)).toEqual([0, 16_777_215]);
    expect(source.bytesRead).toBeLessThan(2 ** 20);
  });

  it('looks once at a table that the L1 names a million times', async () => {
    const image = new Qcow2Builder({ size: 2 ** 40 }).write(0, Uint8Array.of(1)).build();
    const { l1TableOffset, l2TableOffsets } = image.layout;
    const l1 = new Uint8Array(131072 - 8);
    const word = bigEndian(l2TableOffsets[0] ?? 0, 8);
    for (let at = 0; at < l1.length; at += 8) {
      l1.set(word, at);
    }
    const source = sourceOf(image, [
      { hostOffset: l1TableOffset + 8, bytes: l1 },
      { hostOffset: l2TableOffsets[0] ?? 0, bytes: new Uint8Array(8) },
    ]);
    expect(await inspect(source).nextUsedRow(L2, 0, false)).toBe(-1);
    expect(source.bytesRead).toBeLessThan(2 ** 28);
  });

  it('stops when it is cancelled', async () => {
    const aborted = AbortSignal.abort();
    const image = new Qcow2Builder({ size: 2 ** 40 }).build();
    await expect(inspect(sourceOf(image)).nextUsedRow(L2, 0, false, { signal: aborted })).rejects.toMatchObject({ code: 'cancelled' });
  });
});

describe('the tables of a QED image', () => {
  const word = (value: bigint) => new Uint8Array(new BigUint64Array([value]).buffer);
  const header = new DataView(new ArrayBuffer(64));
  header.setUint32(0, 0x00444551, true);
  header.setUint32(4, 4096, true);
  header.setUint32(8, 1, true);
  header.setUint32(12, 1, true);
  header.setBigUint64(40, 4096n, true);
  header.setBigUint64(48, 2n ** 30n, true);
  const source = new SparseSource(
    [
      { hostOffset: 0, bytes: new Uint8Array(header.buffer) },
      { hostOffset: 4096 + 8, bytes: word(8192n) },
      { hostOffset: 8192, bytes: Uint8Array.from([1n, 12288n, 100n, 1n << 60n, 1n << 30n].flatMap((value) => [...word(value)])) },
      { hostOffset: 12288, bytes: new Uint8Array(4096) },
    ],
    16384,
  );
  const inspector = inspect(source, 'qed');

  it('decode entries', () => {
    expect(rows(inspector, L2, 512, 5).map(({ kind, targetOffset, problem }) => [kind, targetOffset, problem])).toEqual([
      ['zero', null, null],
      ['data', 12288, null],
      ['data', 100, 'The offset 0x64 is not aligned to a cluster (0x1000). The offset 0x64 lies inside the header.'],
      ['data', null, 'The offset 0x1000000000000000 is past 2^53-1.'],
      ['data', 2 ** 30, '0x40000000 lies past the end of the file (0x4000).'],
    ]);
    expect(rows(inspector, L1, 1, 1)[0]).toMatchObject({ kind: 'table', target: { row: 512 } });
  });

  it('are searched', async () => {
    expect(await walk(inspector, L2, -1, false)).toEqual([512, 513, 514, 515, 516]);
    await expect(inspector.nextUsedRow(REFCOUNTS, 0, false)).rejects.toMatchObject({ code: 'request.invalid' });
  });
});
