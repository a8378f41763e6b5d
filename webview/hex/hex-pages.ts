import type { HexPage, Region } from '../../src/protocol/inspect';
import { isCancelled, problemOf, type Problem } from '../problem';

export const PAGE_BYTES = 4096;
const PAGES_KEPT = 128;

/** The bytes of a file that were looked at last, fetched page by page. */
export class HexPages {
  private readonly pages = new Map<number, HexPage>();
  private readonly running = new Map<number, AbortController>();
  private readonly fetch: (hostOffset: number, length: number, signal: AbortSignal) => Promise<HexPage>;
  private readonly fileSize: number;
  private readonly changed: () => void;
  private failure: Problem | null = null;

  constructor(fileSize: number, fetch: (hostOffset: number, length: number, signal: AbortSignal) => Promise<HexPage>, changed: () => void) {
    this.fileSize = fileSize;
    this.fetch = fetch;
    this.changed = changed;
  }

  get problem(): Problem | null {
    return this.failure;
  }

  /** A byte; null while it is not here. */
  byte(offset: number): number | null {
    return this.pages.get(Math.floor(offset / PAGE_BYTES))?.bytes[offset % PAGE_BYTES] ?? null;
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
    const page = this.pages.get(Math.floor(offset / PAGE_BYTES));
    return page?.regions.filter((region) => region.hostOffset < offset + length && region.hostOffset + region.length > offset) ?? [];
  }

  want(offset: number, length: number): void {
    const from = Math.floor(offset / PAGE_BYTES);
    const to = Math.floor((Math.min(this.fileSize, offset + length) - 1) / PAGE_BYTES);
    for (const [page, controller] of this.running) {
      if (page < from - 1 || page > to + 1) {
        controller.abort();
        this.running.delete(page);
      }
    }
    for (let page = from; page <= to; page++) {
      const here = this.pages.get(page);
      if (here !== undefined) {
        this.pages.delete(page);
        this.pages.set(page, here);
      } else if (!this.running.has(page) && this.failure === null) {
        void this.load(page);
      }
    }
  }

  retry(): void {
    this.failure = null;
    this.changed();
  }

  dispose(): void {
    for (const controller of this.running.values()) {
      controller.abort();
    }
    this.running.clear();
  }

  private async load(page: number): Promise<void> {
    const controller = new AbortController();
    this.running.set(page, controller);
    try {
      const offset = page * PAGE_BYTES;
      const answer = await this.fetch(offset, Math.min(PAGE_BYTES, this.fileSize - offset), controller.signal);
      if (this.running.get(page) !== controller) {
        return;
      }
      this.pages.set(page, answer);
      for (const oldest of this.pages.keys()) {
        if (this.pages.size <= PAGES_KEPT) {
          break;
        }
        this.pages.delete(oldest);
      }
    } catch (error) {
      if (this.running.get(page) !== controller) {
        return;
      }
      if (!isCancelled(error)) {
        this.failure = problemOf(error);
      }
    }
    this.running.delete(page);
    this.changed();
  }
}
