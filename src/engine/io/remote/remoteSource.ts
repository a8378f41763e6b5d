import type { ByteSource } from '../source';
import { BlockCache, type BlockCacheOptions } from './blockCache';
import type { RangeFetcher } from './rangeFetcher';

/** What can be fetched by ranges, as a source of bytes: `read` throws `NotLoaded` for what has to be fetched first (see `loading`). */
export class RemoteSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  /** Nobody knows what a server's file system has allocated. */
  readonly allocatedBytes: number;
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

  close(): void {
    this.cache.close();
    this.release();
  }
}
