/** What was decompressed; the least recently used goes when the bound is reached. */
export class DecompressedCache {
  private readonly maxBytes: number;
  private readonly kept = new Map<string, Uint8Array>();
  private bytes = 0;

  /** @param maxBytes one piece is kept even when it is larger */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** The bytes of that key, decompressed by `make` unless they are there; not to be changed. */
  get(key: string, make: () => Uint8Array): Uint8Array {
    let piece = this.kept.get(key);
    if (piece) {
      this.kept.delete(key);
    } else {
      piece = make();
      this.makeRoom(piece.length);
      this.bytes += piece.length;
    }
    this.kept.set(key, piece);
    return piece;
  }

  private makeRoom(length: number): void {
    for (const [key, { length: freed }] of this.kept) {
      if (this.bytes + length <= this.maxBytes) {
        break;
      }
      this.kept.delete(key);
      this.bytes -= freed;
    }
  }
}
