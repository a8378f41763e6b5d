import { requireSomeInside } from '../../block/inFlight';
import type { WordTable } from '../../layout/wordTable';
import { plainExtent, unknownExtent, type GuestExtent, type LayerStatus } from '../extent';
import { MAX_PIECE, PagedTable, TableCache } from '../tableCache';
import type { Qcow2Metadata } from './metadata';
import type { L1Location } from './tables';
import { LIMITS } from './structures';

/** Consecutive L1 entries without a table that one answer covers at most. */
const MAX_EMPTY_TABLES = 65536;

const COPIED_HIGH = 0x80000000;
const COMPRESSED_HIGH = 0x40000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

/** What an L2 entry (with extended L2: one subcluster of it) says, in QEMU's cases. */
type EntryKind = 'unallocated' | 'data' | 'zero' | 'compressed';

/** Where a view's tables are had from: the file, or the memory of whoever changes them. */
export interface GuestTables {
  /** Entries of the L1 table. */
  readonly l1Size: number;
  /** The L2 table's offset; 0 where there is none, as beyond the end of the L1 table. */
  tableOffset(l1Index: number): number;
  /** Byte offset in the file of an L1 entry. */
  l1EntryOffset(l1Index: number): number;
  /** L2 tables come in pieces of `pieceBytes`, a part of a cluster. */
  readonly slices: { readonly pieceBytes: number; piece(hostOffset: number): WordTable };
}

/** The tables as they stand in the file. */
export class FileTables implements GuestTables {
  readonly slices: TableCache;
  readonly l1Size: number;
  private readonly l1: PagedTable;

  /**
   * @param location the active L1 table or a snapshot's
   * @param cacheBytes bound for the L2 tables kept in memory
   */
  constructor({ source, clusterSize }: Qcow2Metadata, location: L1Location, cacheBytes: number) {
    const l1Cache = new TableCache(source, 'big', MAX_PIECE, cacheBytes / 4);
    this.l1Size = Math.min(location.entries, LIMITS.maxL1Bytes / 8);
    this.l1 = new PagedTable(l1Cache, location.hostOffset, this.l1Size);
    this.slices = new TableCache(source, 'big', Math.min(clusterSize, MAX_PIECE), cacheBytes);
  }

  tableOffset(l1Index: number): number {
    return l1Index < this.l1Size ? hostOffsetAt(this.l1.pieceOf(l1Index), this.l1.indexInPiece(l1Index)) : 0;
  }

  l1EntryOffset(l1Index: number): number {
    return this.l1.entryOffset(l1Index);
  }
}

/**
 * Guest clusters to host clusters by the L1 and L2 tables of one view of a qcow2 image, interpreted as QEMU's driver does
 * (block/qcow2-cluster.c, qcow2_get_host_offset): what it stops at is `unknown` here, what it ignores (reserved bits) is ignored.
 */
export class Qcow2ClusterMap implements LayerStatus {
  readonly size: number;
  private readonly metadata: Qcow2Metadata;
  private readonly tables: GuestTables;
  /** Guest bytes that one allocation bit stands for: a cluster, or a subcluster. */
  private readonly unit: number;
  private readonly entriesPerPiece: number;

  /** @param size virtual size in bytes of that view */
  constructor(metadata: Qcow2Metadata, tables: GuestTables, size: number) {
    const { clusterSize, extendedL2, l2EntryBytes } = metadata;
    this.metadata = metadata;
    this.size = size;
    this.tables = tables;
    this.unit = extendedL2 ? clusterSize / LIMITS.subclustersPerCluster : clusterSize;
    this.entriesPerPiece = tables.slices.pieceBytes / l2EntryBytes;
  }

  blockStatus(guestOffset: number, length: number): GuestExtent {
    requireSomeInside(guestOffset, length, this.size);
    const { metadata } = this;
    const wanted = Math.min(length, this.size - guestOffset);
    if (!metadata.tablesReadable) {
      return unknownExtent(wanted, 'qcow2 header', 0, 'The header does not say how to read the tables.');
    }
    const l1Index = Math.floor(guestOffset / metadata.l2Coverage);
    const tableEnd = (l1Index + 1) * metadata.l2Coverage;
    const inTable = Math.min(wanted, tableEnd - guestOffset);
    const tableOffset = this.tables.tableOffset(l1Index);
    if (tableOffset === 0) {
      return plainExtent('unallocated', Math.min(wanted, this.emptyUntil(l1Index) - guestOffset));
    }
    if (tableOffset % metadata.clusterSize !== 0) {
      const message = `The L2 table offset ${offsetText(tableOffset)} is not aligned to a cluster.`;
      return unknownExtent(inTable, 'L1 table entry', this.tables.l1EntryOffset(l1Index), message);
    }
    return this.statusInTable(tableOffset, guestOffset, inTable);
  }

