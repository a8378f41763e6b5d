import { readBitmapDirectory } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import { ENCRYPTION_EXTENSION, EXTENSION, LIMITS } from '../formats/qcow2/structures';
import { activeL1, type L1Location } from '../formats/qcow2/tables';
import { Decoded } from '../layout/codec';
import { HOST } from './hostClass';
import type { TableLocation } from './l2Batches';

/** A structure of the file that stands in one piece. */
export interface MetadataRegion {
  readonly hostOffset: number;
  /** Bytes. */
  readonly length: number;
  /** HOST number. */
  readonly hostClass: number;
}

/** What a qcow2 file's header and directories say lies where, without L2 tables, refcount blocks, bitmaps' bits and data. */
export interface MetadataLayout {
  readonly regions: readonly MetadataRegion[];
  /** The active table first. */
  readonly l1Tables: readonly TableLocation[];
  readonly bitmapTables: readonly TableLocation[];
}

/** QEMU's limit for the entries of a bitmap table. */
const MAX_BITMAP_ENTRIES = 0x8000000;

/** Reads header, snapshot table and bitmap directory; what contradicts the format is left out, or cut at its limits and the file's end. */
export function layoutOf(metadata: Qcow2Metadata): MetadataLayout {
  const { clusterSize, source, refcountTableOffset, refcountTableClusters, snapshotsOffset } = metadata;
  const regions: MetadataRegion[] = [];
  const add = (hostOffset: number, length: number, hostClass: number): void => {
    if (hostOffset < source.size && length > 0) {
      regions.push({ hostOffset, hostClass, length: Math.min(length, source.size - hostOffset) });
    }
  };
  const l1Tables: TableLocation[] = [];
  const addL1 = ({ hostOffset, entries }: L1Location): void => {
    const bounded = Math.min(entries, LIMITS.maxL1Bytes / 8);
    add(hostOffset, bounded * 8, HOST.l1);
    l1Tables.push({ hostOffset, entries: bounded });
  };
  add(0, clusterSize, HOST.header);
  addL1(activeL1(metadata));
  add(refcountTableOffset, Math.min(refcountTableClusters * clusterSize, LIMITS.maxRefcountTableBytes), HOST.refcountTable);
  if (metadata.nbSnapshots > 0) {
    const { snapshots, length } = readSnapshotTable(metadata);
    add(snapshotsOffset, length, HOST.snapshotTable);
    for (const { l1TableOffset, l1Size } of snapshots) {
      addL1({ hostOffset: l1TableOffset, entries: l1Size });
    }
  }
  const bitmapTables: TableLocation[] = [];
  const directory = readBitmapDirectory(metadata);
  if (directory.extension) {
    add(directory.directoryOffset, directory.directorySize, HOST.bitmap);
    for (const { tableOffset, tableEntries } of directory.bitmaps) {
      const entries = Math.min(tableEntries, MAX_BITMAP_ENTRIES);
      add(tableOffset, entries * 8, HOST.bitmap);
      bitmapTables.push({ hostOffset: tableOffset, entries });
    }
  }
  const encryption = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
  if (encryption) {
    const pointer = new Decoded(ENCRYPTION_EXTENSION, encryption.data);
    add(pointer.number('offset'), pointer.number('length'), HOST.encryption);
  }
  return { regions, l1Tables, bitmapTables };
}
