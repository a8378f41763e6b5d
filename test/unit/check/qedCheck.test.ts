import { describe, expect, it } from 'vitest';
import { checkImage } from '../../../src/engine/check/check';
import { checkQed, type QedCheckOptions } from '../../../src/engine/check/qedCheck';
import { QedSlots } from '../../../src/engine/check/qedSlots';
import type { CheckResult } from '../../../src/engine/check/qcow2Check';
import { readQedMetadata } from '../../../src/engine/formats/qed/metadata';
import { Random, testCases, testSeed } from '../../interop/random';
import { SparseSource } from '../inspect/memory';

const CLUSTER = 4096;
const TABLE = 2;
const ENTRIES = (CLUSTER * TABLE) / 8;

interface QedImage {
  /** L2 entries by L1 row; a row without a table is null. */
  readonly tables: readonly (readonly bigint[] | null)[];
  readonly clusters: number;
  readonly l1: readonly bigint[];
  readonly tableOffsets: readonly number[];
}

/** An image's bytes; only what is not zero, the rest is hole. */
function source({ tables, clusters, l1, tableOffsets }: QedImage): SparseSource {
  const header = new DataView(new ArrayBuffer(64));
  header.setUint32(0, 0x00444551, true);
  header.setUint32(4, CLUSTER, true);
  header.setUint32(8, TABLE, true);
  header.setUint32(12, 1, true);
  header.setBigUint64(40, BigInt(CLUSTER), true);
  header.setBigUint64(48, BigInt(tables.length * ENTRIES * CLUSTER), true);
  const pieces = [
    { hostOffset: 0, bytes: new Uint8Array(header.buffer) },
    { hostOffset: CLUSTER, bytes: words(l1) },
    ...tables.flatMap((entries, row) => (entries ? [{ hostOffset: tableOffsets[row] ?? 0, bytes: words(entries) }] : [])),
  ];
  return new SparseSource(pieces, clusters * CLUSTER);
}

function words(values: readonly bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 8));
  values.forEach((value, index) => {
    view.setBigUint64(index * 8, value, true);
  });
  return new Uint8Array(view.buffer);
}

/** What QEMU counts, cluster after cluster, with its own arithmetic. */
function reference({
  clusters,
  l1,
  tables,
  tableOffsets,
}: QedImage): Pick<CheckResult['counts'], 'corruptions' | 'leaks' | 'allocatedClusters' | 'fragmentedClusters'> {
  const end = clusters * CLUSTER;
  const slot = (offset: number): number => Math.floor(offset / (CLUSTER - 1));
  const used = new Set<number>();
  const counts = { corruptions: 0, leaks: 0, allocatedClusters: 0, fragmentedClusters: 0 };
  const use = (offset: number, count: number): boolean => {
    let clash = 0;
    for (let i = 0; i < count; i++) {
      clash += used.has(slot(offset) + i) ? 1 : 0;
      used.add(slot(offset) + i);
    }
    counts.corruptions += clash;
    return clash === 0;
  };
  const valid = (offset: bigint): boolean => offset % BigInt(CLUSTER) === 0n && offset >= BigInt(CLUSTER) && offset < BigInt(end);
  use(CLUSTER, TABLE);
  for (const entry of l1) {
    if (entry === 0n) {
      continue;
    }
    if (!valid(entry) || !valid(entry + BigInt((TABLE - 1) * CLUSTER))) {
      counts.corruptions++;
      continue;
    }
    if (!use(Number(entry), TABLE)) {
      continue;
    }
    let last: bigint | null = null;
    const row = tableOffsets.indexOf(Number(entry));
    for (const data of tables[row] ?? []) {
      if (data < 2n) {
        continue;
      }
      counts.allocatedClusters++;
      counts.fragmentedClusters += last !== null && last + BigInt(CLUSTER) !== data ? 1 : 0;
      last = data;
      if (!valid(data)) {
        counts.corruptions++;
      } else {
        use(Number(data), 1);
      }
    }
  }
  for (let i = 1; i < slot(end); i++) {
    counts.leaks += used.has(i) ? 0 : 1;
  }
  return counts;
}

function randomQed(random: Random): QedImage {
  const rows = random.between(1, 12);
  const l1: bigint[] = [];
  const tables: (bigint[] | null)[] = [];
  const tableOffsets: number[] = [];
  // Now and then more clusters than cluster_size - 1, where QEMU's numbering makes its first jump.
  let next = 1 + TABLE + (random.chance(0.5) ? random.between(CLUSTER - 1100, CLUSTER - 3) : 0);
  for (let row = 0; row < rows; row++) {
    if (random.chance(0.2)) {
      l1.push(0n);
      tables.push(null);
      tableOffsets.push(-1);
      continue;
    }
    tableOffsets.push(next * CLUSTER);
    l1.push(BigInt(next * CLUSTER));
    next += TABLE;
    const entries: bigint[] = [];
    while (entries.length < ENTRIES) {
      const kind = random.below(4);
      const run = Math.min(random.between(1, 200), ENTRIES - entries.length);
      for (let i = 0; i < run; i++) {
        entries.push(kind === 0 ? 0n : kind === 1 ? 1n : BigInt(next++ * CLUSTER));
      }
    }
    tables.push(entries);
  }
  return { l1, tables, tableOffsets, clusters: next + (random.chance(0.3) ? random.below(5) : 0) };
}

