import * as fs from 'node:fs';

import { EngineError, errnoOf, fileError } from '../errors';
import { fileKey, FileSource } from './file';
import { nativeCalls } from './native';
import type { Storage, StoragePreallocation } from './storage';

/* fallocate's modes (Linux). */
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;
const UNSHARE_RANGE = 64;

/** The system or the file system cannot do it; it is done another way then. */
const NOT_SUPPORTED: readonly string[] = ['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL'];

/**
 * Bytes that are written at a time. Linux makes the page cache of pieces as large as what is written, and free memory in large pieces is
 * what a virtual machine has given back to its host (free page reporting): getting it from there again costs several times what copying
 * into it does, while small pieces are still at hand. Where all memory is at hand the calls cost a few hundredths more.
 */
const PIECE = 32 * 1024;

/** Zeroes that are written out at a time. */
const ZEROES = new Uint8Array(256 * 1024);

export interface FileStorageOptions {
  readonly writable: boolean;
  /** Made when it is not there, `new`: it must not be there, `truncate`: what it held is given up. */
  readonly create?: 'missing' | 'new' | 'truncate' | undefined;
  /** How messages call it; the path when left out. */
  readonly name?: string | undefined;
  /** False: flushing does nothing (QEMU's `cache=unsafe`), for a file that is worth nothing before it is complete. */
  readonly durable?: boolean | undefined;
}

/**
 * A local file or block device that a driver works on. Reads and writes are synchronous, on the page cache; only `flush` waits for the
 * disk, off the thread.
 */
export class FileStorage extends FileSource implements Storage {
  readonly writable: boolean;
  private readonly durable: boolean;
  private readonly regular: boolean;
  /** Why nothing is flushed any more; null while all is well. */
  private lost: EngineError | null = null;

  private constructor(path: string, name: string, fd: number, writable: boolean, durable: boolean) {
    super(path, name, fd);
    this.writable = writable;
    this.durable = durable;
    this.regular = fs.fstatSync(fd).isFile();
  }

