import { corruptImage, EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import type { Qcow2Metadata } from '../metadata';
import { LIMITS } from '../structures';
import type { HeaderFields } from './headerFields';
import { fullImage, RefcountTable, type HostRange, type TableEntryWrite, type TableMove } from './refcountTable';
import { REGION, regionTitle, type Regions } from './regions';
import { SliceCache, type Slice } from './slices';
import { load, Turn, type Steps } from './steps';
import { refcountAt, setRefcount } from './words';
import { zeroOut } from './zeroOut';

export interface RefcountEvents extends TableMove {
  /** A cluster's refcount became 0, or is about to. */
  readonly onFree: (cluster: number) => void;
}

/**
 * The refcounts of an image: in memory they are what they will be when everything is written. Whoever takes clusters finds them counted at
 * once; whoever gives clusters up does so when nothing on the disk names them any more (see `MetadataOrder`).
 */
export class Refcounts {
  readonly slices: SliceCache;
  readonly max: number;
  /** Set when something was written that must be on the disk before entries that lead to it. */
  barrier = false;
  private readonly storage: Storage;
  private readonly regions: Regions;
  private readonly clusterSize: number;
  private readonly bits: number;
  private readonly blockEntries: number;
  private readonly turn = new Turn();
  private readonly table: RefcountTable;
  /** Below this cluster none is free. */
  private freeIndex = 0;
  private readonly events: RefcountEvents;

  constructor(
    storage: Storage,
    metadata: Qcow2Metadata,
    header: HeaderFields,
    regions: Regions,
    cacheBytes: number,
    events: RefcountEvents,
  ) {
    const { clusterSize, refcountBits, refcountBlockEntries } = metadata;
    this.storage = storage;
    this.regions = regions;
    this.events = events;
    this.clusterSize = clusterSize;
    this.bits = refcountBits;
    this.blockEntries = refcountBlockEntries;
    this.max = refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1;
    this.slices = new SliceCache(storage, clusterSize, cacheBytes);
    this.table = new RefcountTable(storage, metadata, header, regions);
  }

  /** Where the refcount table lies. */
  get tablePlace(): HostRange {
    return this.table.place;
  }

  /** Entries of the refcount table that are to be written. */
  takeEntries(): readonly TableEntryWrite[] {
    return this.table.takeEntries();
  }

  putBackEntries(entries: readonly TableEntryWrite[]): void {
    this.table.putBackEntries(entries);
  }

  /** @throws EngineError `image.corrupt` where the refcount table contradicts itself */
  requireConsistent(): void {
    this.table.requireConsistent();
  }

  /** @throws EngineError `image.corrupt`, `file.io`; NotLoaded */
  get(cluster: number): number {
    const block = Math.floor(cluster / this.blockEntries);
    const offset = this.table.blockOffset(block);
    if (offset === 0) {
      return 0;
    }
    return this.read(this.sliceOf(block, offset, cluster), cluster);
  }

  /**
   * Changes the refcounts of clusters that have a refcount block. All of them or, where one does not fit, none.
   * @throws EngineError `image.corrupt` where a refcount would get below 0, `request.unsupported` where it would not fit; NotLoaded
   */
  change(first: number, count: number, delta: number): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const next = this.get(cluster) + delta;
      if (next < 0) {
        throw this.corrupt('refcount block', this.placeOf(cluster), `Cluster ${cluster} is given up more often than it is counted.`);
      }
      if (delta > 0 && this.missingBlock(cluster, 1) >= 0) {
        throw this.corrupt('refcount table entry', this.placeOf(cluster), `Cluster ${cluster} is in use and has no refcount.`);
      }
      if (next > this.max) {
        throw new EngineError(
          'request.unsupported',
          `${this.storage.name}: The refcount of cluster ${cluster} would not fit ${this.bits} bits.`,
          {
            file: this.storage.name,
            structure: 'refcount block',
            hostOffset: cluster * this.clusterSize,
          },
        );
      }
    }
    for (let cluster = first; cluster < first + count; cluster++) {
      const block = Math.floor(cluster / this.blockEntries);
      const slice = this.sliceOf(block, this.table.blockOffset(block), cluster);
      const next = this.read(slice, cluster) + delta;
      this.write(slice, cluster, next);
      if (next === 0) {
        this.freeIndex = Math.min(this.freeIndex, cluster);
        this.events.onFree(cluster);
      }
    }
  }

  /** Where a refcount lies in the file: its first byte, or the table's entry where there is no block for it. */
  private placeOf(cluster: number): number {
    const block = Math.floor(cluster / this.blockEntries);
    const offset = this.table.blockOffset(block);
    const within = Math.floor(((cluster - block * this.blockEntries) * this.bits) / 8);
    return offset === 0 ? this.table.entryOffset(block) : offset + within;
  }

  /**
   * Gives up clusters that were taken for what failed then. Where that fails too they stay counted for nobody, which a check mends: the
   * first failure is what is told.
   */
  *giveBack(first: number, count: number): Steps<void> {
    try {
      yield* load(() => {
        this.change(first, count, -1);
      });
    } catch (error) {
      if (!(error instanceof EngineError)) {
        throw error;
      }
    }
  }

  /** A cluster that is counted once is about to be given up: from now on nobody shares it. */
  retire(cluster: number): void {
    this.events.onFree(cluster);
  }

  /** Sets one refcount, whatever it was; makes its block where there is none. For counting anew. */
  *set(cluster: number, refcount: number): Steps<void> {
    yield* this.turn.take(() => this.setLocked(cluster, refcount));
  }

  private *setLocked(cluster: number, refcount: number): Steps<void> {
    while (this.missingBlock(cluster, 1) >= 0) {
      // At the end of the file: what counts as free below may be in use while refcounts are not right.
      this.freeIndex = Math.max(this.freeIndex, Math.ceil(this.storage.size / this.clusterSize));
      const block = this.missingBlock(cluster, 1);
      if (block >= this.table.length) {
        yield* this.growTable(block);
      } else {
        const free = yield* load(() => this.findFree(1));
        const own = Math.floor(free / this.blockEntries);
        yield* own === block || this.missingBlock(free, 1) < 0
          ? this.addBlock(block, free)
          : own >= this.table.length
            ? this.growTable(own)
            : this.addBlock(own, free);
      }
    }
    yield* load(() => {
      if (!Number.isSafeInteger(this.get(cluster))) {
        // Too large to count from.
        const block = Math.floor(cluster / this.blockEntries);
        this.write(this.sliceOf(block, this.table.blockOffset(block), cluster), cluster, 0);
      }
      this.change(cluster, 1, refcount - this.get(cluster));
    });
  }

  /**
   * Takes clusters that lie one after the other, and counts them once.
   * @returns byte offset of the first
   * @throws EngineError `file.full`, `file.io`, `image.corrupt`
   */
  *allocate(count: number): Steps<number> {
    return yield* this.turn.take(() => this.allocateLocked(count));
  }

  /** The same at one place, as many as are free there; perhaps none. */
  *allocateAt(hostOffset: number, count: number): Steps<number> {
    return yield* this.turn.take(() => this.allocateAtLocked(hostOffset / this.clusterSize, count));
  }

  private *allocateAtLocked(first: number, count: number): Steps<number> {
    const free = yield* load(() => {
      let n = 0;
      while (n < count && this.get(first + n) === 0) {
        n++;
      }
      return n;
    });
    // Where there is no refcount block yet there may be none for a part of them: it is found the usual way then.
    if (free === 0 || this.missingBlock(first, free) >= 0) {
      return 0;
    }
    yield* this.claim(first, free);
    return free;
  }

  private *allocateLocked(count: number): Steps<number> {
    this.requireConsistent();
    for (;;) {
      const first = yield* load(() => this.findFree(count));
      const missing = this.missingBlock(first, count);
      if (missing < 0) {
        yield* this.claim(first, count);
        return first * this.clusterSize;
      }
      if (missing >= this.table.length) {
        yield* this.growTable(missing);
      } else {
        yield* this.addBlock(missing, first);
      }
    }
  }

  private *claim(first: number, count: number): Steps<void> {
    const kinds = this.regions.at(first * this.clusterSize, count * this.clusterSize);
    if (kinds !== 0) {
      throw this.corrupt(regionTitle(kinds), first * this.clusterSize, 'Its cluster is counted as free.');
    }
    yield* load(() => {
      this.change(first, count, 1);
    });
    if (first === this.freeIndex) {
      this.freeIndex = first + count;
    }
    this.barrier = true;
  }

  /** The first of `count` free clusters in a row. Has no effect but on where the next search begins. */
  private findFree(count: number): number {
    let first = this.freeIndex;
    while (this.get(first) !== 0) {
      first++;
    }
    this.freeIndex = first;
    let run = 1;
    while (run < count) {
      if (this.get(first + run) === 0) {
        run++;
      } else {
        first += run + 1;
        run = 0;
      }
    }
    if ((first + count) * this.clusterSize > Math.min(LIMITS.maxHostOffset, Number.MAX_SAFE_INTEGER)) {
      throw fullImage(this.storage.name);
    }
    return first;
  }

  /** The first refcount block that clusters need and that is not there; -1 when all are. */
  private missingBlock(first: number, count: number): number {
    const last = Math.floor((first + count - 1) / this.blockEntries);
    for (let block = Math.floor(first / this.blockEntries); block <= last; block++) {
      if (this.table.blockOffset(block) === 0) {
        return block;
      }
    }
    return -1;
  }

  /** Makes a refcount block in a free cluster; it may be the one that counts itself. */
  private *addBlock(block: number, free: number): Steps<void> {
    const own = Math.floor(free / this.blockEntries);
    // A block that counts others goes where it can be counted already, or counts itself.
    const cluster = own === block || this.missingBlock(free, 1) < 0 ? free : block * this.blockEntries;
    const hostOffset = cluster * this.clusterSize;
    const kinds = this.regions.at(hostOffset, this.clusterSize);
    if (kinds !== 0) {
      throw this.corrupt(regionTitle(kinds), hostOffset, 'Its cluster is counted as free.');
    }
    yield* zeroOut(this.storage, hostOffset, this.clusterSize);
    this.slices.forget(hostOffset, this.clusterSize);
    this.table.add(block, hostOffset);
    try {
      yield* load(() => {
        this.change(cluster, 1, 1);
      });
    } catch (error) {
      this.table.forget(block);
      throw error;
    }
    this.regions.add(REGION.refcountBlock, hostOffset);
    this.barrier = true;
  }

  /** Everything in memory is forgotten: someone else has rewritten the refcounts. `regions` was cleared before. */
  reload(place: HostRange): void {
    this.slices.clear();
    this.freeIndex = 0;
    this.table.reload(place);
  }

  private *growTable(needed: number): Steps<void> {
    const blocks = yield* this.table.grow(needed, this.events);
    this.slices.forget(blocks.hostOffset, blocks.length);
  }

  private sliceOf(block: number, offset: number, cluster: number): Slice {
    if (offset % this.clusterSize !== 0 || offset + this.clusterSize > Number.MAX_SAFE_INTEGER) {
      const what = offset % this.clusterSize !== 0 ? 'is not aligned to a cluster' : 'lies past 2^53-1';
      const place = this.table.entryOffset(block);
      throw this.corrupt('refcount table entry', place, `The refcount block offset 0x${offset.toString(16)} ${what}.`);
    }
    const byte = Math.floor(((cluster - block * this.blockEntries) * this.bits) / 8);
    const { pieceBytes } = this.slices;
    return this.slices.slice(offset + Math.floor(byte / pieceBytes) * pieceBytes);
  }

  private inSlice(cluster: number): number {
    return cluster % ((this.slices.pieceBytes * 8) / this.bits);
  }

  private read({ view }: Slice, cluster: number): number {
    return refcountAt(view, this.inSlice(cluster), this.bits);
  }

  private write(slice: Slice, cluster: number, value: number): void {
    const index = this.inSlice(cluster);
    setRefcount(slice.view, index, this.bits, value);
    const byte = Math.floor((index * this.bits) / 8);
    this.slices.touch(slice, byte, byte + Math.max(1, this.bits / 8));
  }

  private corrupt(structure: string, hostOffset: number, what: string): EngineError {
    return corruptImage(this.storage.name, structure, hostOffset, what);
  }
}
