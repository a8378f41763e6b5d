import { corruptImage, invalidFormat, type EngineError } from '../../errors';
import { readPadded, type ByteSource } from '../../io/source';
import { MAX_PIECE } from '../tableCache';
import type { QedMetadata } from './metadata';

/** What consecutive guest clusters are. */
export interface QedRun {
  readonly kind: 'unallocated' | 'zero' | 'data';
  /** Guest bytes, at least 1. */
  readonly length: number;
  /** Byte offset in the file of the first byte of a data run; -1 for the others. */
  readonly hostOffset: number;
}

/** Consecutive table entries that the file does not have yet. */
export interface TableUpdate {
  /** Byte offset in the file of the first entry. */
  readonly hostOffset: number;
  count: number;
  readonly value: number;
  /** What each entry is more than the one before it. */
  readonly step: number;
  readonly piece: Piece | null;
}

interface Piece {
  readonly hostOffset: number;
  readonly view: DataView;
  /** Updates of it that are not written; while there are some it must not be read again. */
  updates: number;
}

const ENTRY_BYTES = 8;
const HIGH = 2 ** 32;
const ZERO_CLUSTER = 1;
/** Consecutive L1 entries without a table that one answer covers at most. */
const MAX_EMPTY_TABLES = 65536;
/** Updates that wait for a flush; more than these, and an allocating write sees to them first. */
const MAX_UPDATES = 32768;

/**
 * The tables of a QED image that is in use: the L1 table, pieces of L2 tables, where the next cluster goes, and the entries that were
 * changed and not written. An entry is written only after what it leads to is on the disk (see `QedFlusher`); until then the file shows
 * the state before, and an interruption leaks clusters at worst.
 */
export class QedTables {
  private readonly source: ByteSource;
  private readonly metadata: QedMetadata;
  private readonly pieceBytes: number;
  private readonly perPiece: number;
  private readonly capacity: number;
  private readonly pieces = new Map<number, Piece>();
  private l1: DataView;
  /** Where L2 tables begin, ascending. */
  private tables: number[] = [];
  /** L1 entries that led to no table when the image was opened; they do not become right when the file grows to where they lead. */
  private readonly misleading = new Set<number>();
  private end: number;
  private pending: TableUpdate[] = [];
  private pinned = 0;
  /** Guest bytes that can be mapped; lookups end here. */
  private limit: number;

  /** @throws EngineError `file.io` */
  constructor(source: ByteSource, metadata: QedMetadata, size: number, cacheBytes: number) {
    this.source = source;
    this.metadata = metadata;
    this.pieceBytes = Math.min(metadata.tableBytes, MAX_PIECE);
    this.perPiece = this.pieceBytes / ENTRY_BYTES;
    this.capacity = Math.max(8, Math.floor(cacheBytes / this.pieceBytes));
    this.end = Math.floor(source.size / metadata.clusterSize) * metadata.clusterSize;
    this.limit = size;
    this.l1 = this.readL1(size);
    this.collectTables();
  }

  /** Where the next cluster will be put: the end of the file in whole clusters. */
  get allocationEnd(): number {
    return this.end;
  }

  /** Whether waiting updates have to be written before there are more. */
  get full(): boolean {
    return this.pending.length >= MAX_UPDATES || this.pinned > this.capacity / 2;
  }

  /** Whether entries are not written yet. */
  get changed(): boolean {
    return this.pending.length > 0;
  }

  /** Lets more guest bytes be mapped, for a disk that grows. @throws EngineError `file.io` */
  extendTo(size: number): void {
    const used = this.l1;
    const l1 = this.readL1(size);
    // Entries that wait to be written are in memory only.
    new Uint8Array(l1.buffer).set(new Uint8Array(used.buffer));
    this.l1 = l1;
    this.limit = size;
    this.collectTables();
  }

