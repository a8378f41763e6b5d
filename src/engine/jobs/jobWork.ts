import type { JobHold } from '../../protocol/jobs';

/** What a job does, in QEMU's phases. */
export interface JobWork {
  /**
   * Copies until all is done, in pieces, with `JobContext.checkpoint` before each. What it throws ends the job; after a cancel it throws
   * `cancelled`, or returns when it can still end well.
   */
  run(context: JobContext): Promise<void>;
  /** Makes the result take effect, when the work has ended well: the backing link, the pivot. An error here fails the job. */
  finalize?(): Promise<void>;
  /** Undoes what must not stay after a failure or a cancel; what was copied stays. */
  abort?(): Promise<void>;
  /** Gives up what the job held, however it ended. */
  release?(): Promise<void>;
}

/** The job as its work sees it. */
export interface JobContext {
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal;
  /**
   * Between two pieces: lets the guest have its turn, and waits while the job is paused, held back, or over its speed.
   * @throws EngineError `cancelled`
   */
  checkpoint(): Promise<void>;
  /** `bytes` more of the total are done; `copied` of them count against the speed (all when left out). */
  advance(bytes: number, copied?: number): void;
  /** Bytes in all, as known now. */
  setTotal(bytes: number): void;
  /**
   * What to do about an I/O error. Throws it again, or returns whether to try the piece again (after somebody resumed the job) or leave it.
   * @throws EngineError
   */
  onError(error: unknown): Promise<'retry' | 'ignore'>;
  /** The job has caught up and waits to be completed (or cancelled). Between two checks of `isCompleting` the work goes on catching up. */
  becomeReady(): void;
  readonly isCompleting: boolean;
  /** Resolves when somebody tells the job something, or after `ms` milliseconds. */
  idle(ms: number): Promise<void>;
}

/** Holds a job back while others need the disk. */
export interface JobPacer {
  /** Why nothing may be copied now; null when it may. */
  hold(): JobHold | null;
  /** Calls back whenever `hold` may have changed. The returned function ends that. */
  onChange(listener: () => void): () => void;
}
