import { cancelled } from '../errors';
import type { PaceOptions, ProgressListener } from '../pace';

/**
 * Work that several requests wait for. Each may be cancelled by itself; the work ends early only when nobody waits any more. All of them
 * hear of its progress.
 */
export class SharedTask<T> {
  private readonly controller = new AbortController();
  private readonly listeners = new Set<ProgressListener>();
  private readonly result: Promise<T>;
  private waiting = 0;
  private state: 'running' | 'done' | 'failed' = 'running';

  constructor(work: (options: PaceOptions) => Promise<T>) {
    this.result = work({
      signal: this.controller.signal,
      onProgress: (done, total) => {
        for (const listener of this.listeners) {
          listener(done, total);
        }
      },
    });
    this.result.then(
      () => {
        this.state = 'done';
      },
      () => {
        // Those who wait get the error; when nobody does any more, it is that of the cancellation.
        this.state = 'failed';
      },
    );
  }

  /** Whether it failed, or is ending because everybody who waited has gone: no one should begin to wait. */
  get over(): boolean {
    return this.state === 'failed' || (this.state === 'running' && this.controller.signal.aborted);
  }

  /** @throws EngineError `cancelled`, and whatever the work throws */
  async wait({ signal, onProgress }: PaceOptions): Promise<T> {
    if (signal?.aborted) {
      this.leave();
      throw cancelled();
    }
    this.waiting++;
    const listener: ProgressListener = (done, total) => onProgress?.(done, total);
    this.listeners.add(listener);
    let leaveEarly: () => void = () => undefined;
    try {
      return await Promise.race([
        this.result,
        new Promise<never>((_resolve, reject) => {
          leaveEarly = () => {
            reject(cancelled());
          };
          signal?.addEventListener('abort', leaveEarly, { once: true });
        }),
      ]);
    } finally {
      signal?.removeEventListener('abort', leaveEarly);
      this.listeners.delete(listener);
      this.waiting--;
      this.leave();
    }
  }

  private leave(): void {
    if (this.waiting === 0 && this.state === 'running') {
      this.controller.abort();
    }
  }
}
