import { Qcow2Builder, type BuiltImage } from '../formats/qcow2/builder';
import { OFLAG_COPIED } from '../formats/qcow2/structures';
import { namedNoise, namedText, Scatter } from './contents';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** One file of the sample folder. */
export interface SampleImage {
  readonly fileName: string;
  /** What there is to see in it, one sentence. */
  readonly about: string;
  readonly build: () => BuiltImage;
}

const BASE = 'debian-12-base.qcow2';
const APPLICATION = 'web-server.qcow2';
const STAGING = 'web-server-staging.qcow2';
const DISK_SIZE = 4 * GiB;
/** 2026-01-05 09:00:00 UTC; samples must not depend on the clock. */
const FIRST_SNAPSHOT = 1767603600;

/** The images of the sample folder, in the order in which a person meets them. */
export const SAMPLE_IMAGES: readonly SampleImage[] = [
  { fileName: BASE, about: 'The base of a chain of three: a system disk, half of it compressed.', build: buildBase },
  {
    fileName: APPLICATION,
    about: 'The middle of the chain, with zeroed and preallocated clusters that hide the base.',
    build: buildApplication,
  },
  { fileName: STAGING, about: 'The active layer: two internal snapshots and two dirty bitmaps.', build: buildStaging },
  {
    fileName: 'database-extended-l2.qcow2',
    about: 'Extended L2 entries: allocation in subclusters of 4 KiB, with zeroed ones in between.',
    build: buildExtendedL2,
  },
  { fileName: 'orphan.qcow2', about: 'An overlay whose backing file is missing.', build: buildOrphan },
  { fileName: 'leaked-clusters.qcow2', about: 'Consistent but for leaked clusters; one of them was a lost L2 table.', build: buildLeaked },
  {
    fileName: 'corrupted.qcow2',
    about: 'Real corruption: two guest clusters share one host cluster, and an entry points past the end.',
    build: buildCorrupted,
  },
];

function fill(builder: Qcow2Builder, image: string, seed: number, extents: number, compressedShare: number): void {
  const scatter = new Scatter(seed);
  const clusters = DISK_SIZE / builder.clusterSize;
  for (let extent = 0; extent < extents; extent++) {
    // Like a file system: most of it in the first third, in runs of different lengths.
    const start = scatter.below(3) > 0 ? scatter.below(Math.floor(clusters / 3)) : scatter.below(clusters);
    const length = 1 + scatter.below(12);
    const compressed = scatter.below(100) < compressedShare;
    for (let cluster = start; cluster < Math.min(clusters, start + length); cluster++) {
      const guestOffset = cluster * builder.clusterSize;
      if (compressed) {
        builder.writeCompressed(cluster, namedText(image, guestOffset, builder.clusterSize));
      } else {
        builder.write(cluster, namedText(image, guestOffset, 4 * KiB));
      }
    }
  }
}

function buildBase(): BuiltImage {
  const builder = new Qcow2Builder({ size: DISK_SIZE });
  fill(builder, BASE, 11, 160, 45);
  return builder.build();
}

function buildApplication(): BuiltImage {
  const builder = new Qcow2Builder({ size: DISK_SIZE, backing: { name: BASE, format: 'qcow2' } });
  fill(builder, APPLICATION, 23, 60, 0);
  const scatter = new Scatter(29);
  for (let run = 0; run < 24; run++) {
    const start = scatter.below(Math.floor(DISK_SIZE / 3 / builder.clusterSize));
    const length = 1 + scatter.below(20);
    for (let cluster = start; cluster < start + length; cluster++) {
      builder.zero(cluster, run % 3 === 0);
    }
  }
  return builder.build();
}

