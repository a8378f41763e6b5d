import { requireSomeInside } from '../../block/inFlight';
import { safeNumber } from '../../layout/codec';
import { plainExtent, unknownExtent, type GuestExtent, type LayerStatus } from '../extent';
import { MAX_PIECE, PagedTable, TableCache } from '../tableCache';
import type { QedMetadata } from './metadata';

/** Consecutive L1 entries without a table that one answer covers at most. */
const MAX_EMPTY_TABLES = 65536;
const ENTRY_BYTES = 8;
/** L2 entries below 2 are no offsets. */
const ZERO_CLUSTER = 1;

type EntryKind = 'unallocated' | 'zero' | 'data' | 'invalid';

/** Guest clusters to host clusters of a QED image (block/qed-cluster.c, qed_find_cluster). */
export class QedClusterMap implements LayerStatus {
  readonly size: number;
  private readonly metadata: QedMetadata;
  private readonly l1: PagedTable;
  private readonly cache: TableCache;
  private readonly entriesPerPiece: number;
  /** Clusters lie before this host offset: QED counts only whole ones in the file. */
  private readonly fileEnd: number;

  constructor(metadata: QedMetadata, size: number, cacheBytes: number) {
    const { source, clusterSize, tableBytes, tableEntries } = metadata;
    this.metadata = metadata;
    this.size = size;
    const pieceBytes = Math.min(tableBytes, MAX_PIECE);
    this.l1 = new PagedTable(new TableCache(source, 'little', pieceBytes, cacheBytes / 4), metadata.l1TableOffset, tableEntries);
    this.cache = new TableCache(source, 'little', pieceBytes, cacheBytes);
    this.entriesPerPiece = this.cache.pieceBytes / ENTRY_BYTES;
    this.fileEnd = Math.floor(source.size / clusterSize) * clusterSize;
  }

  blockStatus(guestOffset: number, length: number): GuestExtent {
    requireSomeInside(guestOffset, length, this.size);
    const { l2Coverage, tablesReadable, tableBytes } = this.metadata;
    const wanted = Math.min(length, this.size - guestOffset);
    if (!tablesReadable) {
      return unknownExtent(wanted, 'QED header', 0, 'The header does not say how to read the tables.');
    }
    const l1Index = Math.floor(guestOffset / l2Coverage);
    const inTable = Math.min(wanted, (l1Index + 1) * l2Coverage - guestOffset);
    const tableOffset = this.tableOffset(l1Index);
    if (tableOffset === 0) {
      let next = l1Index + 1;
      const limit = Math.min(this.l1.length, next + MAX_EMPTY_TABLES);
      while (next < limit && this.tableOffset(next) === 0) {
        next++;
      }
      return plainExtent('unallocated', next >= this.l1.length ? wanted : Math.min(wanted, next * l2Coverage - guestOffset));
    }
    if (!this.isClusterOffset(tableOffset) || tableOffset + tableBytes > this.fileEnd) {
      const message = `The L2 table offset 0x${this.tableWord(l1Index).toString(16)} is not that of clusters in the file.`;
      return unknownExtent(inTable, 'L1 table entry', this.l1.entryOffset(l1Index), message);
    }
    return this.statusInTable(tableOffset, guestOffset, inTable);
  }

  private statusInTable(tableOffset: number, guestOffset: number, length: number): GuestExtent {
    const { clusterSize, tableEntries } = this.metadata;
    const cluster = Math.floor(guestOffset / clusterSize);
    const within = guestOffset - cluster * clusterSize;
    const entry = cluster % tableEntries;
    const first = entry % this.entriesPerPiece;
    const piece = this.cache.piece(tableOffset + Math.floor(entry / this.entriesPerPiece) * this.cache.pieceBytes);
    const host = safeNumber(piece.word(first));
    const kind = this.kindOf(host);
    if (kind === 'invalid') {
      const message = `The data cluster offset 0x${piece.word(first).toString(16)} is not that of a cluster in the file.`;
      return unknownExtent(Math.min(length, clusterSize - within), 'L2 table entry', piece.entryOffset(first), message);
    }
    const count = Math.min(this.entriesPerPiece - first, Math.ceil((within + length) / clusterSize));
    let run = 1;
    while (run < count && this.continues(safeNumber(piece.word(first + run)), kind, host + run * clusterSize)) {
      run++;
    }
    return plainExtent(kind, Math.min(length, run * clusterSize - within), kind === 'data' ? host + within : null);
  }

  private continues(value: number, kind: EntryKind, expected: number): boolean {
    return kind === 'data' ? value === expected && this.isClusterOffset(value) : this.kindOf(value) === kind;
  }

  private kindOf(value: number): EntryKind {
    if (value === 0) {
      return 'unallocated';
    }
    return value === ZERO_CLUSTER ? 'zero' : this.isClusterOffset(value) ? 'data' : 'invalid';
  }

  private isClusterOffset(value: number): boolean {
    const { clusterSize, headerBytes } = this.metadata;
    return value % clusterSize === 0 && value >= headerBytes && value < this.fileEnd;
  }

  /** The L2 table's offset; 0 where there is none. */
  private tableOffset(l1Index: number): number {
    return l1Index < this.l1.length ? safeNumber(this.tableWord(l1Index)) : 0;
  }

  private tableWord(l1Index: number): bigint {
    return this.l1.pieceOf(l1Index).word(this.l1.indexInPiece(l1Index));
  }
}
