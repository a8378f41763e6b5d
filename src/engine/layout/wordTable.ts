import { safeNumber } from './codec';
import type { ByteOrder } from './fields';

/** A table of 64-bit words as it stands in the file: L1, L2, refcount and bitmap tables. For scans; no object per entry. */
export class WordTable {
  readonly bytes: Uint8Array;
  readonly length: number;
  private readonly view: DataView;
  private readonly little: boolean;
  private fileOffset: number;

  constructor(bytes: Uint8Array, hostOffset: number, order: ByteOrder) {
    this.bytes = bytes;
    this.fileOffset = hostOffset;
    this.length = Math.floor(bytes.length / 8);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = order === 'little';
  }

  /** Byte offset in the file of the first word. */
  get hostOffset(): number {
    return this.fileOffset;
  }

  /** From now on the same memory holds another part of the file. */
  relocate(hostOffset: number): void {
    this.fileOffset = hostOffset;
  }

  /** The upper 32 bits, unsigned. */
  high(index: number): number {
    return this.view.getUint32(index * 8 + (this.little ? 4 : 0), this.little);
  }

  /** The lower 32 bits, unsigned. */
  low(index: number): number {
    return this.view.getUint32(index * 8 + (this.little ? 0 : 4), this.little);
  }

  word(index: number): bigint {
    return this.view.getBigUint64(index * 8, this.little);
  }

  /** Bits 9 to 55, the host offset that every qcow2 table entry holds, as a number (below 2^56; past 2^53-1 it becomes Infinity). */
  hostOffsetAt(index: number): number {
    const high = this.high(index) & 0x00ffffff;
    return high < 0x00200000 ? high * 2 ** 32 + ((this.low(index) & ~0x1ff) >>> 0) : safeNumber(this.word(index) & 0x00fffffffffffe00n);
  }

  /** Byte offset in the file of an entry. */
  entryOffset(index: number): number {
    return this.hostOffset + index * 8;
  }
}
