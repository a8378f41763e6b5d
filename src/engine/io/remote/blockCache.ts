import { cancelled, EngineError, networkFailed } from '../../errors';
import { NotLoaded } from '../loading';
import type { RangeFetcher } from './rangeFetcher';
import { ReadAhead } from './readAhead';

export interface BlockCacheOptions {
  /** Bytes that are fetched and kept together; a power of two. */
  readonly blockSize?: number | undefined;
  /** Bytes that are kept. */
  readonly capacity?: number | undefined;
  /** Bytes of the largest single fetch; more is fetched in parallel. */
  readonly maxFetch?: number | undefined;
  /** Bytes that are fetched before somebody who reads in sequence asks for them. */
  readonly readAhead?: number | undefined;
}

/** A write under way: what has been read meanwhile, from the server's old or new state, is brought to the new. */
export interface Change {
  readonly offset: number;
  readonly length: number;
  /** Null: zeroes. `unknown`: what the range holds afterwards has to be fetched. */
  readonly content: Uint8Array | null | 'unknown';
}

/** Blocks on their way. */
interface Fetch {
  readonly first: number;
  readonly count: number;
  /** What was being written during the fetch, in the order it was accepted. */
  readonly changes: Change[];
  readonly done: Promise<void>;
}

/** Blocks thrown out last that are remembered, see `noticeThrashing`. */
const REMEMBERED = 64;
/** How often the bound may double over what was asked for. */
const MAX_GROWTH = 8;

/**
 * The blocks of something remote that were asked for last. Reading is synchronous: what is not there is told by `NotLoaded`, which fetches
 * it. Memory is bounded by `capacity`, what is being fetched, and - for an operation that needs more than that at once - eight times
 * `capacity`.
 */
export class BlockCache {
  readonly blockSize: number;
  private readonly fetcher: RangeFetcher;
  private readonly capacity: number;
  private readonly maxFetch: number;
  private readonly readAhead: ReadAhead;
  /** By index, least recently used first. */
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly fetches = new Map<number, Fetch>();
  /** Loads whose caller has not run again yet: their blocks stay. */
  private readonly pins = new Map<number, number>();
  private readonly changes = new Set<Change>();
  private readonly evicted = new Set<number>();
  private readonly closing = new AbortController();
  private limit: number;
  private calm = 0;
  /** Why nothing can be read any more. */
  private broken: EngineError | null = null;

  constructor(fetcher: RangeFetcher, options: BlockCacheOptions = {}) {
    const { blockSize = 64 * 1024, capacity = 32 * 1024 * 1024, maxFetch = 1024 * 1024, readAhead = 4 * 1024 * 1024 } = options;
    this.fetcher = fetcher;
    this.blockSize = blockSize;
    this.capacity = Math.max(4, Math.floor(capacity / blockSize));
    this.limit = this.capacity;
    this.maxFetch = Math.max(1, Math.floor(maxFetch / blockSize));
    this.readAhead = new ReadAhead(Math.min(Math.floor(readAhead / blockSize), Math.floor(this.capacity / 4)));
  }

  /** Bytes in memory. */
  get bytes(): number {
    return this.blocks.size * this.blockSize;
  }

  /**
   * Reads what is there of `target`; less than its length only at the end.
   * @throws NotLoaded; EngineError when the file was found to have changed
   */
  read(target: Uint8Array, offset: number): number {
    if (this.broken) {
      throw this.broken;
    }
    const end = Math.min(offset + target.length, this.fetcher.size);
    if (end <= offset) {
      return 0;
    }
    const first = Math.floor(offset / this.blockSize);
    const last = Math.floor((end - 1) / this.blockSize);
    for (let index = first; index <= last; index++) {
      // Before anything is copied: whoever has to come again finds the buffer as it was.
      if (!this.blocks.has(index)) {
        throw new NotLoaded(() => this.load(first, last));
      }
    }
    for (let index = first; index <= last; index++) {
      const block = this.blocks.get(index)!;
      this.touch(index, block);
      const start = index * this.blockSize;
      const from = Math.max(offset, start);
      target.set(block.subarray(from - start, Math.min(end - start, block.length)), from - offset);
    }
    this.fetchAhead(this.readAhead.read(first, last));
    return end - offset;
  }

