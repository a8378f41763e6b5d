/** Bytes that are somewhere else and come when they are asked for. */
export interface RangeFetcher {
  /** The name a person knows it by. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Brings exactly `length` bytes, all of them inside `size`. Many may be under way at the same time.
   * @throws EngineError `network.failed`, `network.changed`, `file.io`; `cancelled` when the signal says so
   */
  fetch(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array>;
}

/** Whether what is far away can be reached at the moment, for whoever shows it. */
export type Connection = 'online' | 'retrying' | 'offline';
