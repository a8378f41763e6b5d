import type { ByteSource } from '../io/source';

/** A stretch of a file that is all data or all hole. */
export interface FileExtent {
  /** Where it ends; Infinity for the hole past the end of the file. */
  readonly to: number;
  readonly data: boolean;
}

/** Questions to the file system before its answers are kept. */
const PATIENCE = 4;
/** Extents read ahead with each further question: a file of many pieces is not looked through for the sake of a few. */
const READ_AHEAD = 32;
/** Extents kept; beyond them a file is asked piece by piece. */
const MOST_EXTENTS = 64 * 1024;
/** Parts of the file, for each extent, by which an extent is found. */
const PARTS_PER_EXTENT = 2;

const PAST_END: FileExtent = { to: Infinity, data: false };

/**
 * Where a file has data and where it has holes. Each question is a system call or two; scattered clusters ask a million of them about
 * a handful of extents, so that the extents are read on with each question, from the beginning of the file, and then found by their place.
 */
export class FileExtents {
  readonly source: ByteSource;
  private asked = 0;
  private readonly last = { from: 0, to: 0, data: false };
  /** Where the file's extents begin, from its beginning to `readTo`; the first `known` elements count. */
  private starts = new Float64Array(4 * READ_AHEAD);
  private kinds = new Uint8Array(4 * READ_AHEAD);
  private known = 0;
  private readTo = 0;
  /** Once all are known: the extent with which each part of the file begins. */
  private parts: Uint32Array | null = null;
  /** A power of two. */
  private partsPerByte = 1;

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** The extent that covers an offset, from there on; good until the next question. */
  at(offset: number): FileExtent {
    const { last } = this;
    if (offset >= last.from && offset < last.to) {
      return last;
    }
    if (offset >= this.source.size) {
      return PAST_END;
    }
    if (offset >= this.readTo && ++this.asked > PATIENCE) {
      this.readOn();
    }
    if (offset < this.readTo) {
      this.recall(this.parts ? this.find(this.parts, offset) : this.search(offset));
    } else {
      this.ask(offset);
    }
    return last;
  }

  private ask(offset: number): void {
    const { length, data } = this.source.extentAt(offset);
    this.last.from = offset;
    this.last.to = offset + Math.max(1, length);
    this.last.data = data;
  }

  private recall(index: number): void {
    this.last.from = this.starts[index]!;
    this.last.to = index + 1 < this.known ? this.starts[index + 1]! : this.readTo;
    this.last.data = this.kinds[index] === 1;
  }

  private readOn(): void {
    const { last, source } = this;
    if (this.known + READ_AHEAD > this.starts.length) {
      const [starts, kinds] = [new Float64Array(this.starts.length * 2), new Uint8Array(this.kinds.length * 2)];
      starts.set(this.starts);
      kinds.set(this.kinds);
      [this.starts, this.kinds] = [starts, kinds];
    }
    for (let i = 0; i < READ_AHEAD && this.readTo < source.size && this.known < MOST_EXTENTS; i++) {
      this.ask(this.readTo);
      this.starts[this.known] = last.from;
      this.kinds[this.known] = last.data ? 1 : 0;
      this.known++;
      this.readTo = last.to;
    }
    if (this.readTo >= source.size && this.parts === null) {
      this.parts = this.divided();
    }
  }

  private divided(): Uint32Array {
    const { starts, known, source } = this;
    const most = known * PARTS_PER_EXTENT;
    while (source.size * this.partsPerByte > most) {
      this.partsPerByte /= 2;
    }
    const parts = new Uint32Array(Math.ceil(source.size * this.partsPerByte));
    for (let part = 0, extent = 0; part < parts.length; part++) {
      while (extent + 1 < known && starts[extent + 1]! <= part / this.partsPerByte) {
        extent++;
      }
      parts[part] = extent;
    }
    return parts;
  }

  private find(parts: Uint32Array, offset: number): number {
    const { starts, known } = this;
    let index = parts[Math.floor(offset * this.partsPerByte)]!;
    while (index + 1 < known && starts[index + 1]! <= offset) {
      index++;
    }
    return index;
  }

  private search(offset: number): number {
    const { starts } = this;
    let low = 0;
    let high = this.known;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= offset) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
}
