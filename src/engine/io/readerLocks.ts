import { createRequire } from 'node:module';

import { EngineError, errnoOf } from '../errors';
import type { FileSource } from './file';
import { covers, LOCK_BYTE, LockTable } from './locks';

/**
 * What a reader does with the file: QEMU's drivers for formats with metadata let nobody else write or resize; raw ones share all; a data
 * file is not to be resized. Seen with qemu-io -r (7.2).
 */
export type ReaderRole = 'metadata' | 'raw' | 'data-file';

export interface ReaderLock {
  readonly file: FileSource;
  readonly role: ReaderRole;
}

const TAKEN: Readonly<Record<ReaderRole, readonly number[]>> = {
  metadata: [LOCK_BYTE.useConsistentRead, LOCK_BYTE.unshareWrite, LOCK_BYTE.unshareResize],
  raw: [LOCK_BYTE.useConsistentRead],
  'data-file': [LOCK_BYTE.useConsistentRead, LOCK_BYTE.unshareResize],
};

/** Bytes that nobody may hold, and QEMU's name for what fails. The order is QEMU's: what we want first, then what we do not share. */
const TESTED: Readonly<Record<ReaderRole, readonly (readonly [byte: number, what: string])[]>> = {
  metadata: [
    [LOCK_BYTE.unshareConsistentRead, '"consistent read" lock'],
    [LOCK_BYTE.useWrite, 'shared "write" lock'],
    [LOCK_BYTE.useResize, 'shared "resize" lock'],
  ],
  raw: [[LOCK_BYTE.unshareConsistentRead, '"consistent read" lock']],
  'data-file': [
    [LOCK_BYTE.unshareConsistentRead, '"consistent read" lock'],
    [LOCK_BYTE.useResize, 'shared "resize" lock'],
  ],
};

/**
 * Locks files as QEMU does for reading, so that no QEMU writes to them meanwhile, and refuses when one already does. The locks last until
 * the files are closed. Like QEMU, first takes and then tests: of two that come at the same time at least one sees the other. A system
 * without such locks (anything but Linux) locks nothing, as QEMU's does by default.
 * @throws EngineError `file.locked`
 */
export function acquireReaderLocks(wanted: readonly ReaderLock[]): void {
  if (process.platform !== 'linux' || wanted.length === 0) {
    return;
  }
  const native = nativeLocks();
  for (const { file, role } of wanted) {
    for (const byte of TAKEN[role]) {
      if (native?.(file.fd, byte) === false) {
        throw locked(file, `Failed to lock byte ${byte}`, LockTable.read());
      }
    }
  }
  const table = LockTable.read();
  for (const { file, role } of wanted) {
    const ranges = table?.rangesOf(file) ?? [];
    // None of the tested bytes is among those that we take, so whatever covers one is somebody else's.
    const conflict = TESTED[role].find(([byte]) => ranges.some((range) => covers(range, byte)));
    if (conflict) {
      throw locked(file, `Failed to get ${conflict[1]}`, table);
    }
  }
}

function locked(file: FileSource, failure: string, table: LockTable | null): EngineError {
  const holders = (table?.holdersOf(file) ?? []).map(({ pid, command }) => `${command} (process ${pid})`);
  const question = `Is another process using the image [${file.name}]?`;
  return new EngineError('file.locked', `Could not open '${file.name}': ${failure}`, {
    file: file.name,
    remedy: holders.length === 0 ? question : `${question}\nIt is held by ${holders.join(', ')}.`,
  });
}

/** Takes a shared lock on one byte; false when somebody holds it exclusively. */
type TakeShared = (fd: number, byte: number) => boolean;

interface Binding {
  tryLock(fd: number, offset: number, length: number, exclusive: boolean): void;
}

interface Package {
  tryLock(fd: number, offset: number, length: number, options: { readonly shared: boolean }): boolean;
}

let loaded: TakeShared | null | undefined;

/**
 * Null where the package has no build for the processor: locks are then tested but not held. Its own loader tries many places and takes
 * several milliseconds, which a command line feels; so its build for this system is tried first.
 */
function nativeLocks(): TakeShared | null {
  if (loaded === undefined) {
    const require = createRequire(__filename);
    loaded = direct(require) ?? packaged(require);
  }
  return loaded;
}

/** The build itself, below the package's own functions: it throws where they return false, and asks for "exclusive", not "shared". */
function direct(require: NodeJS.Require): TakeShared | null {
  const name = `fs-native-extensions/prebuilds/linux-${process.arch}/fs-native-extensions.node`;
  const binding = load(require, name) as Binding | null;
  return (
    binding &&
    ((fd, byte) => {
      try {
        binding.tryLock(fd, byte, 1, false);
        return true;
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') {
          return false;
        }
        throw error;
      }
    })
  );
}

function packaged(require: NodeJS.Require): TakeShared | null {
  const name = 'fs-native-extensions';
  const locks = load(require, name) as Package | null;
  return locks && ((fd, byte) => locks.tryLock(fd, byte, 1, { shared: true }));
}

function load(require: NodeJS.Require, module: string): unknown {
  try {
    return require(module);
  } catch {
    // An optional native module; see above.
    return null;
  }
}
