import * as fs from 'node:fs';

import type { LockHolder, UsageState } from '../../protocol/chain';
import type { FileIdentity, FileSource } from './file';
import { findHolders } from './lockHolders';
import { holderKey, parseLocks, type HeldLock, type LockedRange } from './lockLines';

/*
 * Who uses an image, as QEMU's own locks tell (FORMATS.md; block/file-posix.c). Byte 100+i says "I use permission i", byte 200+i "I do
 * not share permission i". All are shared locks, so holding one tells nothing to a process that takes the same; Linux shows them in
 * /proc/locks by device and inode.
 */

export const LOCK_BYTE = {
  useConsistentRead: 100,
  useWrite: 101,
  useResize: 103,
  unshareConsistentRead: 200,
  unshareWrite: 201,
  unshareResize: 203,
} as const;

/** Of what no table of locks tells. */
export const USAGE_UNKNOWN: UsageState = { known: false, inUse: false, writing: false, holders: [] };
const UNUSED: UsageState = { known: true, inUse: false, writing: false, holders: [] };

/**
 * One look at the system's table of locks, for any number of files. Which processes hold them is found out only when a file is locked,
 * and then once for all files.
 */
export class LockTable {
  private readonly locks: ReadonlyMap<string, readonly HeldLock[]>;
  private holders: ReturnType<typeof findHolders> | null = null;

  private constructor(locks: ReadonlyMap<string, readonly HeldLock[]>) {
    this.locks = locks;
  }

  /** Null where the system has no such table. */
  static read(): LockTable | null {
    try {
      return new LockTable(parseLocks(fs.readFileSync('/proc/locks', 'latin1')));
    } catch {
      // Not Linux, or /proc is not mounted: nothing can be said about locks.
      return null;
    }
  }

  /** Locks on the bytes that QEMU uses, our own process's included. */
  rangesOf(file: FileSource): readonly LockedRange[] {
    return this.locksOf(file);
  }

  /** Which processes other than this one use the file, and what this one does with it. */
  usageOf(file: FileSource): UsageState {
    const all = this.locksOf(file);
    if (all.length === 0) {
      return UNUSED;
    }
    this.holders ??= findHolders(new Set(this.locks.keys()));
    const key = holderKey(all[0]!);
    const own = this.holders.own.get(key) ?? [];
    const foreign = without(all, own);
    return {
      known: true,
      inUse: foreign.length > 0,
      writing: foreign.some(writes),
      holders: foreign.length > 0 ? (this.holders.others.get(key) ?? []) : [],
      ...(own.length > 0 ? { own: own.some(writes) ? 'writing' : 'reading' } : {}),
    };
  }

  /** Processes other than this one that hold locks on the file, as far as the system names them. */
  holdersOf(file: FileSource): readonly LockHolder[] {
    return this.usageOf(file).holders;
  }

  private locksOf(file: FileSource): readonly HeldLock[] {
    const { device, inode } = file.identity;
    const candidates = this.locks.get(inode.toString());
    if (!candidates) {
      return [];
    }
    const wanted = deviceName(device);
    const exact = candidates.filter((lock) => lock.device === wanted);
    if (exact.length > 0) {
      return exact;
    }
    // btrfs and overlayfs give `stat` a device number of their own; the table has that of the mounted file system.
    const mounted = mountedDevice(file.fd);
    return mounted === null ? [] : candidates.filter((lock) => lock.device === mounted);
  }
}

function writes(lock: HeldLock): boolean {
  return lock.exclusive || covers(lock, LOCK_BYTE.useWrite);
}

/** Who uses one file. For many files, read a `LockTable` once and ask it. */
export function usageOf(file: FileSource, table: LockTable | null = LockTable.read()): UsageState {
  return table?.usageOf(file) ?? USAGE_UNKNOWN;
}

export function covers(lock: LockedRange, byte: number): boolean {
  return lock.first <= byte && byte <= lock.last;
}

/** `locks` less `own`, each of which is taken out once. */
function without(locks: readonly HeldLock[], own: readonly HeldLock[]): HeldLock[] {
  const rest = [...locks];
  for (const mine of own) {
    const index = rest.findIndex((lock) => lock.first === mine.first && lock.last === mine.last && lock.exclusive === mine.exclusive);
    if (index >= 0) {
      rest.splice(index, 1);
    }
  }
  return rest;
}

/** `major:minor` in hexadecimal as the kernel prints it, from a device number as `stat` has it. */
function deviceName(device: FileIdentity['device']): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${hex(major)}:${hex(minor)}`;
}

function hex(value: bigint): string {
  return value.toString(16).padStart(2, '0');
}

/** `major:minor` of the mount that an open file lies on; null when the system does not say. */
function mountedDevice(fd: number): string | null {
  try {
    const mount = /^mnt_id:\s*(\d+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    const line = fs
      .readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .find((candidate) => mount !== undefined && candidate.startsWith(`${mount} `));
    const [major, minor] = line?.split(' ')[2]?.split(':') ?? [];
    return major === undefined || minor === undefined ? null : `${hex(BigInt(major))}:${hex(BigInt(minor))}`;
  } catch {
    // Without the mount table only the device number of `stat` is left, and that did not match.
    return null;
  }
}