  /** @throws EngineError `file.notFound`, `file.notAccessible`, `file.notRegular`, `file.io` */
  static openFile(path: string, { writable, create, name = path, durable = true }: FileStorageOptions): FileStorage {
    const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC } = fs.constants;
    const nonBlocking = (fs.constants as { readonly O_NONBLOCK?: number }).O_NONBLOCK ?? 0;
    const creating = { missing: O_CREAT, new: O_CREAT | O_EXCL, truncate: O_CREAT | O_TRUNC };
    let fd: number;
    try {
      // `O_NONBLOCK`: see FileSource.
      fd = fs.openSync(path, (writable ? O_RDWR : O_RDONLY) | nonBlocking | (create ? creating[create] : 0), 0o644);
    } catch (cause) {
      throw fileError(name, 'Opening', cause);
    }
    try {
      return new FileStorage(path, name, fd, writable, durable);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /**
   * Opens an open file once more.
   * @throws EngineError as `openFile`; `file.notFound` when another file has its name meanwhile
   */
  static reopen(file: FileSource, options: Pick<FileStorageOptions, 'writable' | 'durable'>): FileStorage {
    const opened = FileStorage.openFile(file.path, { ...options, name: file.name });
    if (fileKey(opened.identity) !== fileKey(file.identity)) {
      opened.close();
      throw new EngineError('file.notFound', `'${file.name}' was replaced by another file while it was in use.`, { file: file.name });
    }
    return opened;
  }

  write(bytes: Uint8Array, hostOffset: number): void {
    this.requireWritable();
    if (hostOffset + bytes.length > Number.MAX_SAFE_INTEGER) {
      // Node takes such an offset for none at all, and writes to wherever the descriptor stands.
      throw fileError(this.name, `Writing ${bytes.length} bytes at offset ${hostOffset} of`, 'No file is that long');
    }
    let done = 0;
    try {
      while (done < bytes.length) {
        done += fs.writeSync(this.fd, bytes, done, Math.min(PIECE, bytes.length - done), hostOffset + done);
      }
    } catch (cause) {
      throw fileError(this.name, `Writing ${bytes.length} bytes at offset ${hostOffset} of`, cause);
    } finally {
      this.grown(hostOffset + done);
    }
  }

  writeZeroes(hostOffset: number, length: number, { unmap = false }: { readonly unmap?: boolean } = {}): void {
    this.requireWritable();
    const inside = Math.max(0, Math.min(length, this.size - hostOffset));
    if (inside < length && unmap) {
      // Past the end a hole is what growing makes.
      this.truncate(hostOffset + length);
    }
    if (unmap) {
      this.zeroInside(PUNCH_HOLE | KEEP_SIZE, hostOffset, inside);
    } else {
      this.zeroInside(ZERO_RANGE, hostOffset, length);
    }
  }

  discard(hostOffset: number, length: number): void {
    this.requireWritable();
    const inside = Math.min(length, this.size - hostOffset);
    if (inside > 0 && this.regular) {
      this.allocate(PUNCH_HOLE | KEEP_SIZE, hostOffset, inside);
    }
  }

  reserve(hostOffset: number, length: number): boolean {
    this.requireWritable();
    if (!this.regular) {
      return true;
    }
    // What another file shares (a reflink) has blocks, but not for a write; a file system that shares nothing knows no such mode.
    this.allocate(UNSHARE_RANGE | KEEP_SIZE, hostOffset, length);
    return this.allocate(KEEP_SIZE, hostOffset, length);
  }

  truncate(size: number, preallocation: StoragePreallocation = 'off'): void {
    this.requireWritable();
    const before = this.size;
    if (!this.regular) {
      if (size > before) {
        throw new EngineError('request.invalid', `The device '${this.name}' cannot grow to ${size} bytes.`, { file: this.name });
      }
      return;
    }
    if (size > before && preallocation === 'full') {
      this.writeOut(before, size - before);
    } else {
      if (size > before && preallocation === 'falloc' && !this.allocate(0, before, size - before)) {
        // Without such a call the space is got by writing it.
        this.writeOut(before, size - before);
      }
      try {
        fs.ftruncateSync(this.fd, size);
      } catch (cause) {
        throw fileError(this.name, `Setting the length to ${size} bytes of`, cause);
      }
    }
    this.stat = { ...this.stat, size };
  }

  flush(): Promise<void> {
    if (!this.durable) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.fd, (cause) => {
        if (cause) {
          // The system tells of it once and forgets the bytes: to whoever flushes next all would seem well.
          this.lost ??= fileError(this.name, 'Flushing', cause);
        }
        if (this.lost) {
          reject(this.lost);
        } else {
          resolve();
        }
      });
    });
  }

  private zeroInside(mode: number, hostOffset: number, length: number): void {
    if (length > 0 && !(this.regular && this.allocate(mode, hostOffset, length))) {
      this.writeOut(hostOffset, length);
    }
    this.grown(hostOffset + length);
  }

  private writeOut(hostOffset: number, length: number): void {
    for (let done = 0; done < length; done += ZEROES.length) {
      this.write(ZEROES.subarray(0, Math.min(ZEROES.length, length - done)), hostOffset + done);
    }
  }

  /** False where the system or the file system has no such call. @throws EngineError `file.full`, `file.io` */
  private allocate(mode: number, hostOffset: number, length: number): boolean {
    const calls = nativeCalls();
    if (!calls?.fallocate) {
      return false;
    }
    if (calls.fallocate(this.fd, mode, hostOffset, length) === 0) {
      return true;
    }
    const code = calls.errno();
    if (NOT_SUPPORTED.includes(code)) {
      return false;
    }
    throw fileError(this.name, `Allocating ${length} bytes at offset ${hostOffset} of`, Object.assign(new Error(code), { code }));
  }

  private grown(end: number): void {
    if (end > this.stat.size) {
      this.stat = { ...this.stat, size: end };
    }
  }

  private requireWritable(): void {
    if (!this.writable) {
      throw new EngineError('request.readOnly', `'${this.name}' was opened for reading only.`, { file: this.name });
    }
  }
}

/** Removes a file that was only begun; that it is gone already is fine. */
export function removeFile(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT') {
      throw fileError(path, 'Removing', cause);
    }
  }
}
