/** Ends the command with a message and an exit code of its own. */
export class CommandError extends Error {
  override readonly name: string = 'CommandError';
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The command was called wrongly: the message is followed by where to read how it is called. */
export class UsageError extends CommandError {
  override readonly name = 'UsageError';
}
