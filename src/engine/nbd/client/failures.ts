import { EngineError, networkFailed } from '../../errors';
import { NBD_ERROR } from '../protocol';

/** The connection ended; what was under way may be sent again over another. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** The server sent what the protocol does not allow; nothing it says after that means anything. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

/** The server answered that it failed. */
export class ServerError extends Error {
  override readonly name = 'ServerError';
  readonly errno: number;

  /** @param message what the server says of it; may be empty */
  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(NBD_ERROR).map(([name, errno]) => [errno, name]));

/** @param doing what failed: "Reading 512 bytes at offset 0" */
export function nbdFailure(name: string, doing: string, error: unknown): EngineError {
  if (error instanceof EngineError) {
    return error;
  }
  if (!(error instanceof ServerError)) {
    return networkFailed(name, `${doing} failed: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  const { errno, message } = error;
  const what = `${name}: ${doing} failed: ${NAMES.get(errno) ?? `error ${errno}`}${message === '' ? '' : ` (${printable(message)})`}`;
  switch (errno) {
    case NBD_ERROR.ENOSPC:
      return new EngineError('file.full', what, { file: name, remedy: 'Make room where the server keeps the disk.' }, error);
    case NBD_ERROR.EPERM:
      return new EngineError('request.readOnly', what, { file: name }, error);
    case NBD_ERROR.ENOTSUP:
      return new EngineError('request.unsupported', what, { file: name }, error);
    default:
      return new EngineError('file.io', what, { file: name }, error);
  }
}

/** A server's words, as far as a message has room for them and a terminal may see them. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ').slice(0, 200);
}
