import type { Awaitable } from '../../../src/engine/awaitable';
import type { Storage, StoragePreallocation } from '../../../src/engine/io/storage';

/** A storage before another: each double changes what it is about and leaves the rest as it is. */
export abstract class WrappedStorage implements Storage {
  readonly inner: Storage;

  constructor(inner: Storage) {
    this.inner = inner;
  }

  get name(): string {
    return this.inner.name;
  }

  get writable(): boolean {
    return this.inner.writable;
  }

  get size(): number {
    return this.inner.size;
  }

  get allocatedBytes(): number {
    return this.inner.allocatedBytes;
  }

  read(target: Uint8Array, hostOffset: number): number {
    return this.inner.read(target, hostOffset);
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return this.inner.extentAt(hostOffset);
  }

  write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    return this.inner.write(bytes, hostOffset);
  }

  writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void> {
    return this.inner.writeZeroes(hostOffset, length, options);
  }

  discard(hostOffset: number, length: number): Awaitable<void> {
    return this.inner.discard(hostOffset, length);
  }

  truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void> {
    return this.inner.truncate(size, preallocation);
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  close(): void {
    this.inner.close();
  }
}
