import { isCancelled } from '../engine/errors';
import { CommandError } from './errors';

/** Exit codes as a shell has them for programs that a signal ended. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Does work that SIGINT or SIGTERM cancels: it ends in order, with its locks given back. A second signal ends the program at once.
 * @param left what the work leaves when it is cancelled, in a sentence
 * @throws CommandError with the exit code of a program that the signal ended; whatever the work throws
 */
export async function interruptible<T>(left: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController();
  let exitCode: number = EXIT_CODES.SIGINT;
  const handlers = (['SIGINT', 'SIGTERM'] as const).map((signal) => {
    const interrupt = () => {
      exitCode = EXIT_CODES[signal];
      interrupted.abort();
    };
    process.once(signal, interrupt);
    return () => process.off(signal, interrupt);
  });
  try {
    return await work(interrupted.signal);
  } catch (error) {
    throw isCancelled(error) ? new CommandError(`Interrupted: ${left}`, exitCode) : error;
  } finally {
    handlers.forEach((remove) => remove());
  }
}
