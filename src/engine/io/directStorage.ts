import * as fs from 'node:fs';

import type { Awaitable } from '../awaitable';
import { errnoOf, fileError } from '../errors';
import type { FileStorage } from './fileStorage';
import { NotLoaded } from './loading';
import { isPageMemory, PAGE } from './pageMemory';
import type { Storage, StoragePreallocation } from './storage';

/** Shorter writes go to the page cache: each direct one is a request to the disk that is waited for. */
const LEAST = 64 * 1024;

/** A change that has not ended yet. */
interface Change {
  readonly start: number;
  readonly end: number;
  /** The file is at least this long afterwards. */
  readonly grows: number;
  readonly done: Promise<void>;
}

/**
 * A local file that much is copied into, to be on the disk in the end: long writes from page memory go past the page cache (O_DIRECT), and
 * several at the same time. That spares the system finding, filling and writing back as many pages. What touches a range that is still
 * being written waits for it.
 */
export class DirectStorage implements Storage {
  readonly writable = true;
  private readonly file: FileStorage;
  private readonly fd: number;
  private readonly changes = new Set<Change>();
  /** The file system does not take them after all. */
  private refused = false;
  private closed = false;

  private constructor(file: FileStorage, fd: number) {
    this.file = file;
    this.fd = fd;
  }

  /** The storage owns `file` from then on; gives `file` itself back where the system or the file system has no direct writes. */
  static over(file: FileStorage): Storage {
    const { O_WRONLY } = fs.constants;
    const direct = (fs.constants as { readonly O_DIRECT?: number }).O_DIRECT;
    if (direct === undefined) {
      return file;
    }
    try {
      // The same file, whatever has its name now.
      return new DirectStorage(file, fs.openSync(`/proc/self/fd/${file.fd}`, O_WRONLY | direct));
    } catch {
      // Only a faster way: the file can be written as it is.
      return file;
    }
  }

  get name(): string {
    return this.file.name;
  }

  get size(): number {
    let size = this.file.size;
    for (const { grows } of this.changes) {
      size = Math.max(size, grows);
    }
    return size;
  }

  get allocatedBytes(): number {
    return this.file.allocatedBytes;
  }

  read(target: Uint8Array, hostOffset: number): number {
    this.requireDone(hostOffset, hostOffset + target.length);
    const count = this.file.read(target, hostOffset);
    // Before what makes the file longer there are zeroes already.
    const there = Math.max(count, Math.min(target.length, this.size - hostOffset));
    target.fill(0, count, there);
    return there;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    this.requireDone(hostOffset, Infinity);
    return this.file.extentAt(hostOffset);
  }

  willRead(hostOffset: number, length: number): void {
    this.file.willRead(hostOffset, length);
  }

  write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    const end = hostOffset + bytes.length;
    const before = this.overlapping(hostOffset, end);
    if (this.takes(bytes, hostOffset)) {
      return this.change(before, { start: hostOffset, end, grows: end }, () => this.writeDirect(bytes, hostOffset));
    }
    const write = () => {
      this.file.write(bytes, hostOffset);
    };
    if (before.length > 0) {
      return this.change(before, { start: hostOffset, end, grows: end }, write);
    }
    write();
  }

  writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void> {
    return this.alone(hostOffset + length, () => {
      this.file.writeZeroes(hostOffset, length, options);
    });
  }

  discard(hostOffset: number, length: number): Awaitable<void> {
    return this.alone(0, () => {
      this.file.discard(hostOffset, length);
    });
  }

  truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void> {
    return this.alone(0, () => {
      this.file.truncate(size, preallocation);
    });
  }

  async flush(): Promise<void> {
    await settled(this.changes);
    await this.file.flush();
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      fs.closeSync(this.fd);
      this.file.close();
    }
  }

  private overlapping(from: number, to: number): readonly Change[] {
    return this.changes.size === 0 ? [] : [...this.changes].filter(({ start, end }) => start < to && end > from);
  }

  /** @throws NotLoaded while the range is being changed */
  private requireDone(from: number, to: number): void {
    const changes = this.overlapping(from, to);
    if (changes.length > 0) {
      throw new NotLoaded(() => settled(changes));
    }
  }

  /** What the file does here depends on how long it is, so no write may be on its way. */
  private alone(grows: number, work: () => void): Awaitable<void> {
    if (this.changes.size > 0) {
      return this.change([...this.changes], { start: 0, end: Infinity, grows }, work);
    }
    work();
  }

  private change(before: readonly Change[], range: Omit<Change, 'done'>, work: () => Awaitable<void>): Promise<void> {
    const done = (before.length === 0 ? Promise.resolve(work()) : settled(before).then(work)).finally(() => {
      this.changes.delete(change);
      this.file.refresh();
    });
    const change: Change = { ...range, done };
    this.changes.add(change);
    return done;
  }

  private takes(bytes: Uint8Array, hostOffset: number): boolean {
    return !this.refused && bytes.length >= LEAST && bytes.length % PAGE === 0 && hostOffset % PAGE === 0 && isPageMemory(bytes);
  }

  private async writeDirect(bytes: Uint8Array, hostOffset: number): Promise<void> {
    let done = 0;
    while (done < bytes.length && done % PAGE === 0 && !this.refused) {
      done += await this.writeSome(bytes.subarray(done), hostOffset + done);
    }
    if (done < bytes.length) {
      this.file.write(bytes.subarray(done), hostOffset + done);
    }
  }

  /** Returns how many bytes it was. @throws EngineError `file.full`, `file.io` */
  private writeSome(bytes: Uint8Array, hostOffset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(this.fd, bytes, 0, bytes.length, hostOffset, (cause, count) => {
        if (!cause) {
          resolve(count);
        } else if (errnoOf(cause) === 'EINVAL') {
          this.refused = true;
          resolve(0);
        } else {
          reject(fileError(this.name, `Writing ${bytes.length} bytes at offset ${hostOffset} of`, cause));
        }
      });
    });
  }
}

/** Ends with the last of them, however they end: whoever asked for them is told. */
async function settled(changes: Iterable<Change>): Promise<void> {
  await Promise.allSettled([...changes].map(({ done }) => done));
}
