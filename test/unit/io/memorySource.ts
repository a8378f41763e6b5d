import type { ByteSource } from '../../../src/engine/io/source';

/** A file in memory. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Called before every read. */
  onRead: (hostOffset: number, length: number) => void = () => undefined;

  constructor(bytes: Uint8Array, name = 'memory') {
    this.bytes = bytes;
    this.name = name;
  }

  /** A file of `size` bytes with some of them set; the rest is zero. */
  static of(size: number, pieces: readonly { readonly hostOffset: number; readonly bytes: Uint8Array }[], name?: string): MemorySource {
    const bytes = new Uint8Array(size);
    for (const piece of pieces) {
      bytes.set(piece.bytes, piece.hostOffset);
    }
    return new MemorySource(bytes, name);
  }

  get size(): number {
    return this.bytes.length;
  }

  get allocatedBytes(): number {
    return this.bytes.length;
  }

  read(target: Uint8Array, hostOffset: number): number {
    this.onRead(hostOffset, target.length);
    const part = this.bytes.subarray(Math.min(hostOffset, this.size), Math.min(hostOffset + target.length, this.size));
    target.set(part);
    return part.length;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return { length: this.size - hostOffset, data: true };
  }

  close(): void {
    // Memory.
  }
}
