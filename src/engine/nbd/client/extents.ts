import type { Descriptor } from './transmission';

/** A stretch of bytes that are data, or read as zero. */
interface Extent {
  readonly start: number;
  readonly end: number;
  readonly data: boolean;
}

/** What is known at a time; beyond that, all is forgotten and asked anew. */
const MAX_EXTENTS = 16 * 1024;

/** Which ranges of an export are known to be data or zeroes: sorted, without overlaps, with gaps where nobody asked. */
export class KnownExtents {
  private extents: Extent[] = [];

  /** The rest of the extent that covers `offset`; null when that is not known. */
  at(offset: number): { readonly length: number; readonly data: boolean } | null {
    const extent = this.extents[this.behind(offset)];
    return extent && extent.start <= offset ? { length: extent.end - offset, data: extent.data } : null;
  }

  /**
   * Takes a server's answer for what follows `offset`.
   * @param isData of a descriptor's flags
   * @param limit where what is described ends, whatever the server says
   */
  learn(offset: number, descriptors: readonly Descriptor[], isData: (flags: number) => boolean, limit: number): void {
    const learned: Extent[] = [];
    let start = offset;
    for (const { length, flags } of descriptors) {
      const end = Math.min(limit, start + length);
      const data = isData(flags);
      const last = learned.at(-1);
      if (last?.data === data) {
        learned[learned.length - 1] = { ...last, end };
      } else if (end > start) {
        learned.push({ start, end, data });
      }
      start = end;
    }
    if (this.extents.length + learned.length > MAX_EXTENTS) {
      this.extents = [];
    }
    this.forget(offset, start);
    this.extents.splice(this.behind(offset), 0, ...learned);
  }

  /** The range is data from now on, or may be. */
  markData(start: number, end: number): void {
    this.forget(start, end);
    this.extents.splice(this.behind(start), 0, { start, end, data: true });
  }

  private forget(start: number, end: number): void {
    const first = this.behind(start);
    let last = first;
    const kept: Extent[] = [];
    while (last < this.extents.length && this.extents[last]!.start < end) {
      const extent = this.extents[last++]!;
      if (extent.start < start) {
        kept.push({ ...extent, end: start });
      }
      if (extent.end > end) {
        kept.push({ ...extent, start: end });
      }
    }
    this.extents.splice(first, last - first, ...kept);
  }

  /** Index of the first extent that ends behind `offset`. */
  private behind(offset: number): number {
    let low = 0;
    let high = this.extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.extents[middle]!.end > offset) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
}
