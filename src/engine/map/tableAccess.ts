import type { ByteSource } from '../io/source';
import type { ByteOrder } from '../layout/fields';

/** A reused buffer for pieces of tables; what lies past the end of the file reads as zero, as QEMU has it. */
export class EntryBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes by 32 bits in the machine's own order: for "is it zero" tests only. */
  readonly halves: Int32Array;
  /** The same by 64 bits, the fastest such test: an entry that holds nothing but its byte's highest bit passes for zero. */
  readonly words: Float64Array;
  readonly view: DataView;

  /** @param capacity bytes, a multiple of 8 */
  constructor(capacity: number) {
    const memory = new ArrayBuffer(capacity);
    this.bytes = new Uint8Array(memory);
    this.halves = new Int32Array(memory);
    this.words = new Float64Array(memory);
    this.view = new DataView(memory);
  }

  /** Reads `length` bytes at `hostOffset` to the buffer's start. */
  load(source: ByteSource, hostOffset: number, length: number): void {
    const target = length === this.bytes.length ? this.bytes : this.bytes.subarray(0, length);
    const present = hostOffset < source.size ? source.read(target, hostOffset) : 0;
    if (present < length) {
      target.fill(0, present);
    }
  }
}

/** Entries in a page of a `PagedTable`. */
const PAGE_ENTRIES = 4096;

/**
 * A table of 64-bit words read a page at a time. An L1 table may have 32 MiB (QED's: a gigabyte), a chain may have hundreds of layers;
 * a walk along the disk needs one page of each.
 */
export class PagedTable {
  readonly hostOffset: number;
  /** Number of entries; those past the end of the file are zero. */
  readonly entries: number;
  private readonly source: ByteSource;
  private readonly little: boolean;
  private readonly page: EntryBuffer;
  private pageIndex = -1;

  constructor(source: ByteSource, hostOffset: number, entries: number, order: ByteOrder) {
    this.source = source;
    this.hostOffset = hostOffset;
    this.little = order === 'little';
    // Nothing past the end of the file is ever found, so nothing past it is looked at.
    const present = Math.ceil(Math.max(0, source.size - hostOffset) / 8);
    this.entries = Number.isSafeInteger(hostOffset) ? Math.min(entries, present) : 0;
    this.page = new EntryBuffer(Math.max(1, Math.min(PAGE_ENTRIES, this.entries)) * 8);
  }

  /** The upper 32 bits, unsigned; 0 outside the table. */
  high(index: number): number {
    return this.half(index, this.little ? 4 : 0);
  }

  /** The lower 32 bits, unsigned; 0 outside the table. */
  low(index: number): number {
    return this.half(index, this.little ? 0 : 4);
  }

  /** Index of the first entry at or after `index` that is not zero; Infinity when there is none. */
  nextUsed(index: number): number {
    const { halves } = this.page;
    for (let at = index; at < this.entries;) {
      const offset = at % PAGE_ENTRIES;
      this.turnTo((at - offset) / PAGE_ENTRIES);
      const end = Math.min(PAGE_ENTRIES, this.entries - at + offset);
      for (let i = offset; i < end; i++) {
        if ((halves[i * 2]! | halves[i * 2 + 1]!) !== 0) {
          return at - offset + i;
        }
      }
      at += end - offset;
    }
    return Infinity;
  }

  private half(index: number, at: number): number {
    if (index >= this.entries) {
      return 0;
    }
    const offset = index % PAGE_ENTRIES;
    this.turnTo((index - offset) / PAGE_ENTRIES);
    return this.page.view.getUint32(offset * 8 + at, this.little);
  }

  private turnTo(pageIndex: number): void {
    if (pageIndex !== this.pageIndex) {
      const first = pageIndex * PAGE_ENTRIES;
      this.page.load(this.source, this.hostOffset + first * 8, Math.min(PAGE_ENTRIES, this.entries - first) * 8);
      this.pageIndex = pageIndex;
    }
  }
}
