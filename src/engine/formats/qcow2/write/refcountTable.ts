import { corruptImage, EngineError } from '../../../errors';
import { readPadded } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import type { Qcow2Metadata } from '../metadata';
import { LIMITS } from '../structures';
import type { HeaderFields } from './headerFields';
import { REGION, regionTitle, type Regions } from './regions';
import { wait, type Steps } from './steps';
import { setRefcount, setWord } from './words';

const ENTRY_BYTES = 8;
const OFFSET_LOW = 0xfffffe00;

/** A refcount table entry that is to be written. */
export interface TableEntryWrite {
  readonly block: number;
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

/** A part of the file. */
export interface HostRange {
  readonly hostOffset: number;
  /** Bytes. */
  readonly length: number;
}

/** What a table that grows needs of others. */
export interface TableMove {
  /** The clusters of the old table can be given up, when the header on the disk does not lead to it any more. */
  readonly onTableMoved: (hostOffset: number, length: number) => void;
  /** Does the work right after a commit, and no commit begins before it has ended. */
  readonly alone: (work: () => Steps<void>) => Steps<void>;
}

/** The refcount table, all of it in memory: where the refcount blocks lie. */
export class RefcountTable {
  private readonly storage: Storage;
  private readonly header: HeaderFields;
  private readonly regions: Regions;
  private readonly clusterSize: number;
  private readonly bits: number;
  private readonly blockEntries: number;
  private table: DataView;
  private tableOffset: number;
  private dirtyEntries = new Set<number>();
  /** Two entries lead to one block: no refcount can be believed. */
  private contradiction: EngineError | null = null;

  /** @throws EngineError `file.io`; NotLoaded */
  constructor(storage: Storage, metadata: Qcow2Metadata, header: HeaderFields, regions: Regions) {
    const { clusterSize, refcountBits, refcountBlockEntries, refcountTableOffset, refcountTableClusters } = metadata;
    this.storage = storage;
    this.header = header;
    this.regions = regions;
    this.clusterSize = clusterSize;
    this.bits = refcountBits;
    this.blockEntries = refcountBlockEntries;
    this.tableOffset = refcountTableOffset;
    this.table = new DataView(readPadded(storage, refcountTableOffset, refcountTableClusters * clusterSize).buffer);
    this.register();
  }

  /** Refcount blocks that the table has room for. */
  get length(): number {
    return this.table.byteLength / ENTRY_BYTES;
  }

  get place(): HostRange {
    return { hostOffset: this.tableOffset, length: this.table.byteLength };
  }

  /** Where a refcount block lies; 0 where there is none, as beyond the end of the table. */
  blockOffset(block: number): number {
    const at = block * ENTRY_BYTES;
    return at < this.table.byteLength ? this.table.getUint32(at) * 2 ** 32 + ((this.table.getUint32(at + 4) & OFFSET_LOW) >>> 0) : 0;
  }

  /** Byte offset in the file of an entry. */
  entryOffset(block: number): number {
    return this.tableOffset + block * ENTRY_BYTES;
  }

  /** Leads to a new block that is written already. */
  add(block: number, hostOffset: number): void {
    setWord(this.table, block, hostOffset);
    this.dirtyEntries.add(block);
  }

  /** Takes `add` back. */
  forget(block: number): void {
    setWord(this.table, block, 0);
    this.dirtyEntries.delete(block);
  }

  /** @throws EngineError `image.corrupt` */
  requireConsistent(): void {
    if (this.contradiction) {
      throw this.contradiction;
    }
  }

