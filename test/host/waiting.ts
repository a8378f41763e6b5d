import type * as vscode from 'vscode';

/** How long something may take to be told or shown, in milliseconds. It ends what hangs, and is no measure of speed. */
const PATIENCE = 60_000;

/** The same for what itself waits for such things. */
const LONG_PATIENCE = 3 * PATIENCE;

/**
 * Resolves with what `look` finds, which looks again at every event.
 * @param event one that comes after what is looked at has changed
 * @param missing what to say when nothing is found for too long
 */
export async function until<T>(
  look: () => T | undefined | Promise<T | undefined>,
  event: vscode.Event<unknown>,
  missing: () => string,
): Promise<T> {
  let wake = (): void => undefined;
  const listener = event(() => wake());
  const deadline = AbortSignal.timeout(PATIENCE);
  deadline.addEventListener('abort', () => wake(), { once: true });
  try {
    for (;;) {
      // Before looking: what comes meanwhile is not missed.
      const changed = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const found = await look();
      if (found !== undefined) {
        return found;
      }
      if (deadline.aborted) {
        throw new Error(`${missing()} (${PATIENCE} ms)`);
      }
      await changed;
    }
  } finally {
    listener.dispose();
  }
}

/** Rejects when some work has not ended for too long, so that what comes next is not disturbed. @param what what to say then */
export async function inTime(work: Promise<void>, what: () => string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what()} (${LONG_PATIENCE} ms)`)), LONG_PATIENCE);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
