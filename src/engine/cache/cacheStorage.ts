import { EngineError } from '../errors';
import type { FileStorage } from '../io/fileStorage';
import { whileAlone } from '../io/rangeLocks';
import type { Storage } from '../io/storage';

/**
 * The file of a cache image while it is warmed: it grows up to its quota and never beyond, whatever the driver wants to put there, and
 * those who read it at the same time see no write by halves.
 */
export class CacheStorage implements Storage {
  readonly writable = true;
  private readonly file: FileStorage;
  private readonly quota: number;
  private refused = false;

  /** @param file the storage owns it @param quota in bytes */
  constructor(file: FileStorage, quota: number) {
    this.file = file;
    this.quota = quota;
  }

  /** Whether something did not fit the quota since this was asked last. */
  takeRefused(): boolean {
    const { refused } = this;
    this.refused = false;
    return refused;
  }

  get name(): string {
    return this.file.name;
  }

  get size(): number {
    return this.file.size;
  }

  get allocatedBytes(): number {
    return this.file.allocatedBytes;
  }

  read(target: Uint8Array, hostOffset: number): number {
    return this.file.read(target, hostOffset);
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return this.file.extentAt(hostOffset);
  }

  willRead(hostOffset: number, length: number): void {
    this.file.willRead(hostOffset, length);
  }

  write(bytes: Uint8Array, hostOffset: number): void {
    this.change(hostOffset, bytes.length, () => this.file.write(bytes, hostOffset));
  }

  writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): void {
    this.change(hostOffset, length, () => this.file.writeZeroes(hostOffset, length, options));
  }

  discard(hostOffset: number, length: number): void {
    this.change(hostOffset, Math.max(0, Math.min(length, this.size - hostOffset)), () => this.file.discard(hostOffset, length));
  }

  truncate(size: number): void {
    this.requireRoom(size);
    this.file.truncate(size);
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  close(): void {
    this.file.close();
  }

  private change(hostOffset: number, length: number, work: () => void): void {
    this.requireRoom(hostOffset + length);
    if (!whileAlone(this.file.fd, hostOffset, length, work)) {
      throw new EngineError('file.locked', `Another process does not end its reading at offset ${hostOffset} of '${this.name}'.`, {
        file: this.name,
        hostOffset,
      });
    }
  }

  private requireRoom(end: number): void {
    if (end > this.quota && end > this.size) {
      this.refused = true;
      throw new EngineError('file.full', `The cache image '${this.name}' may not grow beyond its quota of ${this.quota} bytes.`, {
        file: this.name,
      });
    }
  }
}