  /** From now on reads see the change. Every `begin` has its `end`. */
  begin(change: Change): void {
    this.changes.add(change);
    this.underWay(change).forEach((fetch) => fetch.changes.push(change));
    this.apply(change);
  }

  /** @param known whether the change happened; else nobody knows what the range holds, and it is fetched anew */
  end(change: Change, known: boolean): void {
    this.changes.delete(change);
    const { content } = change;
    if (!known || content === 'unknown') {
      const unknown: Change = { ...change, content: 'unknown' };
      this.apply(unknown);
      this.underWay(unknown).forEach((fetch) => fetch.changes.push(unknown));
      return;
    }
    // The bytes are the caller's again, who may put others into the same buffer.
    const fetches = this.underWay(change).filter((fetch) => fetch.changes.includes(change));
    if (fetches.length > 0 && content) {
      const kept: Change = { ...change, content: new Uint8Array(content) };
      fetches.forEach((fetch) => fetch.changes.splice(fetch.changes.indexOf(change), 1, kept));
    }
  }

  /** Ends all fetches; nothing is read any more. */
  close(): void {
    this.broken ??= cancelled();
    this.closing.abort();
    this.blocks.clear();
  }

  private async load(first: number, last: number): Promise<void> {
    this.noticeThrashing(first, last);
    const ahead = this.readAhead.miss(first, last);
    for (let index = first; index <= last; index++) {
      this.pins.set(index, (this.pins.get(index) ?? 0) + 1);
    }
    try {
      const needed = this.fetchMissing(first, last);
      this.fetchAhead(ahead);
      await Promise.all(needed);
    } finally {
      // Whoever waits runs again in this turn of the event loop, and must find all of it.
      setImmediate(() => this.unpin(first, last));
    }
  }

  private unpin(first: number, last: number): void {
    for (let index = first; index <= last; index++) {
      const pins = (this.pins.get(index) ?? 0) - 1;
      if (pins > 0) {
        this.pins.set(index, pins);
      } else {
        this.pins.delete(index);
      }
    }
    this.evict();
  }

  private fetchAhead(ahead: { readonly first: number; readonly count: number } | null): void {
    const end = Math.ceil(this.fetcher.size / this.blockSize);
    if (!ahead || ahead.first >= end || this.broken) {
      return;
    }
    for (const done of this.fetchMissing(ahead.first, Math.min(end, ahead.first + ahead.count) - 1)) {
      // Nobody waits for it; whoever needs it asks again and hears of the failure.
      done.catch(() => undefined);
    }
  }

  /** Starts to fetch what is neither there nor on its way; returns what to wait for. */
  private fetchMissing(first: number, last: number): Promise<void>[] {
    const waits = new Set<Promise<void>>();
    let index = first;
    while (index <= last) {
      const underWay = this.fetches.get(index);
      if (underWay) {
        waits.add(underWay.done);
      }
      if (underWay || this.blocks.has(index)) {
        index++;
        continue;
      }
      let count = 1;
      while (count < this.maxFetch && index + count <= last && !this.blocks.has(index + count) && !this.fetches.has(index + count)) {
        count++;
      }
      waits.add(this.startFetch(index, count));
      index += count;
    }
    return [...waits];
  }

  private startFetch(first: number, count: number): Promise<void> {
    const offset = first * this.blockSize;
    const length = Math.min(count * this.blockSize, this.fetcher.size - offset);
    const changes: Change[] = [];
    const done = this.bring(offset, length).then(
      (bytes) => {
        this.forget(first, count);
        this.arrived(first, bytes, changes);
      },
      (error: unknown) => {
        this.forget(first, count);
        if (error instanceof EngineError && error.code === 'network.changed') {
          this.broken ??= error;
          this.blocks.clear();
        }
        throw error;
      },
    );
    const fetch: Fetch = { first, count, changes, done };
    changes.push(...[...this.changes].filter((change) => this.overlaps(fetch, change)));
    for (let index = first; index < first + count; index++) {
      this.fetches.set(index, fetch);
    }
    return done;
  }

