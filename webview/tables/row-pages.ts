import type { TablePage, TableRow } from '../../src/protocol/inspect';
import type { Problem } from '../problem';
import { PageCache } from '../state/page-cache';

/** Rows asked for at a time. */
export const PAGE_ROWS = 128;
const PAGES_KEPT = 64;

/** The rows of one table that were looked at last. */
export class RowPages {
  private readonly cache: PageCache<TablePage>;
  private readonly rows: number;

  constructor(rows: number, fetch: (first: number, count: number, signal: AbortSignal) => Promise<TablePage>, changed: () => void) {
    this.rows = rows;
    this.cache = new PageCache(
      PAGES_KEPT,
      (page, signal) => fetch(page * PAGE_ROWS, Math.min(PAGE_ROWS, rows - page * PAGE_ROWS), signal),
      changed,
    );
  }

  /** Why the last page did not come. */
  get problem(): Problem | null {
    return this.cache.problem;
  }

  /** A row, when it is here. */
  row(row: number): TableRow | null {
    return this.cache.get(Math.floor(row / PAGE_ROWS))?.rows[row % PAGE_ROWS] ?? null;
  }

  /** Sees to it that these rows come. */
  want(first: number, count: number): void {
    const last = Math.min(this.rows, first + count) - 1;
    if (last >= first) {
      this.cache.want(Math.floor(first / PAGE_ROWS), Math.floor(last / PAGE_ROWS));
    }
  }

  /** Tries again after a failure. */
  retry(): void {
    this.cache.retry();
  }

  dispose(): void {
    this.cache.dispose();
  }
}
