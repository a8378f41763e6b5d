/** Time as jobs see it; tests make it pass by hand. */
export interface JobClock {
  /** Milliseconds, from any start, never backwards. */
  now(): number;
  /** Calls back once, after `ms` milliseconds, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void;
}

export const SYSTEM_CLOCK: JobClock = {
  now: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
