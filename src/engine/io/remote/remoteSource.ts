import { readOnlyImage } from '../../errors';
import type { Storage } from '../storage';
import { BlockCache, type BlockCacheOptions } from './blockCache';
import type { RangeFetcher } from './rangeFetcher';

/** What can only be fetched by ranges, as a storage: `read` throws `NotLoaded` for what has to be fetched first (see `loading`). */
export class RemoteSource implements Storage {
  readonly name: string;
  readonly size: number;
  readonly allocatedBytes: number;
  readonly allocationKnown = false;
  readonly writable = false;
  private readonly cache: BlockCache;
  private readonly release: () => void;

  /** @param release ends what the fetcher holds (connections) */
  constructor(fetcher: RangeFetcher, release: () => void, options: BlockCacheOptions = {}) {
    this.name = fetcher.name;
    this.size = fetcher.size;
    this.allocatedBytes = fetcher.size;
    this.cache = new BlockCache(fetcher, options);
    this.release = release;
  }

  read(target: Uint8Array, hostOffset: number): number {
    return this.cache.read(target, hostOffset);
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return { length: this.size - hostOffset, data: true };
  }

  write(): never {
    throw readOnlyImage(this.name);
  }

  writeZeroes(): never {
    throw readOnlyImage(this.name);
  }

  discard(): never {
    throw readOnlyImage(this.name);
  }

  truncate(): never {
    throw readOnlyImage(this.name);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.cache.close();
    this.release();
  }
}
