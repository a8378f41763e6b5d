import { nativeCalls, type NativeCalls } from './native';

/*
 * Bytes of a file that one process writes while others read them: a reader sees them as they were before a write, or after it, and nothing
 * between. That of byte N is the lock at 2^52 + N, far from those that QEMU uses.
 */

const BASE = 2 ** 52;
const F_OFD_SETLK = 37;
const F_OFD_SETLKW = 38;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** A reader has a range for one `pread`, which a busy disk may make long; one that was stopped within may have it for ever. */
const TRIES = 3000;
const PAUSE_MS = 1;

const pause = new Int32Array(new SharedArrayBuffer(4));

/** Does the reading while nobody writes there. */
export function whileShared<T>(fd: number, hostOffset: number, length: number, read: () => T): T {
  const lock = rangeLock();
  if (!lock || length === 0) {
    return read();
  }
  set(lock, fd, F_OFD_SETLKW, F_RDLCK, hostOffset, length);
  try {
    return read();
  } finally {
    set(lock, fd, F_OFD_SETLK, F_UNLCK, hostOffset, length);
  }
}

/**
 * Does the writing while nobody reads there.
 * @returns false, and nothing was done, where a reader does not end
 */
export function whileAlone(fd: number, hostOffset: number, length: number, write: () => void): boolean {
  const lock = rangeLock();
  if (!lock || length === 0) {
    write();
    return true;
  }
  for (let attempt = 0; !set(lock, fd, F_OFD_SETLK, F_WRLCK, hostOffset, length); attempt++) {
    if (attempt === TRIES) {
      return false;
    }
    Atomics.wait(pause, 0, 0, PAUSE_MS);
  }
  try {
    write();
    return true;
  } finally {
    set(lock, fd, F_OFD_SETLK, F_UNLCK, hostOffset, length);
  }
}

type LockCall = NonNullable<NativeCalls['lock']>;

function rangeLock(): LockCall | null {
  return process.platform === 'linux' ? (nativeCalls()?.lock ?? null) : null;
}

function set(lock: LockCall, fd: number, command: number, type: number, hostOffset: number, length: number): boolean {
  return lock(fd, command, { l_type: type, l_whence: 0, l_start: BASE + hostOffset, l_len: length, l_pid: 0 }) === 0;
}
