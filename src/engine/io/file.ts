import * as fs from 'node:fs';

import { fileError, notARegularFile } from '../errors';
import { holeFinder } from './holes';
import { nativeCalls } from './native';
import { whileShared } from './rangeLocks';
import type { ByteSource } from './source';

/** `st_blocks` counts 512-byte units on every system, whatever the file system's block size. */
const STAT_BLOCK = 512;

/** `O_NONBLOCK` keeps a FIFO that poses as an image from hanging the open; Windows has neither. */
const OPEN_FLAGS = fs.constants.O_RDONLY | ((fs.constants as { readonly O_NONBLOCK?: number }).O_NONBLOCK ?? 0);

/** posix_fadvise's number on Linux. */
const FADV_WILLNEED = 3;

/** Beyond there are no range locks. */
const MAX_SHARED = 2 ** 52;

/** A file by device and inode number. */
export interface FileIdentity {
  readonly device: bigint;
  readonly inode: bigint;
}

/** Equal for two names of one file, and for no two files. */
export function fileKey({ device, inode }: FileIdentity): string {
  return `${device}:${inode}`;
}

/** What `stat` told of a file. */
export interface FileStat {
  readonly size: number;
  readonly allocatedBytes: number;
  readonly modifiedMs: number;
  readonly identity: FileIdentity;
}

/** A regular file or block device, opened read-only. */
export class FileSource implements ByteSource {
  readonly name: string;
  /** What it was opened as. */
  readonly path: string;
  readonly fd: number;
  protected stat: FileStat;
  private closed = false;
  private besideWriter = false;
  private readonly closing: (() => void)[] = [];

  protected constructor(path: string, name: string, fd: number) {
    this.path = path;
    this.name = name;
    this.fd = fd;
    this.stat = statOf(name, fd);
  }

  /**
   * Opens `path` for reading.
   * @throws EngineError `file.notFound`, `file.notAccessible`, `file.notRegular`, `file.io`
   */
  static open(path: string, name = path): FileSource {
    let fd: number;
    try {
      fd = fs.openSync(path, OPEN_FLAGS);
    } catch (cause) {
      throw fileError(name, 'Opening', cause);
    }
    try {
      return new FileSource(path, name, fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  get size(): number {
    if (this.besideWriter) {
      this.refresh();
    }
    return this.stat.size;
  }

  get allocatedBytes(): number {
    return this.stat.allocatedBytes;
  }

  /** Which file it is, whatever its name: equal for two sources exactly when they are the same file. */
  get identity(): FileIdentity {
    return this.stat.identity;
  }

  /** Milliseconds since 1970 of the last change, as of opening or the last `refresh`. */
  get modifiedMs(): number {
    return this.stat.modifiedMs;
  }

  /** Looks at the file again; returns whether its size or time changed since the last look. */
  refresh(): boolean {
    const before = this.stat;
    this.stat = statOf(this.name, this.fd);
    return before.size !== this.stat.size || before.modifiedMs !== this.stat.modifiedMs;
  }

  /** From now on somebody else may write the file: what he adds is seen, and no write by halves (see rangeLocks.ts). */
  readBesideWriter(): void {
    this.besideWriter = true;
  }

  read(target: Uint8Array, hostOffset: number): number {
    return this.besideWriter && hostOffset + target.length <= MAX_SHARED
      ? whileShared(this.fd, hostOffset, target.length, () => this.readNow(target, hostOffset))
      : this.readNow(target, hostOffset);
  }

  private readNow(target: Uint8Array, hostOffset: number): number {
    if (hostOffset > Number.MAX_SAFE_INTEGER) {
      // No file is that long, and Node refuses to look.
      return 0;
    }
    let done = 0;
    try {
      while (done < target.length) {
        const count = fs.readSync(this.fd, target, done, target.length - done, hostOffset + done);
        if (count === 0) {
          break;
        }
        done += count;
      }
    } catch (cause) {
      throw fileError(this.name, `Reading ${target.length} bytes at offset ${hostOffset} of`, cause);
    }
    return done;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    const rest = this.size - hostOffset;
    // Also where every block is allocated: preallocated blocks that were never written are holes.
    const finder = holeFinder();
    if (!finder) {
      return { length: rest, data: true };
    }
    const nextData = finder.nextData(this.fd, hostOffset);
    if (nextData < 0) {
      return { length: rest, data: false };
    }
    if (nextData > hostOffset) {
      return { length: Math.min(rest, nextData - hostOffset), data: false };
    }
    const nextHole = finder.nextHole(this.fd, hostOffset);
    return { length: nextHole > hostOffset ? Math.min(rest, nextHole - hostOffset) : rest, data: true };
  }

  willRead(hostOffset: number, length: number): void {
    nativeCalls()?.fadvise?.(this.fd, hostOffset, length, FADV_WILLNEED);
  }

  /** Something to be done before the file is closed: what an end of the descriptor alone might leave for a while. */
  beforeClose(work: () => void): void {
    this.closing.push(work);
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      for (const work of this.closing) {
        work();
      }
      fs.closeSync(this.fd);
    }
  }
}

function statOf(name: string, fd: number): FileStat {
  // Inode numbers use all 64 bits on some file systems.
  const stat = fs.fstatSync(fd, { bigint: true });
  const identity = { device: stat.dev, inode: stat.ino };
  const modifiedMs = Number(stat.mtimeNs) / 1e6;
  if (stat.isFile()) {
    return { size: Number(stat.size), allocatedBytes: Number(stat.blocks) * STAT_BLOCK, modifiedMs, identity };
  }
  if (stat.isBlockDevice()) {
    const size = blockDeviceSize(fd);
    return { size, allocatedBytes: size, modifiedMs, identity };
  }
  throw notARegularFile(name, stat.isDirectory() ? 'a directory' : stat.isFIFO() ? 'a pipe' : 'a special file');
}

/** `stat` gives a block device no size; its end is found by halving, a read past it returns nothing. */
function blockDeviceSize(fd: number): number {
  const probe = new Uint8Array(1);
  let known = 0;
  let limit = Number.MAX_SAFE_INTEGER;
  while (known < limit) {
    const middle = known + Math.floor((limit - known) / 2);
    if (readsAt(fd, probe, middle)) {
      known = middle + 1;
    } else {
      limit = middle;
    }
  }
  return known;
}

function readsAt(fd: number, probe: Uint8Array, offset: number): boolean {
  try {
    return fs.readSync(fd, probe, 0, 1, offset) === 1;
  } catch {
    // Linux answers EINVAL past the end of some devices: not readable there, which is the question.
    return false;
  }
}
