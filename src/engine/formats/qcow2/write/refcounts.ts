import { corruptImage, EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import { readPadded } from '../../../io/source';
import type { Qcow2Metadata } from '../metadata';
import { LIMITS } from '../structures';
import type { HeaderFields } from './headerFields';
import { REGION, regionTitle, type Regions } from './regions';
import { SliceCache, type Slice } from './slices';
import { load, Turn, wait, type Steps } from './steps';

const ENTRY_BYTES = 8;
const OFFSET_LOW = 0xfffffe00;
const ZEROES = new Uint8Array(64 * 1024);

/** A refcount table entry that is to be written. */
export interface TableEntryWrite {
  readonly block: number;
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

export interface RefcountEvents {
  /** A cluster's refcount became 0, or is about to. */
  readonly onFree: (cluster: number) => void;
  /** The clusters of the old refcount table can be given up, when the header on the disk does not lead to it any more. */
  readonly onTableMoved: (hostOffset: number, length: number) => void;
  /** Does the work right after a commit, and no commit begins before it has ended. */
  readonly alone: (work: () => Steps<void>) => Steps<void>;
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
  private readonly header: HeaderFields;
  private readonly regions: Regions;
  private readonly clusterSize: number;
  private readonly bits: number;
  private readonly blockEntries: number;
  private readonly turn = new Turn();
  private table: DataView;
  private tableOffset: number;
  private dirtyEntries = new Set<number>();
  /** Two entries of the table lead to one block: no refcount can be believed. */
  private contradiction: EngineError | null = null;
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
    const { clusterSize, refcountBits, refcountBlockEntries, refcountTableOffset, refcountTableClusters } = metadata;
    this.storage = storage;
    this.header = header;
    this.regions = regions;
    this.events = events;
    this.clusterSize = clusterSize;
    this.bits = refcountBits;
    this.blockEntries = refcountBlockEntries;
    this.max = refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1;
    this.slices = new SliceCache(storage, clusterSize, cacheBytes);
    this.tableOffset = refcountTableOffset;
    this.table = new DataView(readPadded(storage, refcountTableOffset, refcountTableClusters * clusterSize).buffer);
    this.register();
  }

  private register(): void {
    this.contradiction = null;
    this.regions.add(REGION.refcountTable, this.tableOffset, this.table.byteLength);
    for (let block = 0; block < this.tableEntries; block++) {
      const offset = this.blockOffset(block);
      if (offset === 0 || offset % this.clusterSize !== 0) {
        continue;
      }
      if ((this.regions.at(offset, this.clusterSize) & REGION.refcountBlock) !== 0) {
        const place = this.tableOffset + block * ENTRY_BYTES;
        this.contradiction ??= this.corrupt('refcount table entry', place, 'Another entry leads to the same refcount block.');
      }
      this.regions.add(REGION.refcountBlock, offset);
    }
  }

  /** @throws EngineError `image.corrupt` */
  requireConsistent(): void {
    if (this.contradiction) {
      throw this.contradiction;
    }
  }

  private get tableEntries(): number {
    return this.table.byteLength / ENTRY_BYTES;
  }

  /** Where the refcount table lies, and its length in bytes. */
  get tablePlace(): { readonly hostOffset: number; readonly length: number } {
    return { hostOffset: this.tableOffset, length: this.table.byteLength };
  }

  /** @throws EngineError `image.corrupt`, `file.io`; NotLoaded */
  get(cluster: number): number {
    const block = Math.floor(cluster / this.blockEntries);
    const offset = block < this.tableEntries ? this.blockOffset(block) : 0;
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
      const slice = this.sliceOf(block, this.blockOffset(block), cluster);
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
    const offset = block < this.tableEntries ? this.blockOffset(block) : 0;
    const within = Math.floor(((cluster - block * this.blockEntries) * this.bits) / 8);
    return offset === 0 ? this.tableOffset + block * ENTRY_BYTES : offset + within;
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
      if (block >= this.tableEntries) {
        yield* this.growTable(block);
      } else {
        const free = yield* load(() => this.findFree(1));
        const own = Math.floor(free / this.blockEntries);
        yield* own === block || this.missingBlock(free, 1) < 0
          ? this.addBlock(block, free)
          : own >= this.tableEntries
            ? this.growTable(own)
            : this.addBlock(own, free);
      }
    }
    yield* load(() => {
      if (!Number.isSafeInteger(this.get(cluster))) {
        // Too large to count from.
        const block = Math.floor(cluster / this.blockEntries);
        this.write(this.sliceOf(block, this.blockOffset(block), cluster), cluster, 0);
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
      if (missing >= this.tableEntries) {
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
      throw this.full();
    }
    return first;
  }

  /** The first refcount block that clusters need and that is not there; -1 when all are. */
  private missingBlock(first: number, count: number): number {
    const last = Math.floor((first + count - 1) / this.blockEntries);
    for (let block = Math.floor(first / this.blockEntries); block <= last; block++) {
      if (block >= this.tableEntries || this.blockOffset(block) === 0) {
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
    this.setEntry(block, hostOffset);
    try {
      yield* load(() => {
        this.change(cluster, 1, 1);
      });
    } catch (error) {
      this.setEntry(block, 0);
      this.dirtyEntries.delete(block);
      throw error;
    }
    this.regions.add(REGION.refcountBlock, hostOffset);
    this.barrier = true;
  }

  /**
   * Moves the refcount table to where it can be larger, behind everything that the old one can count, together with the blocks that count
   * the new place. The header leads to it only when it is on the disk.
   */
  private *growTable(needed: number): Steps<void> {
    const { clusterSize, blockEntries } = this;
    const start = Math.max(this.tableEntries, needed) * blockEntries;
    const wanted = Math.ceil((needed + 1) * 1.5);
    let blocks = 1;
    let tableClusters = 1;
    for (;;) {
      const total = blocks + tableClusters;
      const lastBlock = Math.floor((start + total - 1) / blockEntries);
      const nextBlocks = lastBlock - Math.floor(start / blockEntries) + 1;
      const nextTable = Math.ceil((Math.max(wanted, lastBlock + 1) * ENTRY_BYTES) / clusterSize);
      if (nextBlocks === blocks && nextTable === tableClusters) {
        break;
      }
      blocks = Math.max(blocks, nextBlocks);
      tableClusters = Math.max(tableClusters, nextTable);
    }
    if (tableClusters * clusterSize > LIMITS.maxRefcountTableBytes) {
      throw this.full();
    }
    const place = start * clusterSize;
    const kinds = this.regions.at(place, (tableClusters + blocks) * clusterSize);
    if (kinds !== 0) {
      throw this.corrupt(regionTitle(kinds), place, 'Its clusters are counted as free.');
    }
    const grown = new DataView(new ArrayBuffer(tableClusters * clusterSize));
    const firstBlock = Math.floor(start / blockEntries);
    const blocksOffset = place + tableClusters * clusterSize;
    const contents = new Uint8Array(blocks * clusterSize);
    for (let cluster = start; cluster < start + tableClusters + blocks; cluster++) {
      const block = Math.floor(cluster / blockEntries) - firstBlock;
      const view = new DataView(contents.buffer, block * clusterSize, clusterSize);
      setRefcount(view, cluster % blockEntries, this.bits, 1);
    }
    const old = { hostOffset: this.tableOffset, length: this.table.byteLength };
    // Between a commit and the next nothing is known here that is not in the old table on the disk.
    yield* this.events.alone(() => this.writeTable(grown, place, contents, blocksOffset, firstBlock));
    this.table = grown;
    this.tableOffset = place;
    this.slices.forget(blocksOffset, contents.length);
    this.regions.remove(REGION.refcountTable, old.hostOffset, old.length);
    this.regions.add(REGION.refcountTable, place, grown.byteLength);
    this.regions.add(REGION.refcountBlock, blocksOffset, contents.length);
    // Given up with the next commit, after a flush: until then the header on the disk may lead to it.
    this.events.onTableMoved(old.hostOffset, old.length);
  }

  private *writeTable(grown: DataView, place: number, blocks: Uint8Array, blocksOffset: number, firstBlock: number): Steps<void> {
    new Uint8Array(grown.buffer).set(new Uint8Array(this.table.buffer));
    for (let i = 0; i < blocks.length / this.clusterSize; i++) {
      setWord(grown, firstBlock + i, blocksOffset + i * this.clusterSize);
    }
    yield* wait(this.storage.write(blocks, blocksOffset));
    yield* wait(this.storage.write(new Uint8Array(grown.buffer), place));
    yield this.storage.flush();
    yield* this.header.update({ refcount_table_offset: place, refcount_table_clusters: grown.byteLength / this.clusterSize });
  }

  /** Entries of the refcount table that are to be written, as bytes by place. */
  takeEntries(): readonly TableEntryWrite[] {
    const taken = [...this.dirtyEntries].map((block) => ({
      block,
      hostOffset: this.tableOffset + block * ENTRY_BYTES,
      bytes: new Uint8Array(this.table.buffer.slice(block * ENTRY_BYTES, (block + 1) * ENTRY_BYTES)),
    }));
    this.dirtyEntries = new Set();
    return taken;
  }

  putBackEntries(entries: readonly TableEntryWrite[]): void {
    for (const { block } of entries) {
      this.dirtyEntries.add(block);
    }
  }

  /** Everything in memory is forgotten: someone else has rewritten the refcounts. `regions` was cleared before. */
  reload(place: { readonly hostOffset: number; readonly length: number }): void {
    this.slices.clear();
    this.tableOffset = place.hostOffset;
    this.table = new DataView(readPadded(this.storage, place.hostOffset, place.length).buffer);
    this.freeIndex = 0;
    this.register();
  }

  private sliceOf(block: number, offset: number, cluster: number): Slice {
    if (offset % this.clusterSize !== 0 || offset + this.clusterSize > Number.MAX_SAFE_INTEGER) {
      const what = offset % this.clusterSize !== 0 ? 'is not aligned to a cluster' : 'lies past 2^53-1';
      const place = this.tableOffset + block * ENTRY_BYTES;
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

  private blockOffset(block: number): number {
    return this.table.getUint32(block * ENTRY_BYTES) * 2 ** 32 + ((this.table.getUint32(block * ENTRY_BYTES + 4) & OFFSET_LOW) >>> 0);
  }

  private setEntry(block: number, hostOffset: number): void {
    setWord(this.table, block, hostOffset);
    this.dirtyEntries.add(block);
  }

  private corrupt(structure: string, hostOffset: number, what: string): EngineError {
    return corruptImage(this.storage.name, structure, hostOffset, what);
  }

  private full(): EngineError {
    return new EngineError('file.full', `${this.storage.name}: The image cannot count more clusters.`, { file: this.storage.name });
  }
}

/** Makes a range of the image file read as zero, whatever was there. */
export function* zeroOut(storage: Storage, hostOffset: number, length: number): Steps<void> {
  if (length > ZEROES.length) {
    yield* wait(storage.writeZeroes(hostOffset, length));
  } else {
    yield* wait(storage.write(ZEROES.subarray(0, length), hostOffset));
  }
}

/** The refcount of an entry; widths below 8 bits are packed least significant first. Past 2^53 it is not exact, and too large anyway. */
export function refcountAt(view: DataView, index: number, bits: number): number {
  switch (bits) {
    case 16:
      return view.getUint16(index * 2);
    case 8:
      return view.getUint8(index);
    case 32:
      return view.getUint32(index * 4);
    case 64:
      return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
    default:
      return (view.getUint8((index * bits) >>> 3) >>> ((index * bits) & 7)) & (2 ** bits - 1);
  }
}

export function setRefcount(view: DataView, index: number, bits: number, value: number): void {
  switch (bits) {
    case 16:
      view.setUint16(index * 2, value);
      break;
    case 8:
      view.setUint8(index, value);
      break;
    case 32:
      view.setUint32(index * 4, value);
      break;
    case 64:
      setWord(view, index, value);
      break;
    default: {
      const shift = (index * bits) & 7;
      const byte = (index * bits) >>> 3;
      const others = view.getUint8(byte) & ~((2 ** bits - 1) << shift);
      view.setUint8(byte, others | (value << shift));
    }
  }
}

export function setWord(view: DataView, index: number, value: number): void {
  view.setUint32(index * 8, Math.floor(value / 2 ** 32));
  view.setUint32(index * 8 + 4, value >>> 0);
}
