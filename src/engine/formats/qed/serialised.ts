import { isPromise, type Awaitable } from '../../awaitable';

/** Runs operations one after the other, in the order of the calls; at once, and without a promise, when nothing is running. */
export class Serialised {
  private last: Promise<unknown> | null = null;

  run<T>(operation: () => Awaitable<T>): Awaitable<T> {
    if (this.last) {
      return this.follow(this.last.then(operation, operation));
    }
    const result = operation();
    return isPromise(result) ? this.follow(result) : result;
  }

  private follow<T>(running: Promise<T>): Promise<T> {
    this.last = running;
    const done = () => {
      if (this.last === running) {
        this.last = null;
      }
    };
    running.then(done, done);
    return running;
  }
}

/**
 * Works through the bytes `from` .. `end` with steps that each say how many bytes they did; synchronously until a step has to wait.
 * @param step gets the offset and the bytes that are left; does at least one
 */
export function advance(from: number, end: number, step: (offset: number, rest: number) => Awaitable<number>): Awaitable<void> {
  let at = from;
  while (at < end) {
    const count = step(at, end - at);
    if (isPromise(count)) {
      return advanceLater(at, end, count, step);
    }
    at += count;
  }
}

async function advanceLater(
  from: number,
  end: number,
  first: Promise<number>,
  step: (offset: number, rest: number) => Awaitable<number>,
): Promise<void> {
  let at = from + (await first);
  while (at < end) {
    at += await step(at, end - at);
  }
}
