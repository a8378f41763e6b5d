import { invalidRequest } from '../../../errors';
import { Pace, type PaceOptions } from '../../../pace';
import { concatenatePadded } from '../../../layout/concatenate';
import { encode } from '../../../layout/codec';
import { EXTENSION, FEATURE, SNAPSHOT_ENTRY, SNAPSHOT_EXTRA } from '../structures';
import { withExtension, withFields } from './header';
import { markCopied, readL1 } from './mappingTree';
import type { QuietImage } from './quietImage';
import { entryBytes, listSnapshots, replaceTable } from './snapshots';

/** What version 3 needs to have beside each snapshot: its state's size and its disk's. */
const LEAST_EXTRA = 16;
const COPIED_HIGH = 0x80000000;
const COMPRESSED_HIGH = 0x40000000;

/** Makes a version 2 image one of version 3 (compat=1.1). @throws EngineError `file.io` */
export async function upgrade(image: QuietImage): Promise<void> {
  if (image.metadata.version >= 3) {
    return;
  }
  const snapshots = listSnapshots(image);
  if (snapshots.some(({ extraDataSize }) => extraDataSize < LEAST_EXTRA)) {
    await replaceTable(
      image,
      snapshots.map((snapshot) => {
        const bytes = entryBytes(image, snapshot);
        if (snapshot.extraDataSize >= LEAST_EXTRA) {
          return bytes;
        }
        const nameOffset = SNAPSHOT_ENTRY.length + snapshot.extraDataSize;
        const name = bytes.subarray(nameOffset, nameOffset + snapshot.fields.number('id_str_size') + snapshot.fields.number('name_size'));
        const fixed = bytes.slice(0, SNAPSHOT_ENTRY.length);
        new DataView(fixed.buffer).setUint32(snapshot.fields.field('extra_data_size').offset, SNAPSHOT_EXTRA.length);
        const extra = encode(SNAPSHOT_EXTRA, { vm_state_size_large: snapshot.vmStateSize, disk_size: snapshot.diskSize });
        return concatenatePadded(8, fixed, extra, name);
      }),
    );
  }
  await image.changeHeader((contents) => withFields(contents, { version: 3n }));
}

/**
 * Makes a version 3 image one of version 2 (compat=0.10), which knows no zero clusters: they become unallocated or are written out.
 * @throws EngineError `request.invalid` in QEMU's words where something needs version 3
 */
export async function downgrade(image: QuietImage, options: PaceOptions = {}): Promise<void> {
  const { metadata } = image;
  if (metadata.version < 3) {
    return;
  }
  if (metadata.refcountBits !== 16) {
    throw invalidRequest('compat=0.10 requires refcount_bits=16');
  }
  if (metadata.hasDataFile) {
    throw invalidRequest('Cannot downgrade an image with a data file');
  }
  if ((metadata.incompatibleFeatures & FEATURE.compressionType) !== 0n && (await hasCompressedClusters(image, options))) {
    throw invalidRequest('Cannot downgrade an image with zstd compression type and existing compressed clusters');
  }
  const features = metadata.incompatibleFeatures & ~FEATURE.dirty & ~FEATURE.compressionType;
  if (features !== 0n) {
    throw invalidRequest(`Cannot downgrade an image with incompatible features 0x${features.toString(16)} set`);
  }
  if (listSnapshots(image).some(({ vmStateSize, diskSize }) => vmStateSize !== 0 || diskSize !== metadata.size)) {
    // Version 2 records neither.
    throw invalidRequest('Internal snapshots prevent downgrade of image');
  }
  if (metadata.extensions.some(({ type }) => type === EXTENSION.bitmaps)) {
    // Version 2 cannot say that they are true, and their clusters would be lost.
    throw invalidRequest('Bitmaps prevent downgrade of image');
  }
  await expandZeroClusters(image, options);
  await markCopied(image, readL1(image, metadata.l1TableOffset, metadata.l1Size), true, options);
  await image.changeHeader((contents) =>
    withFields(
      { ...withExtension(contents, EXTENSION.featureNames, null), unknownFields: new Uint8Array(0) },
      { version: 2n, incompatible_features: 0n, compatible_features: 0n, autoclear_features: 0n, compression_type: 0n },
    ),
  );
}

