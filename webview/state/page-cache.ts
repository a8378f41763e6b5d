import { isCancelled, problemOf, type Problem } from '../problem';

/**
 * The pages of something long that were looked at last, fetched as they come into sight. A page that is not wanted any more is given up; after
 * a failure nothing is asked for until `retry`.
 */
export class PageCache<T> {
  private readonly pages = new Map<number, T>();
  private readonly running = new Map<number, AbortController>();
  private readonly capacity: number;
  private readonly fetch: (page: number, signal: AbortSignal) => Promise<T>;
  private readonly changed: () => void;
  private failure: Problem | null = null;

  /** `changed` is called when a page came, or failed to. */
  constructor(capacity: number, fetch: (page: number, signal: AbortSignal) => Promise<T>, changed: () => void) {
    this.capacity = capacity;
    this.fetch = fetch;
    this.changed = changed;
  }

  /** Why the last page did not come. */
  get problem(): Problem | null {
    return this.failure;
  }

  get(page: number): T | null {
    return this.pages.get(page) ?? null;
  }

  /** Sees to it that these pages come, first and last included; their neighbours under way may still. */
  want(first: number, last: number): void {
    for (const [page, controller] of this.running) {
      if (page < first - 1 || page > last + 1) {
        controller.abort();
        this.running.delete(page);
      }
    }
    for (let page = first; page <= last; page++) {
      const here = this.pages.get(page);
      if (here !== undefined) {
        this.pages.delete(page);
        this.pages.set(page, here);
      } else if (!this.running.has(page) && this.failure === null) {
        void this.load(page);
      }
    }
  }

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
    let loaded: T;
    try {
      loaded = await this.fetch(page, controller.signal);
    } catch (error) {
      if (this.running.get(page) === controller) {
        this.running.delete(page);
        this.failure = isCancelled(error) ? null : problemOf(error);
        this.changed();
      }
      return;
    }
    if (this.running.get(page) !== controller) {
      return;
    }
    this.running.delete(page);
    this.pages.set(page, loaded);
    for (const oldest of this.pages.keys()) {
      if (this.pages.size <= this.capacity) {
        break;
      }
      this.pages.delete(oldest);
    }
    this.changed();
  }
}
