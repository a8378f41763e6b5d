import { READING, type Openers } from '../engine/chain/follow';
import { EngineError } from '../engine/errors';
import { Unreachable, type Connection } from '../engine/io/remote/rangeFetcher';

/** A server that did not answer is left in peace for so long, in milliseconds, unless the person wants it tried again. */
const PEACE_MS = 60_000;

/** Opens images on servers for a glance. Whoever glances again and again does not wait each time for one that is out of reach. */
export class ServerLooks {
  private readonly stateOf: (filename: string) => Connection;
  private readonly failures = new Map<string, { readonly error: EngineError; readonly until: number }>();

  /** @param stateOf what those who use an image know of its server */
  constructor(stateOf: (filename: string) => Connection) {
    this.stateOf = stateOf;
  }

  /** @param fresh asks the server, whatever is known of it */
  openers(fresh: boolean): Openers {
    return {
      ...READING,
      remote: async (name) => {
        const { filename } = name;
        if (!fresh) {
          this.throwKnown(filename);
        }
        try {
          const source = await READING.remote(name);
          this.failures.delete(filename);
          return source;
        } catch (error) {
          if (error instanceof EngineError && error.code === 'network.failed') {
            this.failures.set(filename, { error, until: performance.now() + PEACE_MS });
          }
          throw error;
        }
      },
    };
  }

  private throwKnown(filename: string): void {
    const state = this.stateOf(filename);
    if (state !== 'online') {
      throw new Unreachable(filename, state);
    }
    const failure = this.failures.get(filename);
    if (failure && performance.now() < failure.until) {
      throw failure.error;
    }
  }
}
