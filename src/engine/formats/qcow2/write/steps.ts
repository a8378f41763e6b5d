import { isPromise, type Awaitable } from '../../../awaitable';
import { NotLoaded } from '../../../io/loading';

/**
 * Work that may have to wait, written down as if it never did: it yields what it waits for. Nothing waits on a local file, and then no
 * promise is made.
 */
export type Steps<T> = Generator<Promise<unknown>, T, unknown>;

/** Does the work; a promise only where it waited. */
export function run<T>(steps: Steps<T>): Awaitable<T> {
  const first = steps.next();
  return first.done ? first.value : runOn(steps, first.value);
}

async function runOn<T>(steps: Steps<T>, first: Promise<unknown>): Promise<T> {
  let waiting = first;
  for (;;) {
    const next = await settled(waiting).then(({ value, error }) => (error ? steps.throw(error.reason) : steps.next(value)));
    if (next.done) {
      return next.value;
    }
    waiting = next.value;
  }
}

function settled(waiting: Promise<unknown>): Promise<{ readonly value: unknown; readonly error: { readonly reason: unknown } | null }> {
  return waiting.then(
    (value) => ({ value, error: null }),
    (reason: unknown) => ({ value: undefined, error: { reason } }),
  );
}

/** Waits for a value, if it has to be waited for. */
export function* wait<T>(value: Awaitable<T>): Steps<T> {
  if (isPromise(value)) {
    // What `run` hands back is what was waited for.
    return (yield value) as T;
  }
  return value;
}

/** Reads by plain synchronous code, and again after each fetch that it asks for; it must have no effects before its last read. */
export function* load<T>(reading: () => T): Steps<T> {
  for (;;) {
    try {
      return reading();
    } catch (error) {
      if (!(error instanceof NotLoaded)) {
        throw error;
      }
      yield error.load();
    }
  }
}

/** Lets one at a time through. Nobody makes a promise for it who does not have to wait. */
export class Turn {
  private taken = false;
  private readonly waiting: (() => void)[] = [];

  *take<T>(work: () => Steps<T>): Steps<T> {
    while (this.taken) {
      yield new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.taken = true;
    try {
      return yield* work();
    } finally {
      this.taken = false;
      for (const resolve of this.waiting.splice(0)) {
        resolve();
      }
    }
  }
}