  /**
   * What the bytes from `guestOffset` on are, at most `length` of them, and at most as far as a piece of an L2 table reaches.
   * @throws EngineError `format.invalid` for an entry that leads to no cluster of the file, `file.io`
   */
  lookup(guestOffset: number, length: number): QedRun {
    const { l2Coverage, clusterSize, tableEntries } = this.metadata;
    const wanted = Math.min(length, this.limit - guestOffset);
    const l1Index = Math.floor(guestOffset / l2Coverage);
    const table = this.tableAt(l1Index);
    if (table === 0) {
      const entries = this.l1.byteLength / ENTRY_BYTES;
      const last = Math.min(entries, l1Index + MAX_EMPTY_TABLES);
      let next = l1Index + 1;
      while (next < last && this.tableAt(next) === 0) {
        next++;
      }
      return { kind: 'unallocated', length: next >= entries ? wanted : Math.min(wanted, next * l2Coverage - guestOffset), hostOffset: -1 };
    }
    this.requireTable(l1Index, table);
    const cluster = Math.floor(guestOffset / clusterSize);
    const within = guestOffset - cluster * clusterSize;
    const entry = cluster % tableEntries;
    const piece = this.pieceAt(table, entry);
    const first = entry % this.perPiece;
    const host = wordAt(piece.view, first);
    const count = Math.min(this.perPiece - first, Math.ceil((within + wanted) / clusterSize));
    let run = 1;
    if (host <= ZERO_CLUSTER) {
      while (run < count && wordAt(piece.view, first + run) === host) {
        run++;
      }
      return {
        kind: host === 0 ? 'unallocated' : 'zero',
        length: Math.min(wanted, run * clusterSize - within),
        hostOffset: -1,
      };
    }
    if (!this.isCluster(host)) {
      throw invalidFormat(
        this.source.name,
        'L2 table entry',
        piece.hostOffset + first * ENTRY_BYTES,
        `The data cluster offset 0x${host.toString(16)} is not that of a cluster in the file.`,
      );
    }
    while (run < count && wordAt(piece.view, first + run) === host + run * clusterSize && this.isCluster(host + run * clusterSize)) {
      run++;
    }
    return { kind: 'data', length: Math.min(wanted, run * clusterSize - within), hostOffset: host + within };
  }

  /**
   * Refuses a place for guest data that a table or the header has too: a write there would destroy them.
   * @throws EngineError `image.corrupt`
   */
  requireNoMetadata(hostOffset: number, length: number): void {
    const { tableBytes, l1TableOffset } = this.metadata;
    const table = this.lastTableBefore(hostOffset + length);
    const inL1 = hostOffset < l1TableOffset + tableBytes && hostOffset + length > l1TableOffset;
    if (inL1 || (table >= 0 && table + tableBytes > hostOffset)) {
      throw corruptImage(
        this.source.name,
        inL1 ? 'L1 table' : 'L2 table',
        inL1 ? l1TableOffset : table,
        `An L2 table entry gives guest data the same place, ${length} bytes at offset ${hostOffset}.`,
      );
    }
  }

  /**
   * Refuses tables that share clusters: whatever is changed in one is changed in the other.
   * @throws EngineError `image.corrupt`
   */
  requireSeparateTables(): void {
    const { tableBytes, l1TableOffset } = this.metadata;
    const all = [...this.tables, l1TableOffset].sort((a, b) => a - b);
    for (let i = 1; i < all.length; i++) {
      if (all[i]! < all[i - 1]! + tableBytes) {
        throw corruptImage(this.source.name, 'L2 table', all[i]!, 'Another table has a part of its place.');
      }
    }
  }

  /** Takes clusters at the end of the file and returns the offset of the first. What is there reads as zero. */
  take(clusters: number): number {
    const hostOffset = this.end;
    this.end += clusters * this.metadata.clusterSize;
    return hostOffset;
  }

  /** Gives back what was taken last; the caller sees to it that it reads as zero again. */
  giveBack(hostOffset: number): void {
    this.end = hostOffset;
  }

  /** Sees to a table for `guestOffset`. Without one, the entry that will lead to the new one waits with the others. */
  provideTable(guestOffset: number): void {
    const l1Index = Math.floor(guestOffset / this.metadata.l2Coverage);
    const found = this.tableAt(l1Index);
    if (found !== 0) {
      this.requireTable(l1Index, found);
      return;
    }
    const hostOffset = this.take(this.metadata.tableBytes / this.metadata.clusterSize);
    setWord(this.l1, l1Index, hostOffset);
    this.tables.push(hostOffset);
    const entry = this.metadata.l1TableOffset + l1Index * ENTRY_BYTES;
    this.pending.push({ hostOffset: entry, count: 1, value: hostOffset, step: 0, piece: null });
  }

  /**
   * Maps guest clusters that have a table and lie in one piece of it (as `lookup` gives them).
   * @param value the first one's host offset, or 1 for clusters of zeroes
   */
  map(guestOffset: number, clusters: number, value: number): void {
    const { l2Coverage, clusterSize, tableEntries } = this.metadata;
    const step = value === ZERO_CLUSTER ? 0 : clusterSize;
    const entry = Math.floor(guestOffset / clusterSize) % tableEntries;
    const table = this.tableAt(Math.floor(guestOffset / l2Coverage));
    for (let done = 0; done < clusters;) {
      const piece = this.pieceAt(table, entry + done);
      const first = (entry + done) % this.perPiece;
      const count = Math.min(clusters - done, this.perPiece - first);
      for (let i = 0; i < count; i++) {
        setWord(piece.view, first + i, value + (done + i) * step);
      }
      this.wait(piece, first, count, value + done * step, step);
      done += count;
    }
  }

  /** The updates that wait, oldest first. They are the caller's then, to be written and `settle`d, or `putBack`. */
  takeUpdates(): readonly TableUpdate[] {
    const updates = this.pending;
    this.pending = [];
    return updates;
  }

