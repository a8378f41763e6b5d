import { EngineError } from '../engine/errors';

/** Ends the command with a message and an exit code of its own. */
export class CommandError extends Error {
  override readonly name: string = 'CommandError';
  readonly exitCode: number;
  /** What the person can do about it; null when there is nothing to say. */
  readonly remedy: string | null;

  constructor(message: string, exitCode = 1, remedy: string | null = null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.exitCode = exitCode;
    this.remedy = remedy;
  }

  /** The same error under another exit code; what is no error of a person's stays what it is. */
  static from(error: unknown, exitCode: number): unknown {
    if (error instanceof EngineError) {
      return new CommandError(error.message, exitCode, error.place.remedy ?? null, error);
    }
    return error instanceof CommandError ? new CommandError(error.message, exitCode, error.remedy, error) : error;
  }
}

/** The command was called wrongly: the message is followed by where to read how it is called. */
export class UsageError extends CommandError {
  override readonly name = 'UsageError';
}
