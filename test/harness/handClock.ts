import type { JobClock } from '../../src/engine/jobs/clock';

/** Time that passes at once: whoever waits is called in the next turn of the event loop, and how long it would have been is noted. */
export class HandClock implements JobClock {
  readonly waits: number[] = [];
  private time = 0;

  now(): number {
    return this.time;
  }

  after(ms: number, callback: () => void): () => void {
    this.waits.push(ms);
    const turn = setImmediate(() => {
      this.time += ms;
      callback();
    });
    return () => clearImmediate(turn);
  }
}
