/** Which pieces of a disk have changed: a bit for each `granularity` bytes. */
export class DirtyBitmap {
  readonly granularity: number;
  private readonly words: Uint32Array;
  private readonly pieces: number;
  private count = 0;

  /** @param size bytes of the disk @param granularity bytes; a power of two */
  constructor(size: number, granularity: number) {
    this.granularity = granularity;
    this.pieces = Math.ceil(size / granularity);
    this.words = new Uint32Array(Math.ceil(this.pieces / 32));
  }

  /** Bytes in dirty pieces. */
  get dirtyBytes(): number {
    return this.count * this.granularity;
  }

  set(offset: number, length: number): void {
    const end = Math.min(this.pieces, Math.ceil((offset + length) / this.granularity));
    for (let piece = Math.floor(offset / this.granularity); piece < end; piece++) {
      const bit = 1 << (piece & 31);
      const word = this.words[piece >>> 5]!;
      if ((word & bit) === 0) {
        this.words[piece >>> 5] = word | bit;
        this.count++;
      }
    }
  }

  /** Takes out the first dirty pieces at or after `offset`, at most `length` bytes of consecutive ones; null when there are none. */
  take(offset: number, length: number): { readonly offset: number; readonly length: number } | null {
    const first = this.next(Math.floor(offset / this.granularity));
    if (first < 0) {
      return null;
    }
    const most = Math.max(1, Math.floor(length / this.granularity));
    let piece = first;
    while (piece < this.pieces && piece - first < most && this.isSet(piece)) {
      this.words[piece >>> 5]! &= ~(1 << (piece & 31));
      this.count--;
      piece++;
    }
    return { offset: first * this.granularity, length: (piece - first) * this.granularity };
  }

  private isSet(piece: number): boolean {
    return ((this.words[piece >>> 5]! >>> (piece & 31)) & 1) === 1;
  }

  private next(from: number): number {
    for (let piece = from; piece < this.pieces; piece++) {
      if ((piece & 31) === 0 && this.words[piece >>> 5] === 0) {
        piece += 31;
      } else if (this.isSet(piece)) {
        return piece;
      }
    }
    return -1;
  }
}