function damaged(random: Random, image: QedImage): QedImage {
  const tables = image.tables.map((table) => (table ? [...table] : null));
  const l1 = [...image.l1];
  const anything = (): bigint =>
    random.pick([
      0n,
      1n,
      512n,
      BigInt(random.below(image.clusters + 2) * CLUSTER),
      BigInt(random.pick(image.tableOffsets) ?? 0) & 0xfffffffffffff000n,
      0xfffffffffffff000n,
      (BigInt(random.bits()) << 32n) | BigInt(random.bits()),
    ]);
  for (let count = random.between(1, 5); count > 0; count--) {
    const table = random.pick(tables);
    if (table) {
      const at = random.below(ENTRIES);
      table[at] = random.chance(0.5) ? anything() : (table[random.below(ENTRIES)] ?? 0n);
    }
  }
  if (random.chance(0.3)) {
    l1[random.below(l1.length)] = random.pick([BigInt(random.below(image.clusters) * CLUSTER) & ~0xfffn, image.l1[0] ?? 0n, 77n]);
  }
  // An L1 entry that leads to no table we wrote would need a table in the reference: keep to those.
  return {
    ...image,
    tables,
    l1: l1.map((entry) => (entry % BigInt(CLUSTER) === 0n && !image.tableOffsets.includes(Number(entry)) ? 0n : entry)),
  };
}

const OPTIONS: QedCheckOptions = { deep: false, maxFindings: 1000 };

async function check(image: QedImage, options: Partial<QedCheckOptions> = {}): Promise<CheckResult> {
  return checkQed(readQedMetadata(source(image)), { ...OPTIONS, ...options });
}

function counts({ counts: all }: CheckResult): ReturnType<typeof reference> {
  const { corruptions, leaks, allocatedClusters, fragmentedClusters } = all;
  return { corruptions, leaks, allocatedClusters, fragmentedClusters };
}

describe('a QED check', () => {
  const seed = testSeed();

  it(`counts what the plain reference counts, in one window or several (CHAINSCOPE_SEED=${seed})`, async () => {
    for (let i = 0; i < testCases(60); i++) {
      const random = new Random(seed + i);
      const sound = randomQed(random);
      const image = random.chance(0.3) ? sound : damaged(random, sound);
      const wanted = reference(image);
      const context = `seed ${seed + i}`;
      for (const options of [{}, { loops: 'js' }, { window: 32 * random.between(1, 60) }] as const) {
        const report = await check(image, options);
        expect(counts(report), `${context} ${JSON.stringify(options)}`).toEqual(wanted);
        const sum = (category: string): number =>
          report.kinds.filter((kind) => kind.category === category).reduce((total, { count }) => total + count, 0);
        expect([sum('corruption'), sum('leak')], context).toEqual([wanted.corruptions, wanted.leaks]);
      }
    }
  });

  it("says of QEMU's phantom leaks that nothing is leaked", async () => {
    const entries = Array.from({ length: ENTRIES }, (_, i) => BigInt((3 + TABLE + i) * CLUSTER));
    const filler = (1 + TABLE + TABLE + ENTRIES) * CLUSTER;
    const rows = 5;
    const image: QedImage = {
      l1: Array.from({ length: rows }, (_, row) => BigInt((3 + row * (TABLE + ENTRIES)) * CLUSTER)),
      tableOffsets: Array.from({ length: rows }, (_, row) => (3 + row * (TABLE + ENTRIES)) * CLUSTER),
      tables: Array.from({ length: rows }, (_, row) => entries.map((entry) => entry + BigInt(row * (filler - 3 * CLUSTER)))),
      clusters: 3 + rows * (TABLE + ENTRIES),
    };
    const report = await check(image);
    expect(report).toMatchObject({ exitCode: 3, counts: { leaks: 1, corruptions: 0 } });
    expect(report.findings).toHaveLength(1);
    expect(report.findings[0]).toMatchObject({
      kind: 'leak',
      message:
        'QEMU counts 1 leaked cluster that the file does not have: its check divides offsets by cluster_size - 1, and finds one cluster too many after every 4095.',
      cluster: null,
    });
    expect(report.clusters.leaked.ranges).toHaveLength(0);
  });

  it('says what a leaked cluster holds', async () => {
    const image: QedImage = { l1: [0n], tableOffsets: [3 * CLUSTER], tables: [[BigInt(5 * CLUSTER), BigInt(6 * CLUSTER)]], clusters: 8 };
    const report = await check(image);
    expect(report.kinds).toEqual([
      { kind: 'leak', category: 'leak', count: 5 },
      { kind: 'lostTable', category: 'extra', count: 1 },
    ]);
  });

  it('numbers clusters as QEMU does, and back', () => {
    const slots = new QedSlots(100_000, CLUSTER);
    for (let cluster = 0; cluster < 100_000; cluster += 7) {
      expect(slots.of(cluster)).toBe(Math.floor((cluster * CLUSTER) / (CLUSTER - 1)));
      expect(slots.clusterAt(slots.of(cluster))).toBe(cluster);
    }
    expect(slots.clusterAt(CLUSTER - 1)).toBe(-1);
    expect(slots.empty).toBe(Math.floor(slots.total / CLUSTER));
  });
});

describe('checking by format', () => {
  it.each(['raw', 'vmdk'] as const)('%s has no check', async (format) => {
    await expect(checkImage(new SparseSource([], 512), format, OPTIONS)).rejects.toMatchObject({
      code: 'format.unsupported',
      message: 'This image format does not support checks',
    });
  });
});
