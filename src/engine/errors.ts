/**
 * Errors that a person can cause or meet. Each has a stable code, one sentence that says what is wrong and where, and, where there is
 * one, what to do. Bad input always ends here and never in a TypeError.
 */

/** Stable identifiers; scripts and the shell branch on these, never on the sentence. */
export type ErrorCode =
  | 'cancelled'
  | 'file.notFound'
  | 'file.notAccessible'
  | 'file.notRegular'
  | 'file.io'
  | 'file.full'
  | 'file.locked'
  | 'network.failed'
  | 'network.changed'
  | 'format.unknown'
  | 'format.unsupported'
  | 'format.invalid'
  | 'chain.loop'
  | 'chain.refused'
  | 'data.undecodable'
  | 'data.encrypted'
  | 'data.passphrase'
  | 'image.corrupt'
  | 'address.invalid'
  | 'request.invalid'
  | 'request.readOnly'
  | 'request.unsupported';

/** Where in a file something was found. */
export interface ErrorPlace {
  /** The image's file name as the person knows it. */
  readonly file?: string | undefined;
  /** The on-disk structure, in the specification's words ("L1 table", "header"). */
  readonly structure?: string | undefined;
  /** Byte offset in the file. */
  readonly hostOffset?: number | undefined;
  /** What the person can do about it, one sentence. */
  readonly remedy?: string | undefined;
}

export class EngineError extends Error {
  override readonly name = 'EngineError';
  readonly code: ErrorCode;
  readonly place: ErrorPlace;

  constructor(code: ErrorCode, message: string, place: ErrorPlace = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.place = place;
  }
}

export function isCancelled(error: unknown): boolean {
  return error instanceof EngineError && error.code === 'cancelled';
}

export function cancelled(): EngineError {
  return new EngineError('cancelled', 'Cancelled.');
}

/** Turns a Node file-system error into one that says which file and what to do. */
export function fileError(file: string, doing: string, cause: unknown): EngineError {
  const code = errnoOf(cause);
  switch (code) {
    case 'ENOENT':
      return new EngineError('file.notFound', `Could not open '${file}': No such file or directory`, { file }, cause);
    case 'ENOTDIR':
      return new EngineError('file.notFound', `Could not open '${file}': Not a directory`, { file }, cause);
    case 'EACCES':
    case 'EPERM':
      return new EngineError('file.notAccessible', `Could not open '${file}': Permission denied`, { file }, cause);
    case 'ENOSPC':
    case 'EDQUOT':
      return new EngineError(
        'file.full',
        `${doing} '${file}' failed: No space left on device`,
        { file, remedy: 'Make room on its file system.' },
        cause,
      );
    default:
      return new EngineError('file.io', `${doing} '${file}' failed: ${code ?? String(cause)}`, { file }, cause);
  }
}

export function notARegularFile(file: string, kind: string): EngineError {
  return new EngineError('file.notRegular', `'${file}' is ${kind}, not a regular file or a block device.`, {
    file,
    remedy: 'Choose an image file.',
  });
}

/** A structure that contradicts its specification where the reader cannot go on without it. */
export function invalidFormat(file: string, structure: string, hostOffset: number, what: string): EngineError {
  return new EngineError('format.invalid', `${file}: ${structure} at offset ${hostOffset}: ${what}`, {
    file,
    structure,
    hostOffset,
  });
}

export function unsupported(file: string, structure: string, hostOffset: number, what: string): EngineError {
  return new EngineError('format.unsupported', `${file}: ${structure} at offset ${hostOffset}: ${what}`, {
    file,
    structure,
    hostOffset,
  });
}

export function invalidRequest(what: string): EngineError {
  return new EngineError('request.invalid', what);
}

/** A write to an image that was opened for reading. */
export function readOnlyImage(file: string): EngineError {
  return new EngineError('request.readOnly', `${file}: The image is open read-only.`, { file });
}

/** Metadata that a write met and that contradicts itself: nothing more is written to that image. */
export function corruptImage(file: string, structure: string, hostOffset: number, what: string): EngineError {
  return new EngineError('image.corrupt', `${file}: ${structure} at offset ${hostOffset}: ${what} Nothing is written any more.`, {
    file,
    structure,
    hostOffset,
    remedy: 'Check the image.',
  });
}

export function unsupportedRequest(what: string): EngineError {
  return new EngineError('request.unsupported', what);
}

/** A server that cannot be reached, or does not answer as its protocol has it. */
export function networkFailed(name: string, what: string, cause?: unknown): EngineError {
  return new EngineError('network.failed', `${name}: ${what}`, { file: name, remedy: 'Check the address and the connection.' }, cause);
}

/** A remote file that is no longer the one that was opened: bytes of both must not be mixed. */
export function networkChanged(name: string, what: string): EngineError {
  return new EngineError('network.changed', `${name}: The remote file has changed since it was opened: ${what}`, {
    file: name,
    remedy: 'Open it anew.',
  });
}

/**
 * The same error, saying what was being done when it happened; what tells of no failure (a cancellation, a mistake in this program) stays as
 * it is.
 */
export function reworded(error: unknown, words: (message: string) => string): unknown {
  return error instanceof EngineError && error.code !== 'cancelled'
    ? new EngineError(error.code, words(error.message), error.place, error)
    : error;
}

/** The POSIX name of a failed system call's error (`ENOENT`), if it is one. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return undefined;
}
