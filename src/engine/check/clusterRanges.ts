/** Ranges that are kept; a set in more pieces than this is cut, and says so. */
const MOST_RANGES = 65_536;

export interface RangesMark {
  readonly length: number;
  readonly last: number | undefined;
  readonly cut: boolean;
}

/** A bounded set of host clusters, best added in ascending order, and kept as ranges. */
export class ClusterRanges {
  private readonly pairs: number[] = [];
  private cut = false;

  /** Adds the clusters from `first` to `end` - 1. */
  add(first: number, end: number): void {
    const { pairs } = this;
    if (pairs.length > 0 && pairs[pairs.length - 1] === first) {
      pairs[pairs.length - 1] = end;
    } else if (pairs.length < MOST_RANGES * 2) {
      pairs.push(first, end);
    } else {
      this.cut = true;
    }
  }

  /** Whether a cluster is in the set, or may be in the part that was cut; for clusters added in ascending order. */
  mayHave(cluster: number): boolean {
    const { pairs } = this;
    let low = 0;
    let high = pairs.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((pairs[middle * 2 + 1] ?? 0) <= cluster) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < pairs.length / 2 ? (pairs[low * 2] ?? 0) <= cluster : this.cut;
  }

  /** The first `limit` clusters. */
  first(limit: number): number[] {
    const { pairs } = this;
    const clusters: number[] = [];
    for (let i = 0; i < pairs.length && clusters.length < limit; i += 2) {
      const end = Math.min(pairs[i + 1] ?? 0, (pairs[i] ?? 0) + limit - clusters.length);
      for (let cluster = pairs[i] ?? 0; cluster < end; cluster++) {
        clusters.push(cluster);
      }
    }
    return clusters;
  }

  taken(): ClusterSet {
    const { pairs } = this;
    const ascending = pairs.every((value, i) => i === 0 || value > (pairs[i - 1] ?? 0));
    return { ranges: Float64Array.from(ascending ? pairs : merged(pairs)), complete: !this.cut };
  }

  /** How far it was filled, to `rollBack` to. */
  mark(): RangesMark {
    return { length: this.pairs.length, last: this.pairs.at(-1), cut: this.cut };
  }

  rollBack({ length, last, cut }: RangesMark): void {
    this.pairs.length = length;
    if (last !== undefined) {
      this.pairs[length - 1] = last;
    }
    this.cut = cut;
  }
}

function merged(pairs: readonly number[]): number[] {
  const sorted = Array.from({ length: pairs.length / 2 }, (_, i) => [pairs[i * 2] ?? 0, pairs[i * 2 + 1] ?? 0] as const);
  sorted.sort(([a], [b]) => a - b);
  const out: number[] = [];
  for (const [first, end] of sorted) {
    const before = out.at(-1);
    if (before !== undefined && first <= before) {
      out[out.length - 1] = Math.max(before, end);
    } else {
      out.push(first, end);
    }
  }
  return out;
}

/** Host clusters in compact form. */
export interface ClusterSet {
  /** First cluster and the one after the last, of range after range, ascending. */
  readonly ranges: Float64Array;
  /** False when the set is in so many pieces that only the first 65,536 are here. */
  readonly complete: boolean;
}
