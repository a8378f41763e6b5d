import { readPadded } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import { Decoded } from '../../../layout/codec';
import { MAX_FILE_CLUSTERS } from '../../../check/opening';
import { corruptImage, unsupported } from '../../../errors';
import { readBitmapDirectory } from '../bitmaps';
import type { Qcow2Metadata } from '../metadata';
import { readSnapshotTable } from '../snapshots';
import { AUTOCLEAR, BITMAPS_EXTENSION, ENCRYPTION_EXTENSION, EXTENSION } from '../structures';
import { activeL1, loadL1, type L1Location } from '../tables';
import { EntryCodec } from './clusterEntry';
import { HeaderFields } from './headerFields';
import { Refcounts } from './refcounts';
import { Regions } from './regions';
import { Slice } from './slices';
import { load, type Steps } from './steps';
import { MetadataOrder } from './order';
import { ActiveTables } from './tables';

/** References are counted for this many clusters at a time. */
const WINDOW = 4 * 1024 * 1024;
const CACHE = 8 * 1024 * 1024;
const OFFSET_HIGH = 0x00ffffff;

/**
 * Counts what refers to each cluster and sets the refcounts to that: for an image whose refcounts lag behind its tables (`dirty`), which
 * says that everything else is as it should be. A crash meanwhile leaves it dirty.
 * @param only `leaks`: refcounts are made less and never more
 * @throws EngineError `image.corrupt`, `file.io`, `file.full`, `format.unsupported` for a file of more clusters than QEMU counts
 */
export function* rebuildRefcounts(storage: Storage, metadata: Qcow2Metadata, only: 'all' | 'leaks' = 'all'): Steps<void> {
  const { clusterSize } = metadata;
  const header = yield* load(() => new HeaderFields(storage, metadata));
  const moved: { hostOffset: number; length: number }[] = [];
  const { refcounts, order } = yield* load(() =>
    openTables(storage, metadata, header, (hostOffset, length) => moved.push({ hostOffset, length })),
  );
  const clusters = Math.ceil(storage.size / clusterSize);
  if (clusters > MAX_FILE_CLUSTERS) {
    // As QEMU, which does not count so many either; a sparse file costs nothing to make that long.
    throw unsupported(storage.name, 'refcount table', metadata.refcountTableOffset, `${clusters} clusters are too many to count anew.`);
  }
  for (let first = 0; first < clusters; first += WINDOW) {
    const window = new Uint32Array(Math.min(WINDOW, clusters - first));
    const count = (hostOffset: number, length: number): void => {
      const end = Math.min(window.length, Math.ceil((hostOffset + length) / clusterSize) - first);
      for (let x = Math.max(0, Math.floor(hostOffset / clusterSize) - first); x < end; x++) {
        window[x]!++;
      }
    };
    yield* load(() => {
      window.fill(0);
      countReferences(metadata, count);
    });
    // Blocks that are made on the way count themselves: the window's own count of them is one more then.
    yield* setRefcounts(refcounts, first, window, order, only);
  }
  for (const { hostOffset, length } of moved) {
    order.free(hostOffset, length);
  }
  yield* order.settle();
}

function openTables(
  storage: Storage,
  metadata: Qcow2Metadata,
  header: HeaderFields,
  onTableMoved: (hostOffset: number, length: number) => void,
): { readonly refcounts: Refcounts; readonly order: MetadataOrder } {
  const { clusterSize } = metadata;
  const regions = new Regions(clusterSize);
  const refcounts: Refcounts = new Refcounts(storage, metadata, header, regions, CACHE, {
    onFree: () => undefined,
    onTableMoved,
    alone: (work) => order.alone(work),
  });
  const tables = new ActiveTables(storage, metadata, regions, refcounts, CACHE);
  const order: MetadataOrder = new MetadataOrder({ storage, dataFile: null, header, refcounts, tables, regions, clusterSize });
  tables.attach(order);
  return { refcounts, order };
}