function buildStaging(): BuiltImage {
  const builder = new Qcow2Builder({ size: DISK_SIZE, lazyRefcounts: true, backing: { name: APPLICATION, format: 'qcow2' } });
  fill(builder, STAGING, 31, 18, 0);
  builder.snapshot({ id: '1', name: 'before-upgrade', dateSec: FIRST_SNAPSHOT, uptimeSec: 3 * 3600 + 25 * 60 });
  fill(builder, STAGING, 37, 8, 0);
  builder.snapshot({ id: '2', name: 'after-upgrade', dateSec: FIRST_SNAPSHOT + 5400, uptimeSec: 4 * 3600 + 55 * 60 });
  fill(builder, STAGING, 31, 5, 0);
  builder.bitmap({
    name: 'nightly-backup',
    granularityBits: 16,
    flags: 2,
    dirty: [
      { offset: 0, length: 24 * MiB },
      { offset: 900 * MiB, length: 64 * MiB },
    ],
  });
  builder.bitmap({ name: 'weekly-backup', granularityBits: 20, flags: 0, dirty: [{ offset: 0, length: GiB }] });
  return builder.build();
}

function buildExtendedL2(): BuiltImage {
  const name = 'database-extended-l2.qcow2';
  const builder = new Qcow2Builder({ size: GiB, clusterBits: 17, extendedL2: true });
  const scatter = new Scatter(41);
  for (let count = 0; count < 120; count++) {
    const cluster = scatter.below(GiB / builder.clusterSize);
    const guestOffset = cluster * builder.clusterSize;
    // Database pages: some subclusters written, some zeroed, the rest left to the (absent) backing file.
    const allocated = scatter.below(0xffffffff) >>> 0;
    const zero = (scatter.below(0xffffffff) & ~allocated) >>> 0;
    if (count % 10 === 0) {
      builder.zero(cluster, count % 20 === 0);
    } else {
      builder.writeSubclusters(cluster, namedText(name, guestOffset, builder.clusterSize), allocated, zero);
    }
  }
  return builder.build();
}

function buildOrphan(): BuiltImage {
  const builder = new Qcow2Builder({ size: DISK_SIZE, backing: { name: 'gone/golden-image.qcow2', format: 'qcow2' } });
  fill(builder, 'orphan.qcow2', 43, 12, 0);
  return builder.build();
}

function buildLeaked(): BuiltImage {
  const name = 'leaked-clusters.qcow2';
  const builder = new Qcow2Builder({ size: GiB });
  for (let cluster = 0; cluster < 64; cluster++) {
    builder.write(cluster * 3, namedText(name, cluster * 3 * builder.clusterSize, 4 * KiB));
  }
  for (let count = 0; count < 3; count++) {
    builder.leak(new Uint8Array(0));
  }
  builder.leak(namedNoise(name, 0, builder.clusterSize));
  // What is left of an L2 table whose L1 entry was wiped: valid entries for clusters that are in the file.
  const table = new DataView(new ArrayBuffer(builder.clusterSize));
  for (let entry = 0; entry < 48; entry++) {
    table.setBigUint64(entry * 8, OFLAG_COPIED | BigInt((2 + entry) * builder.clusterSize));
  }
  builder.leak(new Uint8Array(table.buffer));
  return builder.build();
}

function buildCorrupted(): BuiltImage {
  const name = 'corrupted.qcow2';
  const builder = new Qcow2Builder({ size: GiB });
  for (let cluster = 0; cluster < 96; cluster++) {
    builder.write(cluster, namedText(name, cluster * builder.clusterSize, 4 * KiB));
  }
  const { layout, pieces } = builder.build();
  const l2 = layout.l2TableOffsets[0] ?? 0;
  const table = pieces.find(({ hostOffset }) => hostOffset === l2);
  if (table) {
    const entries = new DataView(table.bytes.buffer, table.bytes.byteOffset);
    // Guest cluster 17 now reads what belongs to 16, cluster 40 leads nowhere, and 41 has a reserved bit set.
    entries.setBigUint64(17 * 8, entries.getBigUint64(16 * 8));
    entries.setBigUint64(40 * 8, OFLAG_COPIED | BigInt(layout.fileSize + 64 * layout.clusterSize));
    entries.setBigUint64(41 * 8, entries.getBigUint64(41 * 8) | (1n << 60n));
  }
  return { layout, pieces };
}
