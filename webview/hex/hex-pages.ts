import type { HexPage, Region } from '../../src/protocol/inspect';
import type { Problem } from '../problem';
import { PageCache } from '../state/page-cache';

export const PAGE_BYTES = 4096;
const PAGES_KEPT = 128;

/** The bytes of a file that were looked at last. */
export class HexPages {
  private readonly cache: PageCache<HexPage>;
  private readonly fileSize: number;

  constructor(fileSize: number, fetch: (hostOffset: number, length: number, signal: AbortSignal) => Promise<HexPage>, changed: () => void) {
    this.fileSize = fileSize;
    this.cache = new PageCache(
      PAGES_KEPT,
      (page, signal) => fetch(page * PAGE_BYTES, Math.min(PAGE_BYTES, fileSize - page * PAGE_BYTES), signal),
      changed,
    );
  }

  /** Why the last page did not come. */
  get problem(): Problem | null {
    return this.cache.problem;
  }

  /** A byte; null while it is not here. */
  byte(offset: number): number | null {
    return this.cache.get(Math.floor(offset / PAGE_BYTES))?.bytes[offset % PAGE_BYTES] ?? null;
  }

  /** Bytes from an offset on, as many as are here without a gap, at most `length`. */
  bytes(offset: number, length: number): Uint8Array {
    const bytes: number[] = [];
    for (let at = offset; at < offset + length; at++) {
      const byte = this.byte(at);
      if (byte === null) {
        break;
      }
      bytes.push(byte);
    }
    return Uint8Array.from(bytes);
  }

  /** Regions that reach into a stretch of the file, as far as its page is here. */
  regions(offset: number, length: number): readonly Region[] {
    const page = this.cache.get(Math.floor(offset / PAGE_BYTES));
    return page?.regions.filter((region) => region.hostOffset < offset + length && region.hostOffset + region.length > offset) ?? [];
  }

  /** Sees to it that these bytes come. */
  want(offset: number, length: number): void {
    const last = Math.min(this.fileSize, offset + length) - 1;
    if (last >= offset) {
      this.cache.want(Math.floor(offset / PAGE_BYTES), Math.floor(last / PAGE_BYTES));
    }
  }

  /** Tries again after a failure. */
  retry(): void {
    this.cache.retry();
  }

  dispose(): void {
    this.cache.dispose();
  }
}
