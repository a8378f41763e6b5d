import type { Awaitable } from '../../../src/engine/awaitable';
import { EngineError } from '../../../src/engine/errors';
import type { Storage, StoragePreallocation } from '../../../src/engine/io/storage';
import { WrappedStorage } from './wrappedStorage';

/** `short`: half of a write has its effect, in whole sectors, then the disk is full. */
export type Fault = 'EIO' | 'ENOSPC' | 'short';

const SECTOR = 512;

/** Fails at one operation of a workload, or at all from it on. */
export class FaultyStorage extends WrappedStorage {
  /** Number of changing operations (flushes among them) so far: run a workload once to know where it can fail. */
  operations = 0;
  /** Number of reads so far. */
  reads = 0;
  /** Index of the operation that fails; -1 for none. */
  failAt = -1;
  /** Index of the read that fails; -1 for none. */
  failReadAt = -1;
  /** Goes on failing. */
  forever = false;
  fault: Fault;

  constructor(inner: Storage, fault: Fault = 'EIO') {
    super(inner);
    this.fault = fault;
  }

  override read(target: Uint8Array, hostOffset: number): number {
    if (this.isHit(this.reads++, this.failReadAt)) {
      throw this.error('EIO');
    }
    return super.read(target, hostOffset);
  }

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    return this.change(
      () => super.write(bytes, hostOffset),
      () => super.write(bytes.subarray(0, partOf(hostOffset, bytes.length)), hostOffset),
    );
  }

  override writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void> {
    return this.change(
      () => super.writeZeroes(hostOffset, length, options),
      () => super.writeZeroes(hostOffset, partOf(hostOffset, length), options),
    );
  }

  override discard(hostOffset: number, length: number): Awaitable<void> {
    return this.change(() => super.discard(hostOffset, length));
  }

  override truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void> {
    return this.change(() => super.truncate(size, preallocation));
  }

  override async flush(): Promise<void> {
    await this.change(() => super.flush());
  }

  private change(effect: () => Awaitable<void>, partial?: () => Awaitable<void>): Awaitable<void> {
    if (!this.isHit(this.operations++, this.failAt)) {
      return effect();
    }
    if (this.fault === 'short') {
      void partial?.();
    }
    throw this.error(this.fault);
  }

  private isHit(operation: number, failing: number): boolean {
    return failing >= 0 && (this.forever ? operation >= failing : operation === failing);
  }

  private error(fault: Fault): EngineError {
    const full = fault !== 'EIO';
    return new EngineError(full ? 'file.full' : 'file.io', full ? 'The disk is full.' : 'The disk fails.', { file: this.name });
  }
}

/** About half of a range: up to where a sector ends. */
function partOf(hostOffset: number, length: number): number {
  return Math.max(0, Math.floor((hostOffset + length / 2) / SECTOR) * SECTOR - hostOffset);
}
