import type { Finding, FindingCategory, FindingKind } from '../../protocol/check';

/** What a finding says; its kind and category stand beside it. */
export type FindingText = Omit<Finding, 'kind' | 'category'>;

interface Kept {
  readonly kind: FindingKind;
  readonly category: FindingCategory;
  readonly write: () => FindingText;
}

interface Counted {
  readonly kind: FindingKind;
  readonly category: FindingCategory;
  count: number;
  kept: number;
}

export interface FindingsMark {
  readonly kept: number;
  readonly counted: Counted[];
}

/**
 * Counts what is found, and keeps the first few of each kind. A finding is put into words only at the end, when also those who refer to
 * a cluster are known.
 */
export class Findings {
  private readonly limit: number;
  private readonly kept: Kept[] = [];
  private readonly counted = new Map<string, Counted>();

  /** @param limit findings kept of each kind */
  constructor(limit: number) {
    this.limit = limit;
  }

  /**
   * @param times how often it counts: a broken entry of a table that two L1 entries share is met twice
   */
  add(kind: FindingKind, category: FindingCategory, write: () => FindingText, times = 1): void {
    if (times <= 0) {
      return;
    }
    const counted = this.of(kind, category);
    counted.count += times;
    if (counted.kept < this.limit) {
      counted.kept++;
      this.kept.push({ kind, category, write });
    }
  }

  /** Counts without keeping, for those beyond the limit that nobody will read. */
  count(kind: FindingKind, category: FindingCategory, times: number): void {
    if (times > 0) {
      this.of(kind, category).count += times;
    }
  }

  /** Whether a further finding would be kept; otherwise counting it is enough. */
  wants(kind: FindingKind, category: FindingCategory): boolean {
    return this.of(kind, category).kept < this.limit;
  }

  total(category: FindingCategory): number {
    return [...this.counted.values()].filter((counted) => counted.category === category).reduce((sum, { count }) => sum + count, 0);
  }

  kinds(): { readonly kind: FindingKind; readonly category: FindingCategory; readonly count: number }[] {
    return [...this.counted.values()].filter(({ count }) => count > 0).map(({ kind, category, count }) => ({ kind, category, count }));
  }

  /** All that were kept, in the order they were found. */
  written(): Finding[] {
    return this.kept.map(({ kind, category, write }) => ({ kind, category, ...write() }));
  }

  /** What was found so far, to `rollBack` to. */
  mark(): FindingsMark {
    return { kept: this.kept.length, counted: [...this.counted.values()].map((counted) => ({ ...counted })) };
  }

  /** Forgets what was found since the mark. */
  rollBack({ kept, counted }: FindingsMark): void {
    this.kept.length = kept;
    this.counted.clear();
    for (const one of counted) {
      this.counted.set(`${one.category}:${one.kind}`, one);
    }
  }

  private of(kind: FindingKind, category: FindingCategory): Counted {
    const key = `${category}:${kind}`;
    let counted = this.counted.get(key);
    if (!counted) {
      counted = { kind, category, count: 0, kept: 0 };
      this.counted.set(key, counted);
    }
    return counted;
  }
}

/** An offset as messages show it. */
export function hex(offset: number | bigint): string {
  return `0x${offset.toString(16)}`;
}