  private async bring(offset: number, length: number): Promise<Uint8Array> {
    if (this.broken) {
      throw this.broken;
    }
    const bytes = await this.fetcher.fetch(offset, length, this.closing.signal);
    if (bytes.length !== length) {
      throw networkFailed(this.fetcher.name, `${bytes.length} bytes came at offset ${offset} instead of ${length}.`);
    }
    return bytes;
  }

  private arrived(first: number, bytes: Uint8Array, changes: readonly Change[]): void {
    if (this.broken) {
      return;
    }
    for (let start = 0; start < bytes.length; start += this.blockSize) {
      // A copy of its own: a view would keep the whole fetch in memory for one of its blocks.
      this.blocks.set(first + start / this.blockSize, new Uint8Array(bytes.subarray(start, start + this.blockSize)));
    }
    // To these blocks alone: the others have them, and perhaps later ones.
    const end = first + Math.ceil(bytes.length / this.blockSize);
    changes.forEach((change) => this.apply(change, first, end));
    this.evict();
  }

  private forget(first: number, count: number): void {
    for (let index = first; index < first + count; index++) {
      this.fetches.delete(index);
    }
  }

  /** Brings the blocks `from` .. `to` - 1, as far as they are there, to the changed state. */
  private apply({ offset, length, content }: Change, from = 0, to = Infinity): void {
    const end = offset + length;
    const first = Math.max(from, Math.floor(offset / this.blockSize));
    const behind = Math.min(to, Math.ceil(end / this.blockSize));
    const indices =
      behind - first < this.blocks.size
        ? Array.from({ length: Math.max(0, behind - first) }, (_, index) => first + index)
        : [...this.blocks.keys()].filter((index) => index >= first && index < behind);
    for (const index of indices) {
      const block = this.blocks.get(index);
      if (!block) {
        continue;
      }
      if (content === 'unknown') {
        this.blocks.delete(index);
        continue;
      }
      const start = index * this.blockSize;
      const changedFrom = Math.max(offset, start);
      const changedTo = Math.min(end, start + block.length);
      if (content === null) {
        block.fill(0, changedFrom - start, changedTo - start);
      } else {
        block.set(content.subarray(changedFrom - offset, changedTo - offset), changedFrom - start);
      }
    }
  }

  /** The fetches of blocks that a change is about. */
  private underWay(change: Change): readonly Fetch[] {
    return [...new Set(this.fetches.values())].filter((fetch) => this.overlaps(fetch, change));
  }

  private overlaps({ first, count }: Pick<Fetch, 'first' | 'count'>, { offset, length }: Change): boolean {
    return first * this.blockSize < offset + length && offset < (first + count) * this.blockSize;
  }

  private touch(index: number, block: Uint8Array): void {
    this.blocks.delete(index);
    this.blocks.set(index, block);
  }

  private evict(): void {
    if (this.blocks.size <= this.limit) {
      return;
    }
    for (const index of this.blocks.keys()) {
      if (this.pins.has(index)) {
        continue;
      }
      this.blocks.delete(index);
      this.evicted.add(index);
      if (this.blocks.size <= this.limit) {
        break;
      }
    }
    for (const index of this.evicted) {
      if (this.evicted.size <= REMEMBERED) {
        break;
      }
      this.evicted.delete(index);
    }
  }

  /**
   * An operation that reads more than is kept would throw out its own blocks and run again for ever. That shows when the block that was
   * thrown out last, the least recently used of all, is asked for next: then more is kept, until it has been calm for a while.
   */
  private noticeThrashing(first: number, last: number): void {
    let thrashing = false;
    for (let index = first; index <= last; index++) {
      thrashing = this.evicted.delete(index) || thrashing;
    }
    if (thrashing) {
      this.limit = Math.min(this.capacity * MAX_GROWTH, this.limit + Math.max(1, this.capacity >> 2));
      this.calm = 0;
    } else if (++this.calm > this.limit) {
      this.limit = this.capacity;
      this.calm = 0;
    }
  }
}
