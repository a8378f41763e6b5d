import { HOST } from './hostClass';

/** Class number of clusters that structures of different kinds claim. */
const CONFLICT = 15;
/** The count stays here when it gets here: more references than a map has to tell apart. */
const MOST_REFERENCES = 0xfff;

/**
 * How often, and as what, the clusters of a stretch of a file are referenced: 16 bits a cluster, the class (HOST number) in the lower
 * four, the number of references in the upper twelve.
 */
export class ReferenceCounts {
  /** First cluster of the stretch. */
  readonly first: number;
  readonly length: number;
  /** Whether anything was counted. */
  touched = false;
  private readonly entries: Uint16Array;

  constructor(first: number, length: number) {
    this.first = first;
    this.length = length;
    this.entries = new Uint16Array(length);
  }

  /** Counts `weight` references to a cluster, which may lie outside the stretch. */
  add(cluster: number, hostClass: number, weight: number): void {
    const at = cluster - this.first;
    if (at >= 0 && at < this.length) {
      const entry = this.entries[at]!;
      const known = entry & 15;
      const count = Math.min(MOST_REFERENCES, (entry >>> 4) + weight);
      this.touched = true;
      this.entries[at] = (count << 4) | (entry === 0 || known === hostClass ? hostClass : CONFLICT);
    }
  }

  /** Counts one reference to each cluster that a range of bytes touches. */
  addBytes(hostOffset: number, length: number, clusterSize: number, hostClass: number, weight = 1): void {
    if (length > 0) {
      const from = Math.max(Math.floor(hostOffset / clusterSize), this.first);
      const to = Math.min(Math.ceil((hostOffset + length) / clusterSize), this.first + this.length);
      for (let cluster = from; cluster < to; cluster++) {
        this.add(cluster, hostClass, weight);
      }
    }
  }

  /**
   * Final classes of the clusters from `from` on, given their refcounts on disk; null where the format counts
   * none: then a cluster that nothing references is lost, and one that two things reference is broken.
   */
  resolve(from: number, refcounts: Uint16Array | null, target: Uint8Array, count: number): void {
    const { entries } = this;
    const at = from - this.first;
    for (let i = 0; i < count; i++) {
      const entry = entries[at + i]!;
      const references = entry >>> 4;
      const limit = refcounts ? refcounts[i]! : 1;
      if (references === 0) {
        target[i] = limit > 0 ? HOST.leaked : HOST.free;
      } else if ((entry & 15) === CONFLICT || (references > limit && limit < MOST_REFERENCES)) {
        target[i] = HOST.corrupt;
      } else {
        target[i] = entry & 15;
      }
    }
  }
}
