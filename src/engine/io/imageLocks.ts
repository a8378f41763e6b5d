import { EngineError } from '../errors';
import type { FileSource } from './file';
import { LOCK_BYTE, LockTable } from './locks';
import { nativeCalls, type NativeCalls } from './native';

/**
 * What is done with the file: QEMU's drivers for formats with metadata let nobody else write or resize; raw ones share all; a data file is
 * not to be resized. Seen with qemu-io and qemu-io -r (7.2).
 */
export type LockRole = 'cache' | 'cache-warmer' | 'metadata' | 'raw' | 'data-file' | 'metadata-writer' | 'raw-writer' | 'data-file-writer';

export interface ImageLock {
  readonly file: FileSource;
  readonly role: LockRole;
}

type Permission = 'consistentRead' | 'write' | 'resize';

/** What a role does, and what it lets nobody else do. */
interface Permissions {
  readonly uses: readonly Permission[];
  readonly unshares: readonly Permission[];
}

const ROLES: Readonly<Record<LockRole, Permissions>> = {
  /** Reads a cache image; somebody who only copies into it what is read there anyway is no hindrance. */
  cache: { uses: ['consistentRead'], unshares: ['write', 'resize'] },
  'cache-warmer': { uses: ['consistentRead', 'write', 'resize'], unshares: ['write', 'resize'] },
  metadata: { uses: ['consistentRead'], unshares: ['write', 'resize'] },
  raw: { uses: ['consistentRead'], unshares: [] },
  'data-file': { uses: ['consistentRead'], unshares: ['resize'] },
  'metadata-writer': { uses: ['consistentRead', 'write', 'resize'], unshares: ['write', 'resize'] },
  'raw-writer': { uses: ['consistentRead', 'write'], unshares: [] },
  'data-file-writer': { uses: ['consistentRead', 'write', 'resize'], unshares: ['resize'] },
};

const USE: Readonly<Record<Permission, number>> = {
  consistentRead: LOCK_BYTE.useConsistentRead,
  write: LOCK_BYTE.useWrite,
  resize: LOCK_BYTE.useResize,
};

const UNSHARE: Readonly<Record<Permission, number>> = {
  consistentRead: LOCK_BYTE.unshareConsistentRead,
  write: LOCK_BYTE.unshareWrite,
  resize: LOCK_BYTE.unshareResize,
};

/** QEMU's names in its messages. */
const NAMES: Readonly<Record<Permission, string>> = { consistentRead: 'consistent read', write: 'write', resize: 'resize' };

/* fcntl's numbers on Linux. */
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** From the first byte that any role locks to behind the last. */
const ALL_BYTES = 201;
/** Held by who warms a cache image: what he writes changes nothing of what is read. QEMU knows nothing of this byte. */
const WARMING = 300;
/** Held alone by who opens a cache image to warm it, until that is decided. */
const ELECTING = 301;

/** Whether this system can keep other programs away from an image. */
export function lockSupport(): boolean {
  return locking() !== null;
}

/**
 * Locks files as QEMU does (all are shared locks of the open file description, so they end with the file's closing), and refuses what
 * another opening of the file, in any process, does not allow. Like QEMU, first takes and then tests: of two that come at the same time at
 * least one sees the other. A system without such locks (see `lockSupport`) locks nothing, as QEMU's does by default.
 * @throws EngineError `file.locked`; the files are to be closed then
 */
export function acquireLocks(wanted: readonly ImageLock[]): void {
  const lock = locking();
  if (!lock) {
    return;
  }
  takeLocks(wanted);
  for (const { file, role } of wanted) {
    const { uses, unshares } = ROLES[role];
    for (const permission of uses) {
      if (isHeld(lock, file.fd, UNSHARE[permission])) {
        throw locked(file, `Failed to get "${NAMES[permission]}" lock`);
      }
    }
    for (const permission of unshares) {
      if (isHeld(lock, file.fd, USE[permission])) {
        if (role === 'cache' && isHeld(lock, file.fd, WARMING)) {
          file.readBesideWriter();
          continue;
        }
        throw locked(file, `Failed to get shared "${NAMES[permission]}" lock`);
      }
    }
  }
}

/**
 * Takes the locks without looking at those of others: for another opening of a file whose locks are already held.
 * @throws EngineError `file.locked` when somebody holds a byte for itself, which QEMU never does
 */
