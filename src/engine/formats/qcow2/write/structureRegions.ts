import { corruptImage, unsupported } from '../../../errors';
import { Decoded } from '../../../layout/codec';
import { readBitmapDirectory } from '../bitmaps';
import type { Qcow2Metadata } from '../metadata';
import { readSnapshotTable } from '../snapshots';
import { AUTOCLEAR, BITMAPS_EXTENSION, ENCRYPTION_EXTENSION, EXTENSION, LIMITS } from '../structures';
import { loadL1, loadTable } from '../tables';
import { REGION, regionTitle, type Regions } from './regions';

/** Tables of snapshots and bitmaps that are looked after, in clusters: far more than any image has that a program made. */
const MOST_CLUSTERS = 2 ** 22;
/** Entries of those tables that are followed. QEMU follows none of them. */
const MOST_ENTRIES = 2 ** 22;

/**
 * Notes where snapshots, bitmaps and the encryption header lie. The active tables and the refcounts note their own places.
 * @throws EngineError `format.unsupported` for tables that are longer than any file holds; NotLoaded
 */
export function registerStructures(regions: Regions, metadata: Qcow2Metadata): void {
  const places = new Places(regions, metadata);
  const { snapshots, length } = readSnapshotTable(metadata);
  places.add(REGION.snapshotTable, metadata.snapshotsOffset, length);
  for (const { l1TableOffset, l1Size } of snapshots) {
    places.add(REGION.inactiveL1, l1TableOffset, l1Size * 8);
    const l1 = loadL1(metadata, { hostOffset: l1TableOffset, entries: places.entries(l1Size, LIMITS.maxL1Bytes) });
    places.addTargets(REGION.inactiveL2, l1.length, (index) => l1.hostOffsetAt(index));
  }
  const extensionOf = (type: number) => metadata.extensions.findLast((extension) => extension.type === type);
  const bitmaps = extensionOf(EXTENSION.bitmaps);
  if (bitmaps && (metadata.autoclearFeatures & AUTOCLEAR.bitmaps) !== 0n) {
    const fields = new Decoded(BITMAPS_EXTENSION, bitmaps.data);
    places.add(REGION.bitmapDirectory, fields.number('bitmap_directory_offset'), fields.number('bitmap_directory_size'));
    for (const { tableOffset, tableEntries } of readBitmapDirectory(metadata).bitmaps) {
      places.add(REGION.bitmap, tableOffset, tableEntries * 8);
      const table = loadTable(metadata, tableOffset, places.entries(tableEntries, MOST_ENTRIES * 8) * 8, MOST_ENTRIES * 8);
      places.addTargets(REGION.bitmap, table.length, (index) => table.hostOffsetAt(index));
    }
  }
  const encryption = extensionOf(EXTENSION.encryption);
  if (encryption && metadata.cryptMethod === 2) {
    const fields = new Decoded(ENCRYPTION_EXTENSION, encryption.data);
    places.add(REGION.encryptionHeader, fields.number('offset'), fields.number('length'));
  }
}

/** @throws EngineError `image.corrupt` where two structures claim the same cluster: what is changed in one is changed in the other */
export function requireSeparateStructures(regions: Regions, metadata: Qcow2Metadata): void {
  const overlap = regions.overlap();
  if (overlap) {
    const { hostOffset, kinds } = overlap;
    const first = kinds & -kinds;
    const what = `It shares its place with the ${regionTitle(kinds & ~first)}.`;
    throw corruptImage(metadata.source.name, regionTitle(first), hostOffset, what);
  }
}

/** Adds to regions as long as there is an end to it. */
class Places {
  private readonly regions: Regions;
  private readonly metadata: Qcow2Metadata;
  private clustersLeft = MOST_CLUSTERS;
  private entriesLeft = MOST_ENTRIES;

  constructor(regions: Regions, metadata: Qcow2Metadata) {
    this.regions = regions;
    this.metadata = metadata;
  }

  add(kind: number, hostOffset: number, length: number): void {
    if (length <= 0) {
      return;
    }
    const { clusterSize, source } = this.metadata;
    this.clustersLeft -= Math.ceil(length / clusterSize) + 1;
    if (this.clustersLeft < 0) {
      throw unsupported(source.name, regionTitle(kind), hostOffset, 'Tables of snapshots and bitmaps are too long to write to the image.');
    }
    this.regions.add(kind, hostOffset, length);
  }

  /** As many of a table's entries as may still be followed. */
  entries(declared: number, mostBytes: number): number {
    return Math.min(declared, mostBytes / 8, this.entriesLeft);
  }

  addTargets(kind: number, count: number, hostOffsetAt: (index: number) => number): void {
    this.entriesLeft -= count;
    for (let index = 0; index < count; index++) {
      const hostOffset = hostOffsetAt(index);
      if (hostOffset !== 0 && hostOffset % this.metadata.clusterSize === 0) {
        this.regions.add(kind, hostOffset);
      }
    }
  }
}
