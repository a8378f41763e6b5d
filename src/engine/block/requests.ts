import { isPromise, type Awaitable } from '../awaitable';

interface InFlight {
  readonly offset: number;
  readonly end: number;
  readonly serialising: boolean;
  readonly done: Promise<void>;
}

/**
 * Which byte ranges of a node are being changed. A request that must be alone in its range (a copy from below, the copy-on-read of a
 * cluster) is *serialising*: it waits for those that it overlaps and that came before it, and those that come later and overlap it wait for
 * it. All others run at the same time. A request waits only for earlier ones, so none waits for ever, and none is overtaken in its range.
 */
export class RequestTracker {
  /** In the order in which they came. */
  private readonly inFlight = new Set<InFlight>();

  /** Whether any request overlaps the range at the moment. */
  overlaps(offset: number, length: number): boolean {
    const end = offset + length;
    for (const other of this.inFlight) {
      if (other.offset < end && offset < other.end) {
        return true;
      }
    }
    return false;
  }

  /**
   * Runs a request, at once and without a promise where nothing is in its way and it does not have to wait for anything itself.
   * @param offset and `length` the range that it changes, in bytes
   */
  run<T>(offset: number, length: number, serialising: boolean, request: () => Awaitable<T>): Awaitable<T> {
    const end = offset + length;
    let first: Promise<void>[] | null = null;
    for (const other of this.inFlight) {
      if ((serialising || other.serialising) && other.offset < end && offset < other.end) {
        (first ??= []).push(other.done);
      }
    }
    const result = first === null ? request() : Promise.all(first).then(request);
    return isPromise(result) ? this.follow(offset, end, serialising, result) : result;
  }

  /** Ends when everything that is in flight now has ended. */
  async drain(): Promise<void> {
    await Promise.all([...this.inFlight].map(({ done }) => done));
  }

  private follow<T>(offset: number, end: number, serialising: boolean, running: Promise<T>): Promise<T> {
    const entry: InFlight = {
      offset,
      end,
      serialising,
      done: running.then(
        () => void this.inFlight.delete(entry),
        () => void this.inFlight.delete(entry),
      ),
    };
    this.inFlight.add(entry);
    return running;
  }
}
