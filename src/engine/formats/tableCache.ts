import { readPadded, type ByteSource } from '../io/source';
import type { ByteOrder } from '../layout/fields';
import { WordTable } from '../layout/wordTable';

/** Tables are read in pieces of at most this many bytes: a random access should not read a table of megabytes for one entry. */
export const MAX_PIECE = 16 * 1024;

/** Pieces of a layer's tables, read when first needed; the least recently used go when the bound is reached. */
export class TableCache {
  /** Bytes of one piece; a table is cut into such pieces. */
  readonly pieceBytes: number;
  private readonly source: ByteSource;
  private readonly order: ByteOrder;
  private readonly capacity: number;
  private readonly pieces = new Map<number, WordTable>();
  private last: WordTable | null = null;

  constructor(source: ByteSource, order: ByteOrder, pieceBytes: number, maxBytes: number) {
    this.source = source;
    this.order = order;
    this.pieceBytes = pieceBytes;
    this.capacity = Math.max(2, Math.floor(maxBytes / pieceBytes));
  }

  /** The piece at `hostOffset`; what lies past the end of the file reads as zero. */
  piece(hostOffset: number): WordTable {
    if (this.last?.hostOffset === hostOffset) {
      return this.last;
    }
    let piece = this.pieces.get(hostOffset);
    if (piece) {
      this.pieces.delete(hostOffset);
    } else {
      piece = new WordTable(readPadded(this.source, hostOffset, this.pieceBytes), hostOffset, this.order);
      if (this.pieces.size >= this.capacity) {
        this.pieces.delete(this.pieces.keys().next().value!);
      }
    }
    // A Map keeps the order of insertion: what was put in last is what was used last.
    this.pieces.set(hostOffset, piece);
    this.last = piece;
    return piece;
  }
}

/** One table of 64-bit words that is read piece by piece: what a header claims of its length costs nothing. */
export class PagedTable {
  readonly hostOffset: number;
  /** Number of entries. */
  readonly length: number;
  private readonly cache: TableCache;
  private readonly perPiece: number;

  constructor(cache: TableCache, hostOffset: number, length: number) {
    this.cache = cache;
    this.hostOffset = hostOffset;
    this.length = length;
    this.perPiece = cache.pieceBytes / 8;
  }

  /** The piece that holds an entry; there its index is `indexInPiece`. */
  pieceOf(index: number): WordTable {
    return this.cache.piece(this.hostOffset + Math.floor(index / this.perPiece) * this.cache.pieceBytes);
  }

  indexInPiece(index: number): number {
    return index % this.perPiece;
  }

  /** Byte offset in the file of an entry. */
  entryOffset(index: number): number {
    return this.hostOffset + index * 8;
  }
}
