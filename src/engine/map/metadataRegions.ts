import { readBitmapDirectory } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import { ENCRYPTION_EXTENSION, EXTENSION, LIMITS } from '../formats/qcow2/structures';
import { activeL1, type L1Location } from '../formats/qcow2/tables';
import { Decoded } from '../layout/codec';
import { HOST } from './hostClass';

/** A structure of the file that stands in one piece. */
export interface MetadataRegion {
  readonly hostOffset: number;
  /** Bytes. */
  readonly length: number;
  /** HOST number. */
  readonly hostClass: number;
  /** "L1 table", "bitmap table 2" */
  readonly title: string;
  /** Internal snapshot or bitmap that it belongs to. */
  readonly index?: number;
}

/** An L1 table to walk: the active one (`snapshot` null), or a snapshot's. */
export interface L1Table extends L1Location {
  readonly snapshot: number | null;
}

/** A table of a persistent bitmap. */
export interface BitmapTable {
  readonly index: number;
  readonly hostOffset: number;
  readonly entries: number;
}

/** What a qcow2 file's header and directories say lies where, without L2 tables, refcount blocks and what those lead to. */
export interface MetadataLayout {
  readonly regions: readonly MetadataRegion[];
  readonly l1Tables: readonly L1Table[];
  readonly bitmapTables: readonly BitmapTable[];
}

/** A bitmap table of the largest disk at the finest granularity needs no more entries; QEMU's limit. */
const MAX_BITMAP_ENTRIES = 0x8000000;

/** Reads header, snapshot table and bitmap directory; what contradicts the format is left out or cut at the format's limits. */
export function layoutOf(metadata: Qcow2Metadata): MetadataLayout {
  const { clusterSize, source } = metadata;
  const regions: MetadataRegion[] = [{ hostOffset: 0, length: clusterSize, hostClass: HOST.header, title: 'qcow2 header' }];
  const add = (hostOffset: number, length: number, hostClass: number, title: string, index?: number): void => {
    if (hostOffset < source.size && length > 0) {
      regions.push({ hostOffset, hostClass, title, length: Math.min(length, source.size - hostOffset), ...(index === undefined ? {} : { index }) });
    }
  };
  const l1Tables: L1Table[] = [];
  const addL1 = (location: L1Location, snapshot: number | null): void => {
    const entries = Math.min(location.entries, LIMITS.maxL1Bytes / 8);
    const title = snapshot === null ? 'active L1 table' : `L1 table of snapshot ${snapshot}`;
    add(location.hostOffset, entries * 8, HOST.l1, title, snapshot ?? undefined);
    l1Tables.push({ hostOffset: location.hostOffset, entries, snapshot });
  };
  addL1(activeL1(metadata), null);
  add(
    metadata.refcountTableOffset,
    Math.min(metadata.refcountTableClusters * clusterSize, LIMITS.maxRefcountTableBytes),
    HOST.refcountTable,
    'refcount table',
  );
  if (metadata.nbSnapshots > 0) {
    const { snapshots, length } = readSnapshotTable(metadata);
    add(metadata.snapshotsOffset, length, HOST.snapshotTable, 'snapshot table');
    for (const { index, l1TableOffset, l1Size } of snapshots) {
      addL1({ hostOffset: l1TableOffset, entries: l1Size }, index);
    }
  }
  const bitmapTables: BitmapTable[] = [];
  const directory = readBitmapDirectory(metadata);
  if (directory.extension) {
    add(directory.directoryOffset, directory.directorySize, HOST.bitmap, 'bitmap directory');
    for (const { index, tableOffset, tableEntries } of directory.bitmaps) {
      const entries = Math.min(tableEntries, MAX_BITMAP_ENTRIES);
      add(tableOffset, entries * 8, HOST.bitmap, `table of bitmap ${index}`, index);
      bitmapTables.push({ index, hostOffset: tableOffset, entries });
    }
  }
  const encryption = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
  if (encryption && metadata.cryptMethod === 2) {
    const pointer = new Decoded(ENCRYPTION_EXTENSION, encryption.data);
    add(pointer.number('offset'), pointer.number('length'), HOST.encryption, 'encryption header');
  }
  return { regions, l1Tables, bitmapTables };
}