/** Whether the disk or a snapshot (which QEMU does not ask) has a cluster that could not be read any more with another type. */
async function hasCompressedClusters(image: QuietImage, options: PaceOptions): Promise<boolean> {
  for await (const { l2Offset } of l2Tables(image, options)) {
    const l2 = image.readTable(l2Offset, image.metadata.clusterSize / 8, 'L2 table');
    for (let entry = 0; entry < l2.length; entry++) {
      if ((l2.high(entry) & COMPRESSED_HIGH) !== 0) {
        return true;
      }
    }
  }
  return false;
}

/** In all trees: a snapshot's zero clusters are no less unknown to version 2. */
async function expandZeroClusters(image: QuietImage, options: PaceOptions): Promise<void> {
  for await (const { l2Offset, active } of l2Tables(image, options)) {
    await expandTable(image, l2Offset, active);
  }
  await image.flush();
}

/** The L2 tables of the disk, and then those that only snapshots have. */
async function* l2Tables(image: QuietImage, options: PaceOptions): AsyncGenerator<{ l2Offset: number; active: boolean }> {
  const pace = new Pace(options);
  const { l1TableOffset, l1Size } = image.metadata;
  const trees = [
    { l1Offset: l1TableOffset, entries: l1Size, active: true },
    ...listSnapshots(image).map((snapshot) => ({ l1Offset: snapshot.l1TableOffset, entries: snapshot.l1Size, active: false })),
  ];
  // Trees share L2 tables.
  const seen = new Set<number>();
  for (const { l1Offset, entries, active } of trees) {
    const l1 = readL1(image, l1Offset, entries);
    for (let index = 0; l1 && index < l1.length; index++) {
      const l2Offset = l1.hostOffsetAt(index);
      if (l2Offset !== 0 && !seen.has(l2Offset)) {
        seen.add(l2Offset);
        yield { l2Offset, active };
      }
      if (pace.due()) {
        await pace.turn(index, l1.length);
      }
    }
  }
}

async function expandTable(image: QuietImage, l2Offset: number, active: boolean): Promise<void> {
  const { clusterSize, backingFile } = image.metadata;
  const l2 = image.readTable(l2Offset, clusterSize / 8, 'L2 table');
  const view = new DataView(l2.bytes.buffer, l2.bytes.byteOffset);
  // Each tree that shares the table counts once for each cluster that it leads to.
  const owners = image.refcount(l2Offset);
  const given: number[] = [];
  let changed = false;
  for (let entry = 0; entry < l2.length; entry++) {
    if ((l2.high(entry) & COMPRESSED_HIGH) !== 0 || (l2.low(entry) & 1) === 0) {
      continue;
    }
    let hostOffset = l2.hostOffsetAt(entry);
    const shared = hostOffset !== 0 && image.refcount(hostOffset) !== owners;
    if (shared) {
      // Another tree has data there.
      given.push(hostOffset);
      hostOffset = 0;
    }
    if (hostOffset === 0 && backingFile) {
      hostOffset = await image.allocate(clusterSize);
      for (let owner = 1; owner < owners; owner++) {
        await image.count(hostOffset, clusterSize, 1);
      }
    }
    if (hostOffset !== 0) {
      image.requirePlace(hostOffset, clusterSize, 'data cluster');
      await image.storage.writeZeroes(hostOffset, clusterSize);
    }
    const copied = hostOffset !== 0 && active && owners === 1;
    view.setUint32(entry * 8, (Math.floor(hostOffset / 2 ** 32) | (copied ? COPIED_HIGH : 0)) >>> 0);
    view.setUint32(entry * 8 + 4, hostOffset % 2 ** 32);
    changed = true;
  }
  if (!changed) {
    return;
  }
  // Zeroes and refcounts first, then what leads to them, then less of what it led to.
  await image.flush();
  await image.storage.write(l2.bytes, l2Offset);
  await image.storage.flush();
  for (const hostOffset of given) {
    for (let owner = 0; owner < owners; owner++) {
      await image.release(hostOffset, clusterSize);
    }
  }
}