export function takeLocks(wanted: readonly ImageLock[]): void {
  const lock = locking();
  if (!lock) {
    return;
  }
  for (const { file, role } of wanted) {
    // A process that is just being started still has the description, and with it the locks, until it runs its program.
    file.beforeClose(() => set(lock, file.fd, LOCK_BYTE.useConsistentRead, F_UNLCK, ALL_BYTES));
    for (const byte of bytesOf(role)) {
      if (!set(lock, file.fd, byte, F_RDLCK)) {
        throw locked(file, `Failed to lock byte ${byte}`);
      }
    }
  }
}

/**
 * Gives up what a file's former role locked and its new one does not.
 * @throws EngineError `file.locked`: the former locks are still held
 */
export function changeLocks(file: FileSource, from: LockRole, to: LockRole): void {
  const lock = locking();
  if (!lock) {
    return;
  }
  try {
    acquireLocks([{ file, role: to }]);
  } catch (error) {
    release(lock, file.fd, to, from);
    throw error;
  }
  release(lock, file.fd, from, to);
}

/** Whether nobody else stands in the way of a role at the moment; takes nothing, so nobody notices. */
export function mayLock({ file, role }: ImageLock): boolean {
  const lock = locking();
  const { uses, unshares } = ROLES[role];
  const refused = [...uses.map((permission) => UNSHARE[permission]), ...unshares.map((permission) => USE[permission])];
  return lock === null || !refused.some((byte) => isHeld(lock, file.fd, byte));
}

/**
 * Takes the right to find out whether one is to warm a cache image, until the file is closed. False while somebody else has it.
 * @param file one that can be written
 */
export function tryElecting(file: FileSource): boolean {
  const lock = locking();
  const range = { l_type: F_WRLCK, l_whence: 0, l_start: ELECTING, l_len: 1, l_pid: 0 };
  if (lock === null) {
    return true;
  }
  if (lock(file.fd, F_OFD_SETLK, range) !== 0) {
    return false;
  }
  // A process that is just being started still has the description, see `takeLocks`.
  file.beforeClose(() => set(lock, file.fd, ELECTING, F_UNLCK));
  return true;
}

/** Unlocks the bytes of one role that another does not have. */
function release(lock: LockCall, fd: number, role: LockRole, kept: LockRole): void {
  const still = new Set(bytesOf(kept));
  // The last one first: the mark of warming outlives the locks that it excuses.
  for (const byte of bytesOf(role)
    .reverse()
    .filter((candidate) => !still.has(candidate))) {
    set(lock, fd, byte, F_UNLCK);
  }
}

function bytesOf(role: LockRole): number[] {
  const { uses, unshares } = ROLES[role];
  const bytes = [...uses.map((permission) => USE[permission]), ...unshares.map((permission) => UNSHARE[permission])];
  // First: whoever sees the others sees it too.
  return role === 'cache-warmer' ? [WARMING, ...bytes] : bytes;
}

type LockCall = NonNullable<NativeCalls['lock']>;

function locking(): LockCall | null {
  return process.platform === 'linux' ? (nativeCalls()?.lock ?? null) : null;
}

/** False when somebody holds the byte for itself. */
function set(lock: LockCall, fd: number, byte: number, type: number, count = 1): boolean {
  return lock(fd, F_OFD_SETLK, { l_type: type, l_whence: 0, l_start: byte, l_len: count, l_pid: 0 }) === 0;
}

/** Whether another opening of the file holds a byte. */
function isHeld(lock: LockCall, fd: number, byte: number): boolean {
  const range = { l_type: F_WRLCK, l_whence: 0, l_start: byte, l_len: 1, l_pid: 0 };
  return lock(fd, F_OFD_GETLK, range) === 0 && range.l_type !== F_UNLCK;
}

function locked(file: FileSource, failure: string): EngineError {
  const holders = (LockTable.read()?.holdersOf(file) ?? []).map(({ pid, command }) => `${command} (process ${pid})`);
  const question = `Is another process using the image [${file.name}]?`;
  return new EngineError('file.locked', `Could not open '${file.name}': ${failure}`, {
    file: file.name,
    remedy: holders.length === 0 ? question : `${question}\nIt is held by ${holders.join(', ')}.`,
  });
}