function* setRefcounts(refcounts: Refcounts, first: number, window: Uint32Array, order: MetadataOrder, only: 'all' | 'leaks'): Steps<void> {
  for (let x = 0; x < window.length; x++) {
    const wanted = window[x]!;
    const present = yield* load(() => refcounts.get(first + x));
    if (wanted !== present && (only === 'all' || wanted < present)) {
      yield* order.makeRoom();
      yield* refcounts.set(first + x, wanted);
    }
  }
}

/** Calls `count` for each range that something refers to, as often as something does. @throws EngineError `image.corrupt`, `file.io` */
export function countReferences(metadata: Qcow2Metadata, count: (hostOffset: number, length: number) => void): void {
  const { source, clusterSize, autoclearFeatures, cryptMethod, extensions } = metadata;
  count(0, 1);
  const { snapshots, length } = readSnapshotTable(metadata);
  if (length > 0) {
    count(metadata.snapshotsOffset, length);
  }
  const views: L1Location[] = [
    activeL1(metadata),
    ...snapshots.map(({ l1TableOffset, l1Size }) => ({ hostOffset: l1TableOffset, entries: l1Size })),
  ];
  for (const view of views) {
    countView(metadata, view, count);
  }
  const tableBytes = metadata.refcountTableClusters * clusterSize;
  count(metadata.refcountTableOffset, tableBytes);
  const table = new DataView(readPadded(source, metadata.refcountTableOffset, tableBytes).buffer);
  for (let at = 0; at < tableBytes; at += 8) {
    const offset = table.getUint32(at) * 2 ** 32 + ((table.getUint32(at + 4) & 0xfffffe00) >>> 0);
    if (offset !== 0) {
      count(offset, clusterSize);
    }
  }
  const extensionOf = (type: number) => extensions.findLast((extension) => extension.type === type);
  const bitmaps = extensionOf(EXTENSION.bitmaps);
  if (bitmaps && (autoclearFeatures & AUTOCLEAR.bitmaps) !== 0n) {
    const fields = new Decoded(BITMAPS_EXTENSION, bitmaps.data);
    count(fields.number('bitmap_directory_offset'), fields.number('bitmap_directory_size'));
    for (const { tableOffset, tableEntries } of readBitmapDirectory(metadata).bitmaps) {
      count(tableOffset, tableEntries * 8);
      const entries = new DataView(readPadded(source, tableOffset, tableEntries * 8).buffer);
      for (let at = 0; at < tableEntries * 8; at += 8) {
        const offset = (entries.getUint32(at) & OFFSET_HIGH) * 2 ** 32 + ((entries.getUint32(at + 4) & 0xfffffe00) >>> 0);
        if (offset !== 0) {
          count(offset, clusterSize);
        }
      }
    }
  }
  const encryption = extensionOf(EXTENSION.encryption);
  if (encryption && cryptMethod === 2) {
    const fields = new Decoded(ENCRYPTION_EXTENSION, encryption.data);
    count(fields.number('offset'), fields.number('length'));
  }
}

function countView(metadata: Qcow2Metadata, view: L1Location, count: (hostOffset: number, length: number) => void): void {
  const { source, clusterSize, l2Entries, hasDataFile } = metadata;
  const codec = new EntryCodec(metadata);
  if (view.entries > 0) {
    count(view.hostOffset, view.entries * 8);
  }
  const l1 = loadL1(metadata, view);
  const slice = new Slice(new Uint8Array(clusterSize));
  for (let index = 0; index < l1.length; index++) {
    const table = l1.hostOffsetAt(index);
    if (table === 0) {
      continue;
    }
    if (table % clusterSize !== 0) {
      throw corruptImage(source.name, 'L1 table entry', l1.entryOffset(index), 'The L2 table offset is not aligned to a cluster.');
    }
    count(table, clusterSize);
    slice.fill(source, table);
    for (let entry = 0; entry < l2Entries; entry++) {
      const found = codec.read(slice, entry, (index * l2Entries + entry) * clusterSize);
      if (found.compressed) {
        count(found.host, found.length);
      } else if (found.placed && !hasDataFile) {
        count(found.host, clusterSize);
      }
    }
  }
}
