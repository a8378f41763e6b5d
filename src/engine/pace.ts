import { cancelled } from './errors';

/** Progress of something long: `done` of `total` in whatever unit the operation counts (bytes where it can). */
export type ProgressListener = (done: number, total: number) => void;

export interface PaceOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ProgressListener | undefined;
}

/** How long a scan may hold its thread before it lets messages (cancel, other requests) in, in milliseconds. */
const SLICE_MS = 12;

/**
 * Keeps a synchronous scan polite: `await pace.step(done, total)` costs a clock read, and once per slice it reports progress, lets the
 * event loop turn and ends the scan when it was cancelled.
 */
export class Pace {
  private readonly signal: AbortSignal | undefined;
  private readonly onProgress: ProgressListener | undefined;
  private sliceEnd = performance.now() + SLICE_MS;

  constructor(options: PaceOptions = {}) {
    this.signal = options.signal;
    this.onProgress = options.onProgress;
    this.throwIfCancelled();
  }

  /** Whether the slice is used up and `turn` should be awaited; lets a hot loop avoid a promise per step. */
  due(): boolean {
    return performance.now() >= this.sliceEnd;
  }

  /** @throws EngineError `cancelled` */
  async turn(done: number, total: number): Promise<void> {
    this.onProgress?.(done, total);
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.throwIfCancelled();
    this.sliceEnd = performance.now() + SLICE_MS;
  }

  /** @throws EngineError `cancelled` */
  throwIfCancelled(): void {
    if (this.signal?.aborted) {
      throw cancelled();
    }
  }
}
