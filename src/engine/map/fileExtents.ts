import type { ByteSource } from '../io/source';

/** A stretch of a file that is all data or all hole. */
export interface FileExtent {
  /** Where it ends; Infinity for the hole past the end of the file. */
  readonly to: number;
  readonly data: boolean;
}

/** Questions to the file system before the whole file is looked through. */
const PATIENCE = 64;
/** Extents kept; a file of more pieces is asked piece by piece. */
const MOST_EXTENTS = 64 * 1024;

const PAST_END: FileExtent = { to: Infinity, data: false };

/**
 * Where a file has data and where it has holes. Each question is a system call or two; scattered clusters ask a million of them about
 * a handful of extents, so after some the extents are read once and searched.
 */
export class FileExtents {
  private readonly source: ByteSource;
  private asked = 0;
  private last = { from: 0, to: 0, data: false };
  /** Where extents begin, ascending from 0; null before they were read, or when there are too many. */
  private starts: Float64Array | null = null;
  private kinds: Uint8Array | null = null;

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** The extent that covers an offset, from there on. */
  at(offset: number): FileExtent {
    const { last, source } = this;
    if (offset >= source.size) {
      return PAST_END;
    }
    if (offset >= last.from && offset < last.to) {
      return last;
    }
    if (++this.asked === PATIENCE) {
      this.readAll();
    }
    this.last = this.starts && this.kinds ? this.search(this.starts, this.kinds, offset) : this.ask(offset);
    return this.last;
  }

  private ask(offset: number): { from: number; to: number; data: boolean } {
    const { length, data } = this.source.extentAt(offset);
    return { from: offset, to: offset + Math.max(1, length), data };
  }

  private readAll(): void {
    const starts: number[] = [];
    const kinds: number[] = [];
    for (let at = 0; at < this.source.size;) {
      if (starts.length === MOST_EXTENTS) {
        return;
      }
      const { to, data } = this.ask(at);
      starts.push(at);
      kinds.push(data ? 1 : 0);
      at = to;
    }
    this.starts = Float64Array.from(starts);
    this.kinds = Uint8Array.from(kinds);
  }

  private search(starts: Float64Array, kinds: Uint8Array, offset: number): { from: number; to: number; data: boolean } {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= offset) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return { from: starts[low]!, to: starts[low + 1] ?? this.source.size, data: kinds[low] === 1 };
  }
}