  /** Entries that are to be written, as bytes by place. */
  takeEntries(): readonly TableEntryWrite[] {
    const taken = [...this.dirtyEntries].map((block) => ({
      block,
      hostOffset: this.entryOffset(block),
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

  /** Someone else has written the table; `regions` was cleared before. @throws EngineError `file.io`; NotLoaded */
  reload({ hostOffset, length }: HostRange): void {
    this.tableOffset = hostOffset;
    this.table = new DataView(readPadded(this.storage, hostOffset, length).buffer);
    this.register();
  }

  /**
   * Moves the table to where it can be longer, behind everything that the old one can count, together with the blocks that count the new
   * place. The header leads to it only when it is on the disk.
   * @param needed a block that it has no room for
   * @returns where the new blocks lie
   * @throws EngineError `file.full`, `file.io`, `image.corrupt`
   */
  *grow(needed: number, { alone, onTableMoved }: TableMove): Steps<HostRange> {
    const { clusterSize, blockEntries } = this;
    const start = Math.max(this.length, needed) * blockEntries;
    const { blocks, tableClusters } = this.planGrowth(start, Math.ceil((needed + 1) * 1.5));
    const place = start * clusterSize;
    const kinds = this.regions.at(place, (tableClusters + blocks) * clusterSize);
    if (kinds !== 0) {
      throw corruptImage(this.storage.name, regionTitle(kinds), place, 'Its clusters are counted as free.');
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
    const old = this.place;
    // Between a commit and the next nothing is known here that is not in the old table on the disk.
    yield* alone(() => this.writeGrown(grown, place, contents, blocksOffset, firstBlock));
    this.table = grown;
    this.tableOffset = place;
    this.regions.remove(REGION.refcountTable, old.hostOffset, old.length);
    this.regions.add(REGION.refcountTable, place, grown.byteLength);
    this.regions.add(REGION.refcountBlock, blocksOffset, contents.length);
    // Given up with the next commit, after a flush: until then the header on the disk may lead to it.
    onTableMoved(old.hostOffset, old.length);
    return { hostOffset: blocksOffset, length: contents.length };
  }

  /** How many clusters a longer table takes at cluster `start`, and how many blocks count it and themselves. @param wanted entries at least */
  private planGrowth(start: number, wanted: number): { readonly blocks: number; readonly tableClusters: number } {
    const { clusterSize, blockEntries } = this;
    let blocks = 1;
    let tableClusters = 1;
    for (;;) {
      const lastBlock = Math.floor((start + blocks + tableClusters - 1) / blockEntries);
      const nextBlocks = lastBlock - Math.floor(start / blockEntries) + 1;
      const nextTable = Math.ceil((Math.max(wanted, lastBlock + 1) * ENTRY_BYTES) / clusterSize);
      if (nextBlocks === blocks && nextTable === tableClusters) {
        break;
      }
      blocks = Math.max(blocks, nextBlocks);
      tableClusters = Math.max(tableClusters, nextTable);
    }
    if (tableClusters * clusterSize > LIMITS.maxRefcountTableBytes) {
      throw fullImage(this.storage.name);
    }
    return { blocks, tableClusters };
  }

  private *writeGrown(grown: DataView, place: number, blocks: Uint8Array, blocksOffset: number, firstBlock: number): Steps<void> {
    new Uint8Array(grown.buffer).set(new Uint8Array(this.table.buffer));
    for (let i = 0; i < blocks.length / this.clusterSize; i++) {
      setWord(grown, firstBlock + i, blocksOffset + i * this.clusterSize);
    }
    yield* wait(this.storage.write(blocks, blocksOffset));
    yield* wait(this.storage.write(new Uint8Array(grown.buffer), place));
    yield this.storage.flush();
    yield* this.header.update({ refcount_table_offset: place, refcount_table_clusters: grown.byteLength / this.clusterSize });
  }

  private register(): void {
    this.contradiction = null;
    this.regions.add(REGION.refcountTable, this.tableOffset, this.table.byteLength);
    for (let block = 0; block < this.length; block++) {
      const offset = this.blockOffset(block);
      if (offset === 0 || offset % this.clusterSize !== 0) {
        continue;
      }
      if ((this.regions.at(offset, this.clusterSize) & REGION.refcountBlock) !== 0) {
        const what = 'Another entry leads to the same refcount block.';
        this.contradiction ??= corruptImage(this.storage.name, 'refcount table entry', this.entryOffset(block), what);
      }
      this.regions.add(REGION.refcountBlock, offset);
    }
  }
}

export function fullImage(file: string): EngineError {
  return new EngineError('file.full', `${file}: The image cannot count more clusters.`, { file });
}
