import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { EngineError, errnoOf, fileError } from '../errors';
import { FileStorage, removeFile } from './fileStorage';
import { acquireLocks } from './imageLocks';

/**
 * Makes a file under a passing name beside its place, and puts it there once it is complete: what was there stays as it is until then, also
 * when the work fails. Nobody else may use what is replaced.
 * @param work makes the file of the name that it is given, and has it on the disk when it ends
 * @throws EngineError `file.locked`, `file.notRegular`, `file.notAccessible`, `file.io`, and what `work` throws
 */
export async function replaceFile(path: string, work: (passing: string) => Promise<void>): Promise<void> {
  const place = realPath(path);
  const before = place === null ? null : FileStorage.openFile(place, { writable: true, name: path });
  try {
    if (before) {
      acquireLocks([{ file: before, role: 'metadata-writer' }]);
      if (!fs.statSync(place ?? path).isFile()) {
        throw new EngineError('file.notRegular', `'${path}' is no regular file; only such a one is replaced by another.`, { file: path });
      }
    }
    const target = place ?? path;
    const passing = join(dirname(target), `.${basename(target).slice(0, 200)}.${randomBytes(4).toString('hex')}.part`);
    try {
      await work(passing);
      fs.renameSync(passing, target);
    } catch (error) {
      removeFile(passing);
      throw error instanceof EngineError || errnoOf(error) === undefined ? error : fileError(path, 'Replacing', error);
    }
  } finally {
    before?.close();
  }
}

/** Null when there is no such file yet. */
function realPath(path: string): string | null {
  try {
    return fs.realpathSync(path);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') {
      return null;
    }
    throw fileError(path, 'Opening', cause);
  }
}
