/**
 * What is there at once most of the time (the page cache, a cached table) and sometimes has to be waited for (a server, a cold disk). The
 * hot paths look for a promise and only then await: a promise per request would cost more than the request.
 */
export type Awaitable<T> = T | Promise<T>;

export function isPromise<T>(value: Awaitable<T>): value is Promise<T> {
  return value instanceof Promise;
}

/** Goes on with a value when it is there. */
export function after<T, R>(value: Awaitable<T>, next: (value: T) => Awaitable<R>): Awaitable<R> {
  return isPromise(value) ? value.then(next) : next(value);
}

/** Ends when all of them have, with the first one's error if there is any: what they work on is free then. */
export async function allEnded(waiting: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(waiting);
  await Promise.all(waiting);
}
