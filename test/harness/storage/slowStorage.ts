import type { Awaitable } from '../../../src/engine/awaitable';
import { NotLoaded } from '../../../src/engine/io/loading';
import type { Storage, StoragePreallocation } from '../../../src/engine/io/storage';
import type { Random } from '../../interop/random';
import { WrappedStorage } from './wrappedStorage';

export interface SlowStorageOptions {
  /** Turns of the event loop that a change takes at most. */
  readonly turns?: number;
  /** Reads have to be fetched first, one time in this many; 0 for never. */
  readonly unloaded?: number;
}

/**
 * A disk whose changes take a random time, have their effect at a random moment of it, and so overtake one another. Two changes of the same
 * bytes that are in flight together end in any order: whoever needs one has to wait.
 */
export class SlowStorage extends WrappedStorage {
  private readonly random: Random;
  private readonly turns: number;
  private readonly unloaded: number;
  private fetched = 0;

  constructor(inner: Storage, random: Random, { turns: most = 4, unloaded = 0 }: SlowStorageOptions = {}) {
    super(inner);
    this.random = random;
    this.turns = most;
    this.unloaded = unloaded;
  }

  override read(target: Uint8Array, hostOffset: number): number {
    if (this.fetched === 0 && this.unloaded > 0 && this.random.below(this.unloaded) === 0) {
      throw new NotLoaded(async () => {
        await turns(this.random.between(1, this.turns));
        // What runs again reads all of it again, and must find it there.
        this.fetched = 64;
      });
    }
    this.fetched = Math.max(0, this.fetched - 1);
    return super.read(target, hostOffset);
  }

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    return this.later(() => super.write(bytes, hostOffset));
  }

  override writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void> {
    return this.later(() => super.writeZeroes(hostOffset, length, options));
  }

  override discard(hostOffset: number, length: number): Awaitable<void> {
    return this.later(() => super.discard(hostOffset, length));
  }

  override truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void> {
    return this.later(() => super.truncate(size, preallocation));
  }

  override flush(): Promise<void> {
    return this.later(() => super.flush());
  }

  private async later(effect: () => Awaitable<void>): Promise<void> {
    await turns(this.random.below(this.turns));
    await effect();
    await turns(this.random.below(this.turns));
  }
}

/** Lets the event loop turn that many times. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
