/* The lines in which Linux describes locks: /proc/locks, and `lock:` in /proc/PID/fdinfo/FD (proc(5)). */

/** A lock on a range of bytes (both ends included) that some process holds. */
export interface LockedRange {
  readonly first: number;
  readonly last: number;
  /** A write lock. QEMU takes none; a program that locks whole files does. */
  readonly exclusive: boolean;
}

/** A lock and the file it is on, as the kernel names it. */
export interface HeldLock extends LockedRange {
  /** `major:minor`, hexadecimal. */
  readonly device: string;
  readonly inode: string;
}

/** The locks on QEMU's bytes by inode number, from the text of /proc/locks. */
export function parseLocks(text: string): ReadonlyMap<string, readonly HeldLock[]> {
  const locks = new Map<string, HeldLock[]>();
  for (const line of text.split('\n')) {
    const lock = parseLock(line);
    if (lock) {
      const known = locks.get(lock.inode);
      if (known) {
        known.push(lock);
      } else {
        locks.set(lock.inode, [lock]);
      }
    }
  }
  return locks;
}

/**
 * One line of /proc/locks or of an fdinfo's `lock:`; null for other kinds of locks (flock does not concern QEMU), for waiting requests
 * and for bytes that QEMU does not use.
 */
export function parseLock(line: string): HeldLock | null {
  const match = /^\s*\d+: (?:POSIX|OFDLCK)\s+\S+\s+(READ|WRITE)\s+-?\d+ ([0-9a-f]+:[0-9a-f]+):(\d+) (\d+) (\d+|EOF)/.exec(line);
  if (!match) {
    return null;
  }
  const [, type, device, inode, start, end] = match;
  const first = Number(start);
  const last = end === 'EOF' ? Infinity : Number(end);
  return touches(first, last, 100) || touches(first, last, 200)
    ? { device: device!, inode: inode!, first, last, exclusive: type === 'WRITE' }
    : null;
}

export function holderKey(lock: HeldLock): string {
  return `${lock.device}:${lock.inode}`;
}

/** Whether a range touches the four permissions' bytes that start at `base`. */
function touches(first: number, last: number, base: number): boolean {
  return first <= base + 3 && last >= base;
}
