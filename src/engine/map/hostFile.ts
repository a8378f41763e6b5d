import type { Layer } from '../chain/layer';
import { invalidRequest } from '../errors';
import type { QedMetadata } from '../formats/qed/metadata';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import type { ByteSource } from '../io/source';
import type { ByteOrder } from '../layout/fields';
import type { Pace } from '../pace';
import { countQcow2Entries, countQedEntries, type EntryCounter } from './entryCounter';
import { HOST } from './hostClass';
import type { TableLocation } from './l2Batches';
import { layoutOf } from './metadataRegions';
import type { ReferenceCounts } from './referenceCounts';
import { RefcountReader } from './refcountReader';
import { PagedTable, type EntryBuffer } from './tableAccess';

/** What a map of a file's clusters has to know of its format. */
export interface HostFile {
  readonly source: ByteSource;
  readonly clusterSize: number;
  readonly order: ByteOrder;
  readonly l1Tables: readonly TableLocation[];
  /** Bytes of an L2 table. */
  readonly tableBytes: number;
  /** Null where the format has no refcounts. */
  readonly refcounts: RefcountReader | null;
  /** Counts everything but L2 tables and what they lead to. */
  countMetadata(references: ReferenceCounts, pace: Pace): Promise<void>;
  /** Counts what a piece of an L2 table leads to. */
  countEntries(buffer: EntryBuffer, at: number, length: number, counter: EntryCounter): void;
  /** Whether every cluster of a stretch that nothing references is free. */
  isFree(first: number, length: number): boolean;
}

/** @throws EngineError `request.invalid` for formats without clusters, and where the header does not say how long they are */
export function hostFileOf({ detail, filename }: Layer): HostFile {
  if (detail.format === 'qcow2' && detail.metadata.tablesReadable) {
    return qcow2File(detail.metadata);
  }
  if (detail.format === 'qed' && detail.metadata.tablesReadable) {
    return qedFile(detail.metadata);
  }
  throw invalidRequest(`${filename} has no clusters to be mapped.`);
}

function qcow2File(metadata: Qcow2Metadata): HostFile {
  const { source, clusterSize, refcountBlockEntries } = metadata;
  const refcounts = new RefcountReader(metadata);
  const { regions, l1Tables, bitmapTables } = layoutOf(metadata);
  return {
    source,
    clusterSize,
    l1Tables,
    refcounts,
    order: 'big',
    tableBytes: clusterSize,
    countEntries: (buffer, at, length, counter) => {
      countQcow2Entries(buffer, at, length, metadata, counter);
    },
    // An offset that is not aligned, which no driver follows, names the cluster that it lies in, as one of data does.
    countMetadata: async (references, pace) => {
      for (const { hostOffset, length, hostClass } of regions) {
        references.addBytes(hostOffset, length, clusterSize, hostClass);
      }
      for (let block = refcounts.nextBlock(0); block !== Infinity; block = refcounts.nextBlock(block + 1)) {
        const offset = refcounts.blockOffset(block);
        if (offset > 0) {
          references.add(Math.floor(offset / clusterSize), HOST.refcountBlock, 1);
        }
      }
      for (const { hostOffset, entries } of bitmapTables) {
        const table = new PagedTable(source, hostOffset, entries, 'big');
        for (let index = table.nextUsed(0); index !== Infinity; index = table.nextUsed(index + 1)) {
          const offset = (table.high(index) & 0x00ffffff) * 2 ** 32 + ((table.low(index) & ~0x1ff) >>> 0);
          if (offset > 0) {
            references.add(Math.floor(offset / clusterSize), HOST.bitmap, 1);
          }
          if (index % 1024 === 0 && pace.due()) {
            await pace.turn(references.first, Math.ceil(source.size / clusterSize));
          }
        }
      }
    },
    isFree: (first, length) => refcounts.nextBlock(Math.floor(first / refcountBlockEntries)) * refcountBlockEntries >= first + length,
  };
}

function qedFile({ source, clusterSize, tableBytes, l1TableOffset, tableEntries, headerBytes }: QedMetadata): HostFile {
  return {
    source,
    clusterSize,
    tableBytes,
    order: 'little',
    l1Tables: [{ hostOffset: l1TableOffset, entries: tableEntries }],
    refcounts: null,
    countEntries: countQedEntries,
    countMetadata: (references) => {
      references.addBytes(0, headerBytes, clusterSize, HOST.header);
      references.addBytes(l1TableOffset, tableBytes, clusterSize, HOST.l1);
      return Promise.resolve();
    },
    // Without refcounts a cluster that nothing uses is lost.
    isFree: () => false,
  };
}
