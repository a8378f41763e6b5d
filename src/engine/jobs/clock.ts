/** Time as jobs see it; tests make it pass by hand. */
export interface JobClock {
  /** Milliseconds, from any start, never backwards. */
  now(): number;
  /** Calls back once, after `ms` milliseconds, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void;
  /** Lets everything else that is due have its turn: the guest's requests. */
  turn?(): Promise<void>;
}

export const SYSTEM_CLOCK: JobClock = {
  now: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  turn: () => new Promise((resolve) => setImmediate(resolve)),
};
