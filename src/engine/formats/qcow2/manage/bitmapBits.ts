/** A stretch of guest bytes that a bitmap says the same of. */
export interface DirtyStatus {
  readonly dirty: boolean;
  /** Bytes from the offset that was asked for. */
  readonly length: number;
}

/**
 * The bits of a dirty bitmap, in pieces as long as a cluster, the way the file has them: a piece that is all zeroes takes no memory, and
 * one that is all ones shares its bytes with all others of its kind.
 */
export class BitmapBits {
  /** Guest bytes that one bit stands for. */
  readonly granularity: number;
  readonly pieceBytes: number;
  private bytes: number;
  private readonly ones: Uint8Array;
  private readonly pieces = new Map<number, Uint8Array>();

  constructor(size: number, granularity: number, pieceBytes: number) {
    this.bytes = size;
    this.granularity = granularity;
    this.pieceBytes = pieceBytes;
    this.ones = new Uint8Array(pieceBytes).fill(0xff);
  }

  /** Guest bytes that it covers. */
  get size(): number {
    return this.bytes;
  }

  /** How many pieces there are, with those that are zeroes. */
  get pieceCount(): number {
    return Math.ceil(this.bytes / this.span);
  }

  /** Guest bytes that one piece covers. */
  private get span(): number {
    return this.pieceBytes * 8 * this.granularity;
  }

  /** The bytes of a piece; null when no bit of it is set. Not to be changed. */
  piece(index: number): Uint8Array | null {
    return this.pieces.get(index) ?? null;
  }

  /** Numbers of the pieces with bits that may be set, in no order. */
  get occupied(): Iterable<number> {
    return this.pieces.keys();
  }

  /** Sets a piece as the file has it. */
  load(index: number, bytes: Uint8Array | 'ones'): void {
    this.pieces.set(index, bytes === 'ones' ? this.ones : bytes);
  }

  clear(): void {
    this.pieces.clear();
  }

  /** Marks all that a range touches. */
  mark(offset: number, length: number): void {
    if (length <= 0) {
      return;
    }
    const first = Math.floor(offset / this.granularity);
    const end = Math.ceil(Math.min(offset + length, this.bytes) / this.granularity);
    const perPiece = this.pieceBytes * 8;
    for (let bit = first; bit < end;) {
      const index = Math.floor(bit / perPiece);
      const within = bit - index * perPiece;
      const count = Math.min(perPiece - within, end - bit);
      if (count === perPiece) {
        this.pieces.set(index, this.ones);
      } else {
        setBits(this.writable(index), within, count);
      }
      bit += count;
    }
  }

  /** What it says of the bytes from `offset` on, as far as that is the same, at most `length`. */
  status(offset: number, length: number): DirtyStatus {
    const end = Math.min(offset + length, this.bytes);
    const bit = Math.floor(offset / this.granularity);
    const dirty = this.isSet(bit);
    const until = this.runEnd(bit, Math.ceil(end / this.granularity), dirty);
    return { dirty, length: Math.max(0, Math.min(end, until * this.granularity) - offset) };
  }

  /** Marks what `other` marks; it may have another granularity. */
  merge(other: BitmapBits): void {
    for (const index of [...other.occupied].sort((a, b) => a - b)) {
      const start = index * other.span;
      const end = Math.min(start + other.span, other.size);
      for (let offset = start; offset < end;) {
        const { dirty, length } = other.status(offset, end - offset);
        if (dirty) {
          this.mark(offset, length);
        }
        offset += length;
      }
    }
  }

  /** Bytes that are marked. */
  get dirtyBytes(): number {
    let total = 0;
    for (const index of this.pieces.keys()) {
      const end = Math.min((index + 1) * this.span, this.bytes);
      for (let offset = index * this.span; offset < end;) {
        const { dirty, length } = this.status(offset, end - offset);
        total += dirty ? length : 0;
        offset += length;
      }
    }
    return total;
  }

  /** Follows the disk's size; what is new is not marked. */
  resize(size: number): void {
    this.bytes = size;
    const perPiece = this.pieceBytes * 8;
    const bits = Math.ceil(size / this.granularity);
    for (const index of this.pieces.keys()) {
      if (index * perPiece >= bits) {
        this.pieces.delete(index);
      } else if ((index + 1) * perPiece > bits) {
        const piece = this.writable(index);
        const kept = bits - index * perPiece;
        piece.fill(0, Math.ceil(kept / 8));
        if (kept % 8 > 0) {
          piece[kept >> 3]! &= (1 << (kept & 7)) - 1;
        }
      }
    }
  }

  private writable(index: number): Uint8Array {
    let piece = this.pieces.get(index);
    if (!piece || piece === this.ones) {
      piece = piece ? piece.slice() : new Uint8Array(this.pieceBytes);
      this.pieces.set(index, piece);
    }
    return piece;
  }

  private isSet(bit: number): boolean {
    const index = Math.floor(bit / (this.pieceBytes * 8));
    const within = bit - index * this.pieceBytes * 8;
    return ((this.pieces.get(index)?.[within >> 3] ?? 0) & (1 << (within & 7))) !== 0;
  }

  /** The first bit from `bit` on that is not `value`; `end` when there is none. */
  private runEnd(bit: number, end: number, value: boolean): number {
    const perPiece = this.pieceBytes * 8;
    const whole = value ? 0xff : 0;
    let at = bit;
    while (at < end) {
      const index = Math.floor(at / perPiece);
      const piece = this.pieces.get(index);
      const pieceEnd = Math.min(end, (index + 1) * perPiece);
      if (!piece || piece === this.ones) {
        if ((piece !== undefined) !== value) {
          return at;
        }
        at = pieceEnd;
        continue;
      }
      let within = at - index * perPiece;
      const stop = pieceEnd - index * perPiece;
      while (within < stop) {
        const byte = piece[within >> 3]!;
        if ((within & 7) === 0 && byte === whole) {
          within += 8;
        } else if (((byte >> (within & 7)) & 1) === (value ? 1 : 0)) {
          within++;
        } else {
          return index * perPiece + within;
        }
      }
      at = pieceEnd;
    }
    return end;
  }
}

/** Least significant bit first. */
function setBits(bytes: Uint8Array, first: number, count: number): void {
  let bit = first;
  const end = first + count;
  while (bit < end && (bit & 7) !== 0) {
    bytes[bit >> 3]! |= 1 << (bit & 7);
    bit++;
  }
  bytes.fill(0xff, bit >> 3, Math.max(bit >> 3, end >> 3));
  for (bit = Math.max(bit, end & ~7); bit < end; bit++) {
    bytes[bit >> 3]! |= 1 << (bit & 7);
  }
}
