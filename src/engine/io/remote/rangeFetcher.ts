import { EngineError } from '../../errors';

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

/** A server that others here wait for, or gave up: it is not asked once more only to look at it. */
export class Unreachable extends EngineError {
  readonly state: Exclude<Connection, 'online'>;

  constructor(name: string, state: Exclude<Connection, 'online'>) {
    super(
      'network.failed',
      state === 'retrying' ? `${name}: The server does not answer; it is tried again.` : `${name}: The server does not answer any more.`,
      { file: name },
    );
    this.state = state;
  }
}