  /** Guest offset up to which no L2 table exists, from a missing one on. */
  private emptyUntil(l1Index: number): number {
    const { tables } = this;
    if (l1Index >= tables.l1Size) {
      return this.size;
    }
    let index = l1Index + 1;
    const limit = Math.min(tables.l1Size, index + MAX_EMPTY_TABLES);
    while (index < limit && tables.tableOffset(index) === 0) {
      index++;
    }
    return index >= tables.l1Size ? this.size : index * this.metadata.l2Coverage;
  }

  private statusInTable(tableOffset: number, guestOffset: number, length: number): GuestExtent {
    const { clusterSize, l2Entries, extendedL2 } = this.metadata;
    const cluster = Math.floor(guestOffset / clusterSize);
    const entry = cluster % l2Entries;
    const inPiece = entry % this.entriesPerPiece;
    const { slices } = this.tables;
    const piece = slices.piece(tableOffset + Math.floor(entry / this.entriesPerPiece) * slices.pieceBytes);
    const guestStart = cluster * clusterSize;
    const inPieceLength = Math.min(length, guestStart + (this.entriesPerPiece - inPiece) * clusterSize - guestOffset);
    return extendedL2
      ? this.extendedStatus(piece, inPiece, guestStart, guestOffset, inPieceLength)
      : this.standardStatus(piece, inPiece, guestStart, guestOffset, inPieceLength);
  }

  private standardStatus(piece: WordTable, first: number, guestStart: number, guestOffset: number, length: number): GuestExtent {
    const { clusterSize, version } = this.metadata;
    const within = guestOffset - guestStart;
    const kind = this.kindOf(piece, first);
    if (kind === 'compressed') {
      return this.compressedStatus(piece, first, guestStart, Math.min(length, clusterSize - within));
    }
    const host = hostOffsetAt(piece, first);
    if (kind === 'zero' && version < 3) {
      const message = 'It marks a zero cluster, which version 2 does not have.';
      return unknownExtent(Math.min(length, clusterSize - within), 'L2 table entry', piece.entryOffset(first), message);
    }
    const placed = kind === 'data' || host !== 0;
    const problem = placed ? this.hostProblem(host, guestStart) : null;
    if (problem !== null) {
      return unknownExtent(Math.min(length, clusterSize - within), 'L2 table entry', piece.entryOffset(first), problem);
    }
    // The run of entries that say the same; with a host offset, one that continues.
    const count = Math.ceil((within + length) / clusterSize);
    let run = 1;
    while (
      run < count &&
      this.kindOf(piece, first + run) === kind &&
      hostOffsetAt(piece, first + run) === (placed ? host + run * clusterSize : 0)
    ) {
      run++;
    }
    return plainExtent(kind, Math.min(length, run * clusterSize - within), placed ? host + within : null);
  }

  private extendedStatus(piece: WordTable, first: number, guestStart: number, guestOffset: number, length: number): GuestExtent {
    const { clusterSize } = this.metadata;
    const { unit } = this;
    const within = guestOffset - guestStart;
    const word = first * 2;
    const rest = Math.min(length, clusterSize - within);
    if (this.kindOf(piece, word) === 'compressed') {
      return this.compressedStatus(piece, word, guestStart, rest);
    }
    const host = hostOffsetAt(piece, word);
    const placed = this.isPlaced(piece, word);
    const zero = piece.high(word + 1);
    const allocated = piece.low(word + 1);
    if ((zero & allocated) !== 0 || (!placed && allocated !== 0)) {
      const message =
        (zero & allocated) !== 0
          ? 'Its bitmap has subclusters that are both allocated and zero.'
          : 'Its bitmap has allocated subclusters, but it has no host cluster.';
      return unknownExtent(rest, 'L2 table entry', piece.entryOffset(word), message);
    }
    const problem = placed ? this.hostProblem(host, guestStart) : null;
    if (problem !== null) {
      return unknownExtent(rest, 'L2 table entry', piece.entryOffset(word), problem);
    }
    const subcluster = Math.floor(within / unit);
    const kind = subclusterKind(allocated, zero, subcluster);
    let end = subcluster + 1;
    while (end < LIMITS.subclustersPerCluster && subclusterKind(allocated, zero, end) === kind) {
      end++;
    }
    if (end < LIMITS.subclustersPerCluster) {
      return plainExtent(kind, Math.min(length, end * unit - within), placed ? host + within : null);
    }
    // The whole rest of the cluster is alike; go on over clusters that are so from end to end.
    const count = Math.ceil((within + length) / clusterSize);
    const fullAllocated = kind === 'data' ? 0xffffffff : 0;
    const fullZero = kind === 'zero' ? 0xffffffff : 0;
    let run = 1;
    while (run < count) {
      const next = (first + run) * 2;
      const continues =
        this.kindOf(piece, next) !== 'compressed' &&
        piece.low(next + 1) === fullAllocated &&
        piece.high(next + 1) === fullZero &&
        this.isPlaced(piece, next) === placed &&
        hostOffsetAt(piece, next) === (placed ? host + run * clusterSize : 0);
      if (!continues) {
        break;
      }
      run++;
    }
    return plainExtent(kind, Math.min(length, run * clusterSize - within), placed ? host + within : null);
  }

