import * as fs from 'node:fs';
import * as path from 'node:path';

import type { LockHolder } from '../../protocol/chain';
import { holderKey, parseLock, type HeldLock } from './lockLines';

export interface Holders {
  /** This process's own locks by file. */
  readonly own: ReadonlyMap<string, readonly HeldLock[]>;
  /** The other processes that hold locks, by file; only those whose descriptors we may look at. */
  readonly others: ReadonlyMap<string, readonly LockHolder[]>;
}

/**
 * Goes through the open files of every process for locks on QEMU's bytes: the lock table itself names no process for the locks that
 * QEMU takes. Costs a system call per open file, so it is done only when something is locked.
 * @param inodes those that have locks
 */
export function findHolders(inodes: ReadonlySet<string>): Holders {
  const own = new Map<string, HeldLock[]>();
  const others = new Map<string, LockHolder[]>();
  for (const entry of list('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) {
      continue;
    }
    const locks = locksOfProcess(pid, inodes);
    if (pid === process.pid) {
      for (const lock of locks) {
        own.set(holderKey(lock), [...(own.get(holderKey(lock)) ?? []), lock]);
      }
    } else if (locks.length > 0) {
      const holder = { pid, command: commandOf(pid) };
      for (const key of new Set(locks.map(holderKey))) {
        others.set(key, [...(others.get(key) ?? []), holder]);
      }
    }
  }
  return { own, others };
}

function locksOfProcess(pid: number, inodes: ReadonlySet<string>): HeldLock[] {
  const locks: HeldLock[] = [];
  for (const fd of list(`/proc/${pid}/fd`)) {
    if (!inodes.has(inodeOf(`/proc/${pid}/fd/${fd}`))) {
      continue;
    }
    for (const line of read(`/proc/${pid}/fdinfo/${fd}`).split('\n')) {
      const lock = line.startsWith('lock:') ? parseLock(line.slice('lock:'.length)) : null;
      if (lock) {
        locks.push(lock);
      }
    }
  }
  return locks;
}

/** The program's name from its command line; the kernel's own name for it is cut at 15 characters. */
function commandOf(pid: number): string {
  const program = read(`/proc/${pid}/cmdline`).split('\0')[0] ?? '';
  return path.basename(program) || read(`/proc/${pid}/comm`).trim() || 'unknown program';
}

/** Of the file that a descriptor is open on; empty when it is closed meanwhile. */
function inodeOf(descriptor: string): string {
  try {
    return fs.statSync(descriptor, { bigint: true, throwIfNoEntry: false })?.ino.toString() ?? '';
  } catch {
    // A descriptor of a process that we may list but not look into.
    return '';
  }
}

function list(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    // The process ended meanwhile, or is somebody else's: the system does not let us look.
    return [];
  }
}

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    // As above.
    return '';
  }
}
