import { isPromise, type Awaitable } from '../awaitable';
import { invalidRequest } from '../errors';

/** @throws EngineError `request.invalid` for a range that is not all on the disk */
export function requireInside(guestOffset: number, length: number, size: number): void {
  if (!(guestOffset >= 0 && length >= 0 && guestOffset + length <= size)) {
    throw invalidRequest(`${length} bytes at guest offset ${guestOffset} reach past the end of the disk of ${size} bytes.`);
  }
}

/** @throws EngineError `request.invalid` for what begins outside the disk, and for no bytes at all */
export function requireSomeInside(guestOffset: number, length: number, size: number): void {
  if (!(guestOffset >= 0 && guestOffset < size && length > 0)) {
    throw invalidRequest(`Guest offset ${guestOffset} lies outside the disk of ${size} bytes.`);
  }
}

/** The requests of one node that have not ended: it is closed when they have. */
export class RequestsInFlight {
  private readonly filename: string;
  private readonly running = new Set<Promise<unknown>>();
  private ending = false;

  /** @param filename the node's, for messages */
  constructor(filename: string) {
    this.filename = filename;
  }

  /** Whether the node is being closed, or is closed. */
  get ended(): boolean {
    return this.ending;
  }

  /** @throws EngineError `request.invalid` for a range that is not all on the disk, and once the node is closed */
  require(guestOffset: number, length: number, size: number): void {
    requireInside(guestOffset, length, size);
    if (this.ending) {
      throw invalidRequest(`${this.filename} is closed.`);
    }
  }

  track<T>(request: Awaitable<T>): Awaitable<T> {
    if (isPromise(request)) {
      this.running.add(request);
      const done = () => this.running.delete(request);
      request.then(done, done);
    }
    return request;
  }

  /** No request is taken any more; ends when those have that were. */
  async end(): Promise<void> {
    this.ending = true;
    await Promise.allSettled(this.running);
  }
}
