import * as fs from 'node:fs';

import { EngineError, fileError } from '../errors';

/**
 * Reads a file, which may be a pipe, to its end: one that holds a secret, say.
 * @param most bytes; a longer one is refused
 * @throws EngineError `file.notFound`, `file.notAccessible`, `file.io`, `request.invalid`
 */
export function readSmallFile(path: string, most: number): Uint8Array {
  let fd: number;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY);
  } catch (cause) {
    throw fileError(path, 'Opening', cause);
  }
  try {
    const bytes = new Uint8Array(most + 1);
    let length = 0;
    for (let count = 1; count > 0 && length < bytes.length; length += count) {
      count = fs.readSync(fd, bytes, length, bytes.length - length, null);
    }
    if (length > most) {
      throw new EngineError('request.invalid', `'${path}' has more than ${most} bytes.`, { file: path });
    }
    return bytes.slice(0, length);
  } catch (cause) {
    throw cause instanceof EngineError ? cause : fileError(path, 'Reading', cause);
  } finally {
    fs.closeSync(fd);
  }
}