  private compressedStatus(piece: WordTable, index: number, guestOffset: number, length: number): GuestExtent {
    if (this.metadata.hasDataFile) {
      const message = 'It is a compressed cluster, which an image with an external data file cannot have.';
      return unknownExtent(length, 'L2 table entry', piece.entryOffset(index), message);
    }
    // The offset has 62 - (cluster_bits - 8) bits: 49 to 61. The sector count is what is above them.
    const offsetBits = 62 - (this.metadata.clusterBits - 8);
    const high = piece.high(index) & 0x3fffffff;
    const highBits = offsetBits - 32;
    const hostHigh = high & (2 ** highBits - 1);
    const sectors = (high >>> highBits) + 1;
    const hostOffset = hostHigh * 2 ** 32 + piece.low(index);
    if (hostOffset > Number.MAX_SAFE_INTEGER) {
      return unknownExtent(length, 'L2 table entry', piece.entryOffset(index), 'Its compressed bytes lie past 2^53-1.');
    }
    const compressed = { hostOffset, guestOffset, length: sectors * 512 - (hostOffset % 512) };
    return { class: 'compressed', length, hostOffset: null, compressed, problem: null };
  }

  /** The kind of a standard entry, or of an extended one as far as its first word tells (`zero` does not occur there). */
  private kindOf(piece: WordTable, index: number): EntryKind {
    const high = piece.high(index);
    if ((high & COMPRESSED_HIGH) !== 0) {
      return 'compressed';
    }
    if (!this.metadata.extendedL2 && (piece.low(index) & 1) !== 0) {
      return 'zero';
    }
    return this.isPlaced(piece, index) ? 'data' : 'unallocated';
  }

  /** Whether an entry that is not compressed has a host cluster. Offset 0 is one only in a data file, and the COPIED flag tells. */
  private isPlaced(piece: WordTable, index: number): boolean {
    const high = piece.high(index);
    return (high & OFFSET_HIGH) !== 0 || (piece.low(index) & OFFSET_LOW) !== 0 || (this.metadata.hasDataFile && (high & COPIED_HIGH) !== 0);
  }

  /** Why no cluster of guest data can lie at `host`; null when one can. */
  private hostProblem(host: number, guestOffset: number): string | null {
    if (host % this.metadata.clusterSize !== 0) {
      return `Its host cluster offset ${offsetText(host)} is not aligned to a cluster.`;
    }
    if (this.metadata.hasDataFile && host !== guestOffset) {
      return `Its offset in the external data file, ${offsetText(host)}, differs from the guest offset, ${offsetText(guestOffset)}.`;
    }
    return null;
  }
}

function subclusterKind(allocated: number, zero: number, subcluster: number): 'data' | 'zero' | 'unallocated' {
  return ((zero >>> subcluster) & 1) !== 0 ? 'zero' : ((allocated >>> subcluster) & 1) !== 0 ? 'data' : 'unallocated';
}

/**
 * Bits 9 to 55 of an entry. Past 2^53-1 too: a multiple of 512 below 2^56 is a number exactly, no file reaches there, and what lies past
 * the end of a file reads as zeroes.
 */
function hostOffsetAt(table: WordTable, index: number): number {
  return (table.high(index) & OFFSET_HIGH) * 2 ** 32 + ((table.low(index) & OFFSET_LOW) >>> 0);
}

function offsetText(offset: number): string {
  return `0x${offset.toString(16)}`;
}
