import { describe, expect, it } from 'vitest';
import type { FindingKind } from '../../../src/protocol/check';
import { checkQcow2, type CheckResult, type Qcow2CheckOptions } from '../../../src/engine/check/qcow2Check';
import { Qcow2Builder, type BuilderOptions, type BuiltImage } from '../../../src/engine/formats/qcow2/builder';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { bigEndian, sourceOf, SparseSource } from '../inspect/memory';

const CLUSTER = 65536;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

function builder(options: Partial<BuilderOptions> = {}): Qcow2Builder {
  return new Qcow2Builder({ size: 64 * CLUSTER, ...options });
}

function filled(value: number): Uint8Array {
  return new Uint8Array(CLUSTER).fill(value);
}

interface Patch {
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

function word(hostOffset: number, value: bigint): Patch {
  return { hostOffset, bytes: bigEndian(value, 8) };
}

async function check(image: BuiltImage, patches: readonly Patch[] = [], options: Partial<Qcow2CheckOptions> = {}): Promise<CheckResult> {
  const source = sourceOf(image, patches);
  return checkQcow2(readQcow2Metadata(source), { deep: false, maxFindings: 100, ...options });
}

/** What was found, without the words. */
function kinds({ kinds: found }: CheckResult): Partial<Record<FindingKind, number>> {
  return Object.fromEntries(found.map(({ kind, category, count }) => [`${category} ${kind}`, count]));
}

function refcount(image: BuiltImage, cluster: number, value: number): Patch {
  return { hostOffset: (image.layout.refcountBlockOffsets[0] ?? 0) + cluster * 2, bytes: bigEndian(value, 2) };
}

function l2Entry(image: BuiltImage, index: number): number {
  return (image.layout.l2TableOffsets[0] ?? 0) + index * 8;
}

function mapping(image: BuiltImage, index: number): bigint {
  const source = sourceOf(image);
  const bytes = new Uint8Array(8);
  source.read(bytes, l2Entry(image, index));
  return new DataView(bytes.buffer).getBigUint64(0);
}

describe('what qemu-img check finds', () => {
  it('a sound image has nothing to report, and its counts', async () => {
    const image = builder().write(0, filled(1)).write(1, filled(2)).zero(2).writeCompressed(3, filled(3)).build();
    const report = await check(image);
    expect(report).toMatchObject({
      exitCode: 0,
      strictExitCode: 0,
      failure: null,
      findings: [],
      kinds: [],
      counts: {
        allocatedClusters: 3,
        fragmentedClusters: 1,
        compressedClusters: 1,
        totalClusters: 64,
        imageEndOffset: image.layout.fileSize,
      },
    });
  });

  it('a leaked cluster is named with its place in the refcounts', async () => {
    const image = builder().write(0, filled(1)).build();
    const free = image.layout.fileSize / CLUSTER;
    const source = new SparseSource([...image.pieces, refcount(image, free, 1)], image.layout.fileSize + CLUSTER);
    const report = await checkQcow2(readQcow2Metadata(source), { deep: false, maxFindings: 10 });
    expect(report).toMatchObject({ exitCode: 3, strictExitCode: 3, counts: { leaks: 1, corruptions: 0 } });
    expect(report.findings).toEqual([
      {
        kind: 'leak',
        category: 'leak',
        message: `Cluster ${free} at 0x${(free * CLUSTER).toString(16)} has the refcount 1, but no references.`,
        consequence: 'Space is wasted; no data is known to be lost.',
        place: { kind: 'tableRow', table: { kind: 'refcounts' }, row: free },
        cluster: { kind: 'host', hostOffset: free * CLUSTER, length: CLUSTER },
        guest: null,
      },
    ]);
    expect([...report.clusters.leaked.ranges]).toEqual([free, free + 1]);
  });

  it('a cluster with a refcount too low is named with those who use it', async () => {
    const image = builder().write(0, filled(1)).build();
    const data = Number(mapping(image, 0) & 0xffffffffffffn);
    const report = await check(image, [refcount(image, data / CLUSTER, 0)]);
    expect(report.exitCode).toBe(2);
    expect(report.findings.map(({ kind, message, guest }) => ({ kind, message, guest }))).toEqual([
      {
        kind: 'copiedFlag',
        message: `L2 entry 0 at 0x${l2Entry(image, 0).toString(16)}, for guest offset 0x0, is 0x80000000000${data.toString(16)}: the COPIED flag is set, but the refcount is not one.`,
        guest: { guestOffset: 0, length: CLUSTER },
      },
      {
        kind: 'refcountTooLow',
        message: `Cluster ${data / CLUSTER} at 0x${data.toString(16)} has the refcount 0, but 1 reference: used by L2 entry 0 at 0x${l2Entry(image, 0).toString(16)}, for guest offset 0x0.`,
        guest: { guestOffset: 0, length: CLUSTER },
      },
    ]);
    expect([...report.clusters.corrupt.ranges]).toEqual([data / CLUSTER, data / CLUSTER + 1]);
  });

  it.each<[string, bigint, FindingKind]>([
    ['reserved bits', COPIED | (1n << 57n), 'reservedBits'],
    ['a compressed cluster with COPIED', COPIED | COMPRESSED | 0x10000n, 'compressedCopied'],
    ['an offset inside a cluster', COPIED | 0x10200n, 'misalignedData'],
    ['an offset past the end of the file', COPIED | 0x100000000n, 'referencePastEnd'],
  ])('an L2 entry with %s', async (_, entry, kind) => {
    const image = builder().write(0, filled(1)).build();
    const report = await check(image, [word(l2Entry(image, 5), entry)]);
    expect(report.findings.find((finding) => finding.kind === kind)).toMatchObject({
      category: 'corruption',
      place: { kind: 'tableRow', table: { kind: 'l2', view: { kind: 'active' } }, row: 5 },
      guest: { guestOffset: 5 * CLUSTER, length: CLUSTER },
    });
    expect(report.exitCode).toBe(2);
  });

  it('the limit keeps findings short and counts on', async () => {
    const writer = builder();
    for (let cluster = 0; cluster < 40; cluster++) {
      writer.write(cluster, filled(1));
    }
    const image = writer.build();
    const patches = Array.from({ length: 40 }, (_, index) => word(l2Entry(image, index), mapping(image, index) ^ COPIED));
    const report = await check(image, patches, { maxFindings: 3 });
    expect(report.findings).toHaveLength(3);
    expect(kinds(report)).toEqual({ 'corruption copiedFlag': 40 });
    expect(report.counts.corruptions).toBe(40);
  });

  it('extended L2: subclusters that are both allocated and zero, or allocated without a cluster', async () => {
    const image = new Qcow2Builder({ size: 64 * CLUSTER, extendedL2: true }).write(0, filled(1)).build();
    const table = image.layout.l2TableOffsets[0] ?? 0;
    const report = await check(image, [word(table + 8, 0x0000000100000001n), word(table + 16 + 8, 0x80n)]);
    expect(kinds(report)).toEqual({ 'corruption subclusterConflict': 2 });
    expect(report.findings.map(({ message }) => message.replace(/^.*?: /, ''))).toEqual([
      'the subclusters 0x1 are both allocated and zero.',
      'the cluster is unallocated, but its subclusters 0x80 are allocated.',
    ]);
  });

  it('a misaligned refcount block hides the refcounts of all its clusters', async () => {
    const image = builder().write(0, filled(1)).build();
    const report = await check(image, [word(image.layout.refcountTableOffset, BigInt((image.layout.refcountBlockOffsets[0] ?? 0) + 512))]);
    expect(kinds(report)).toEqual({ 'corruption misalignedRefcountBlock': 1, 'checkError unreadable': image.layout.fileSize / CLUSTER });
    expect(report).toMatchObject({ exitCode: 1, strictExitCode: 1, failure: null });
  });

  it('a snapshot table that cannot be read ends the check', async () => {
    const image = builder().write(0, filled(1)).build();
    const report = await check(image, [word(64, 12345n)]);
    expect(report).toMatchObject({
      exitCode: 1,
      failure: 'Invalid argument',
      kinds: [{ kind: 'snapshotTable', category: 'checkError', count: 1 }],
    });
  });
});

describe('what qemu-img check does not find', () => {
  it('two guest clusters on one host cluster, with a refcount that agrees', async () => {
    const image = builder().write(0, filled(1)).write(1, filled(2)).build();
    const shared = mapping(image, 0) & ~COPIED;
    const other = Number(mapping(image, 1) & 0xffffffffffffn) / CLUSTER;
    const patches = [
      word(l2Entry(image, 0), shared),
      word(l2Entry(image, 1), shared),
      refcount(image, Number(shared) / CLUSTER, 2),
      refcount(image, other, 0),
    ];
    const report = await check(image, patches);
    expect(kinds(report)).toEqual({ 'extra doublyUsedData': 1 });
    expect(report).toMatchObject({ exitCode: 0, strictExitCode: 2, counts: { corruptions: 0, leaks: 0 } });
    expect(report.findings[0]?.message).toBe(
      `Cluster ${Number(shared) / CLUSTER} at 0x${shared.toString(16)} is mapped more than once in the active layer: used by L2 entry 0 at 0x${l2Entry(image, 0).toString(16)}, for guest offset 0x0 and L2 entry 1 at 0x${l2Entry(image, 1).toString(16)}, for guest offset 0x10000.`,
    );
  });

  it('no false alarm: a snapshot shares the cluster, and compressed clusters share theirs', async () => {
    const image = builder()
      .write(0, filled(1))
      .writeCompressed(1, filled(2))
      .writeCompressed(2, filled(3))
      .snapshot({ id: '1', name: 'before', dateSec: 0, uptimeSec: 0 })
      .write(0, filled(4))
      .build();
    expect(await check(image)).toMatchObject({ kinds: [], exitCode: 0, strictExitCode: 0 });
  });

  it('a doubly used cluster is found under a snapshot, too', async () => {
    const image = builder()
      .write(0, filled(1))
      .write(1, filled(2))
      .snapshot({ id: '1', name: 'before', dateSec: 0, uptimeSec: 0 })
      .write(2, filled(3))
      .build();
    const shared = mapping(image, 0);
    const other = Number(mapping(image, 1)) / CLUSTER;
    const report = await check(image, [
      word(l2Entry(image, 1), shared),
      refcount(image, Number(shared) / CLUSTER, 3),
      refcount(image, other, 1),
    ]);
    expect(kinds(report)).toEqual({ 'extra doublyUsedData': 1 });
  });

  it('a data entry that points at the L1 table, with a refcount that agrees', async () => {
    const image = builder().write(0, filled(1)).build();
    const { l1TableOffset } = image.layout;
    const report = await check(image, [word(l2Entry(image, 3), BigInt(l1TableOffset)), refcount(image, l1TableOffset / CLUSTER, 2)]);
    expect(kinds(report)).toEqual({ 'extra dataIntoMetadata': 1 });
    expect(report.findings[0]?.message).toBe(
      `Cluster ${l1TableOffset / CLUSTER} at 0x${l1TableOffset.toString(16)} holds metadata, but guest data is mapped there too: used by the active L1 table and L2 entry 3 at 0x${l2Entry(image, 3).toString(16)}, for guest offset 0x30000.`,
    );
  });

  it('data mapped past the size in the header', async () => {
    const image = builder().write(0, filled(1)).write(50, filled(2)).write(51, filled(3)).build();
    const report = await check(image, [{ hostOffset: 24, bytes: bigEndian(10 * CLUSTER, 8) }]);
    expect(kinds(report)).toEqual({ 'extra mappedPastSize': 1 });
    expect(report.findings[0]?.guest).toEqual({ guestOffset: 50 * CLUSTER, length: 2 * CLUSTER });
  });

  it('a COPIED flag in a table that only a snapshot has', async () => {
    const image = builder()
      .write(0, filled(1))
      .snapshot({ id: '1', name: 'first', dateSec: 0, uptimeSec: 0 })
      .write(1, filled(2))
      .snapshot({ id: '2', name: 'second', dateSec: 0, uptimeSec: 0 })
      .write(2, filled(3))
      .build();
    const entry = snapshotL2(image) ?? 0;
    const source = sourceOf(image);
    const bytes = new Uint8Array(8);
    source.read(bytes, entry);
    const report = await check(image, [word(entry, new DataView(bytes.buffer).getBigUint64(0) | COPIED)]);
    expect(kinds(report)).toEqual({ 'extra snapshotCopiedFlag': 1 });
    expect(report.findings[0]?.place).toEqual({ kind: 'tableRow', table: { kind: 'l2', view: { kind: 'snapshot', index: 0 } }, row: 0 });
  });

  it('compressed clusters that do not decompress, only when asked to look', async () => {
    const image = builder().writeCompressed(0, filled(1)).writeCompressed(1, filled(2)).build();
    const at = Number(mapping(image, 1) & 0xffffffffffn);
    const garbage = { hostOffset: at, bytes: new Uint8Array(16).fill(0xff) };
    expect(await check(image, [garbage])).toMatchObject({ kinds: [], deep: false });
    const report = await check(image, [garbage], { deep: true });
    expect(kinds(report)).toEqual({ 'extra undecodableCompressed': 1 });
    expect(report.findings[0]?.place).toEqual({ kind: 'tableRow', table: { kind: 'l2', view: { kind: 'active' } }, row: 1 });
    expect(await check(image, [], { deep: true })).toMatchObject({ kinds: [], deep: true });
  });

  it('a chain that comes back to itself', async () => {
    const report = await check(builder().build(), [], { chainLoop: { path: '/images/disk.qcow2' } });
    expect(kinds(report)).toEqual({ 'extra chainLoop': 1 });
    expect(report).toMatchObject({ exitCode: 0, strictExitCode: 2 });
  });

  it('an external data file that ends before its data', async () => {
    const table = 3 * CLUSTER;
    const image = builder().write(0, filled(1)).build();
    const l2 = image.layout.l2TableOffsets[0] ?? 0;
    const data = Number(mapping(image, 0) & 0xffffffffffffn) / CLUSTER;
    const patches = [
      { hostOffset: 72, bytes: bigEndian(4, 8) },
      word(l2, COPIED),
      word(l2 + 8, COPIED | BigInt(CLUSTER)),
      word(l2 + 16, COPIED | BigInt(table)),
      word(l2 + 24, COPIED | BigInt(table + CLUSTER) | 1n),
      refcount(image, data, 0),
    ];
    const whole = new SparseSource([], 4 * CLUSTER, 'disk.data');
    expect(kinds(await check(image, patches, { dataFile: whole }))).toEqual({});
    const report = await check(image, patches, { dataFile: new SparseSource([], 2 * CLUSTER, 'disk.data') });
    expect(kinds(report)).toEqual({ 'extra truncatedDataFile': 1 });
    expect(report.findings[0]?.guest).toEqual({ guestOffset: 2 * CLUSTER, length: CLUSTER });
  });
});

describe('leaks that are more than leaks', () => {
  it('an L1 entry was wiped: the leaked cluster was plainly an L2 table', async () => {
    const image = builder().write(0, filled(1)).write(1, filled(2)).build();
    const report = await check(image, [word(image.layout.l1TableOffset, 0n)]);
    expect(report).toMatchObject({ exitCode: 3, strictExitCode: 3, counts: { leaks: 3, corruptions: 0 } });
    expect(kinds(report)).toEqual({ 'leak leak': 3, 'extra lostTable': 1, 'extra lostData': 2 });
    const table = (image.layout.l2TableOffsets[0] ?? 0) / CLUSTER;
    const leak = report.findings.find(({ kind, place }) => kind === 'leak' && place?.kind === 'tableRow' && place.row === table);
    expect(leak?.consequence).toMatch(/an entry that led to it seems to be lost/);
    expect(report.findings.find(({ kind }) => kind === 'lostTable')?.message).toBe(
      `Leaked cluster ${table} at 0x${(table * CLUSTER).toString(16)} has the content of an L2 table with 2 entries.`,
    );
  });

  it('an old copy of a table, whose clusters are all in use, is no loss', async () => {
    const image = builder().write(0, filled(1)).build();
    const table = new Uint8Array(CLUSTER);
    sourceOf(image).read(table, image.layout.l2TableOffsets[0] ?? 0);
    const leaking = builder().write(0, filled(1));
    leaking.leak(table);
    const report = await check(leaking.build());
    expect(kinds(report)).toEqual({ 'leak leak': 1 });
    expect(report.findings[0]?.consequence).toMatch(/^It is an old copy of a table/);
  });

  it('an L2 entry was wiped: the leaked cluster holds data', async () => {
    const image = builder().write(0, filled(1)).write(1, new Uint8Array(0)).build();
    const report = await check(image, [word(l2Entry(image, 0), 0n), word(l2Entry(image, 1), 0n)]);
    expect(kinds(report)).toEqual({ 'leak leak': 2, 'extra lostData': 1 });
    expect(
      report.findings.filter(({ kind }) => kind === 'leak').map(({ consequence }) => consequence.includes('guest data that is missing')),
    ).toEqual([true, false]);
  });
});

/** The entry of guest cluster 0 in the first snapshot's L2 table. */
function snapshotL2(image: BuiltImage): number | undefined {
  const source = sourceOf(image);
  const metadata = readQcow2Metadata(source);
  const read = (at: number): number => {
    const bytes = new Uint8Array(8);
    source.read(bytes, at);
    return Number(new DataView(bytes.buffer).getBigUint64(0) & 0x00fffffffffffe00n);
  };
  return read(read(metadata.snapshotsOffset));
}
