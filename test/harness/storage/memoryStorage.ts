import type { Awaitable } from '../../../src/engine/awaitable';
import type { Storage } from '../../../src/engine/io/storage';

/** A file in memory that can be written. */
export class MemoryStorage implements Storage {
  readonly name: string;
  readonly writable: boolean = true;
  closed = false;
  private content: Uint8Array;
  private length: number;

  constructor(content: Uint8Array = new Uint8Array(0), name = 'memory') {
    this.content = content.slice();
    this.length = content.length;
    this.name = name;
  }

  get size(): number {
    return this.length;
  }

  get allocatedBytes(): number {
    return this.length;
  }

  /** A copy of the file as it is. */
  get bytes(): Uint8Array {
    return this.content.slice(0, this.length);
  }

  read(target: Uint8Array, hostOffset: number): number {
    const part = this.content.subarray(Math.min(hostOffset, this.length), Math.min(hostOffset + target.length, this.length));
    target.set(part);
    return part.length;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return { length: this.length - hostOffset, data: true };
  }

  write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    this.grow(hostOffset + bytes.length);
    this.content.set(bytes, hostOffset);
  }

  writeZeroes(hostOffset: number, length: number): Awaitable<void> {
    this.grow(hostOffset + length);
    this.content.fill(0, hostOffset, hostOffset + length);
  }

  discard(hostOffset: number, length: number): Awaitable<void> {
    this.content.fill(0, Math.min(hostOffset, this.length), Math.min(hostOffset + length, this.length));
  }

  truncate(size: number): Awaitable<void> {
    if (size < this.length) {
      this.content.fill(0, size, this.length);
      this.length = size;
    }
    this.grow(size);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }

  private grow(size: number): void {
    if (size > this.content.length) {
      const larger = new Uint8Array(Math.max(size, this.content.length * 2));
      larger.set(this.content.subarray(0, this.length));
      this.content = larger;
    }
    this.length = Math.max(this.length, size);
  }
}
