import { cancelled } from '../../errors';
import type { JobClock } from '../../jobs/clock';

/** How often and how soon something that failed is tried again. */
export interface BackOff {
  /** All tries, the first included. */
  readonly attempts: number;
  /** Milliseconds before the second try; each further wait is twice as long, */
  readonly firstMs: number;
  /** but no longer than this. */
  readonly mostMs: number;
}

/** Milliseconds to wait after the `failed`th failure (from 1). */
export function delayAfter(failed: number, { firstMs, mostMs }: BackOff): number {
  return Math.min(mostMs, firstMs * 2 ** (failed - 1));
}

/** @throws EngineError `cancelled` */
export function sleep(clock: JobClock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled());
      return;
    }
    const abort = () => {
      stop();
      reject(cancelled());
    };
    const stop = clock.after(ms, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}
