import type { TablePage, TableRow } from '../../src/protocol/inspect';
import { isCancelled, problemOf, type Problem } from '../problem';

/** Rows asked for at a time. */
export const PAGE_ROWS = 128;
const PAGES_KEPT = 64;

/** The rows of one table that were looked at last, fetched page by page. */
export class RowPages {
  private readonly pages = new Map<number, readonly TableRow[]>();
  private readonly running = new Map<number, AbortController>();
  private readonly fetch: (first: number, count: number, signal: AbortSignal) => Promise<TablePage>;
  private readonly rows: number;
  private readonly changed: () => void;
  private failure: Problem | null = null;

  constructor(rows: number, fetch: (first: number, count: number, signal: AbortSignal) => Promise<TablePage>, changed: () => void) {
    this.rows = rows;
    this.fetch = fetch;
    this.changed = changed;
  }

  /** Why the last page did not come. */
  get problem(): Problem | null {
    return this.failure;
  }

  /** A row, when it is here. */
  row(row: number): TableRow | null {
    return this.pages.get(Math.floor(row / PAGE_ROWS))?.[row % PAGE_ROWS] ?? null;
  }

  /** Sees to it that these rows come, and gives up those that are not wanted any more. */
  want(first: number, count: number): void {
    const from = Math.floor(first / PAGE_ROWS);
    const to = Math.floor(Math.max(first, Math.min(this.rows, first + count) - 1) / PAGE_ROWS);
    for (const [page, controller] of this.running) {
      if (page < from - 1 || page > to + 1) {
        controller.abort();
        this.running.delete(page);
      }
    }
    for (let page = from; page <= to; page++) {
      const rows = this.pages.get(page);
      if (rows !== undefined) {
        this.pages.delete(page);
        this.pages.set(page, rows);
      } else if (!this.running.has(page) && this.failure === null && page * PAGE_ROWS < this.rows) {
        void this.load(page);
      }
    }
  }

  /** Tries again after a failure. */
  retry(): void {
    this.failure = null;
    this.changed();
  }

  /** Gives up everything under way. */
  dispose(): void {
    for (const controller of this.running.values()) {
      controller.abort();
    }
    this.running.clear();
  }

  private async load(page: number): Promise<void> {
    const controller = new AbortController();
    this.running.set(page, controller);
    try {
      const first = page * PAGE_ROWS;
      const { rows } = await this.fetch(first, Math.min(PAGE_ROWS, this.rows - first), controller.signal);
      if (this.running.get(page) !== controller) {
        return;
      }
      this.pages.set(page, rows);
      for (const oldest of this.pages.keys()) {
        if (this.pages.size <= PAGES_KEPT) {
          break;
        }
        this.pages.delete(oldest);
      }
    } catch (error) {
      if (this.running.get(page) !== controller) {
        return;
      }
      if (!isCancelled(error)) {
        this.failure = problemOf(error);
      }
    }
    this.running.delete(page);
    this.changed();
  }
}