  putBack(updates: readonly TableUpdate[]): void {
    this.pending = [...updates, ...this.pending];
  }

  /** Updates are on the disk. */
  settle(updates: readonly TableUpdate[]): void {
    for (const { piece } of updates) {
      if (piece && --piece.updates === 0) {
        this.pinned--;
      }
    }
  }

  private wait(piece: Piece, first: number, count: number, value: number, step: number): void {
    const hostOffset = piece.hostOffset + first * ENTRY_BYTES;
    const last = this.pending.at(-1);
    if (
      last?.piece === piece &&
      last.step === step &&
      last.hostOffset + last.count * ENTRY_BYTES === hostOffset &&
      last.value + last.count * step === value
    ) {
      last.count += count;
      return;
    }
    if (piece.updates++ === 0) {
      this.pinned++;
    }
    this.pending.push({ hostOffset, count, value, step, piece });
  }

  private pieceAt(table: number, entry: number): Piece {
    const hostOffset = table + Math.floor(entry / this.perPiece) * this.pieceBytes;
    let piece = this.pieces.get(hostOffset);
    if (piece) {
      return piece;
    }
    const bytes = readPadded(this.source, hostOffset, this.pieceBytes);
    piece = { hostOffset, view: new DataView(bytes.buffer), updates: 0 };
    this.evict();
    this.pieces.set(hostOffset, piece);
    return piece;
  }

  /** The oldest goes that nothing waits in; at most half of them are waited in (see `full`). */
  private evict(): void {
    if (this.pieces.size < this.capacity) {
      return;
    }
    for (const [hostOffset, piece] of this.pieces) {
      this.pieces.delete(hostOffset);
      if (piece.updates === 0) {
        return;
      }
      // Moved to the young ones, so that it is not met again soon.
      this.pieces.set(hostOffset, piece);
    }
  }

  private readL1(size: number): DataView {
    const { l1TableOffset, tableEntries, l2Coverage } = this.metadata;
    // At most 2 MiB: where tables are larger, fewer of them map 2^53 bytes.
    const entries = Math.min(tableEntries, Math.ceil(size / l2Coverage));
    return new DataView(readPadded(this.source, l1TableOffset, entries * ENTRY_BYTES).buffer);
  }

  private collectTables(): void {
    const tables: number[] = [];
    for (let i = 0; i < this.l1.byteLength / ENTRY_BYTES; i++) {
      const table = this.tableAt(i);
      if (table !== 0 && this.isTable(table) && !this.misleading.has(i)) {
        tables.push(table);
      } else if (table !== 0) {
        this.misleading.add(i);
      }
    }
    this.tables = tables.sort((a, b) => a - b);
  }

  /** The last table that begins before `hostOffset`; -1 without one. */
  private lastTableBefore(hostOffset: number): number {
    let low = 0;
    let high = this.tables.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.tables[middle]! < hostOffset) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low === 0 ? -1 : this.tables[low - 1]!;
  }

  private tableAt(l1Index: number): number {
    return (l1Index + 1) * ENTRY_BYTES <= this.l1.byteLength ? wordAt(this.l1, l1Index) : 0;
  }

  private requireTable(l1Index: number, table: number): void {
    if (!this.isTable(table) || this.misleading.has(l1Index)) {
      throw this.badTable(l1Index, table);
    }
  }

  private badTable(l1Index: number, table: number): EngineError {
    return invalidFormat(
      this.source.name,
      'L1 table entry',
      this.metadata.l1TableOffset + l1Index * ENTRY_BYTES,
      `The L2 table offset 0x${table.toString(16)} is not that of clusters in the file.`,
    );
  }

  private isTable(hostOffset: number): boolean {
    return this.isCluster(hostOffset) && hostOffset + this.metadata.tableBytes <= this.end;
  }

  private isCluster(hostOffset: number): boolean {
    const { clusterSize, headerBytes } = this.metadata;
    return hostOffset % clusterSize === 0 && hostOffset >= headerBytes && hostOffset < this.end;
  }
}

/** The entries of an update as they stand in the file. */
export function encodeUpdate({ count, value, step }: TableUpdate): Uint8Array {
  const bytes = new Uint8Array(count * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    setWord(view, i, value + i * step);
  }
  return bytes;
}

/** Past 2^53 the sum is not exact; nothing compares such a value with anything but bounds far below it. */
function wordAt(view: DataView, index: number): number {
  return view.getUint32(index * ENTRY_BYTES + 4, true) * HIGH + view.getUint32(index * ENTRY_BYTES, true);
}

function setWord(view: DataView, index: number, value: number): void {
  view.setUint32(index * ENTRY_BYTES, value % HIGH, true);
  view.setUint32(index * ENTRY_BYTES + 4, Math.floor(value / HIGH), true);
}
