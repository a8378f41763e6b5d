import { isPromise, type Awaitable } from '../awaitable';

/**
 * Thrown by a source whose bytes have to be fetched first. Metadata is read by plain synchronous code; over a slow source that code is run
 * again once what it asked for is there (see `loading`), so it must have no effects before its last read.
 */
export class NotLoaded extends Error {
  override readonly name = 'NotLoaded';
  /** Fetches what was asked for. Rejects with an EngineError when that fails. */
  readonly load: () => Promise<void>;

  constructor(load: () => Promise<void>) {
    super('The bytes have to be fetched first.');
    this.load = load;
  }
}

/** Runs `operation`, and again after each fetch that it asks for. Local files never ask, so there is no promise then. */
export function loading<T>(operation: () => Awaitable<T>): Awaitable<T> {
  let result: Awaitable<T>;
  try {
    result = operation();
  } catch (error) {
    if (!(error instanceof NotLoaded)) {
      throw error;
    }
    return error.load().then(() => loading(operation));
  }
  return isPromise(result) ? result.catch((error: unknown) => again(error, operation)) : result;
}

async function again<T>(error: unknown, operation: () => Awaitable<T>): Promise<T> {
  if (!(error instanceof NotLoaded)) {
    throw error;
  }
  await error.load();
  return loading(operation);
}
