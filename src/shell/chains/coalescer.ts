import type { Disposable } from '../lifecycle';

/**
 * Gathers what comes in bursts (a guest that writes, a build that creates a thousand files) and hands it on in one batch: when nothing
 * came for `quietMs`, and at the latest `maxMs` after the first.
 */
export class Coalescer<T> implements Disposable {
  private batch = new Set<T>();
  private quiet: NodeJS.Timeout | undefined;
  private latest: NodeJS.Timeout | undefined;
  private readonly flushed: (batch: ReadonlySet<T>) => void;
  private readonly quietMs: number;
  private readonly maxMs: number;

  constructor(flushed: (batch: ReadonlySet<T>) => void, { quietMs, maxMs }: { quietMs: number; maxMs: number }) {
    this.flushed = flushed;
    this.quietMs = quietMs;
    this.maxMs = maxMs;
  }

  add(item: T): void {
    this.batch.add(item);
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.flush(), this.quietMs);
    this.latest ??= setTimeout(() => this.flush(), this.maxMs);
  }

  /** Drops what is gathered. */
  dispose(): void {
    this.stopTimers();
    this.batch.clear();
  }

  private flush(): void {
    this.stopTimers();
    const batch = this.batch;
    this.batch = new Set();
    this.flushed(batch);
  }

  private stopTimers(): void {
    clearTimeout(this.quiet);
    clearTimeout(this.latest);
    this.quiet = undefined;
    this.latest = undefined;
  }
}
