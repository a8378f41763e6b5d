import { corruptImage, type EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import { readPadded } from '../../../io/source';
import type { Qcow2Metadata } from '../metadata';
import type { GuestTables } from '../clusterMap';
import type { MetadataOrder } from './order';
import type { Refcounts } from './refcounts';
import { REGION, type Regions } from './regions';
import { SliceCache, type Slice } from './slices';
import { load, Turn, wait, type Steps } from './steps';
import { setWord } from './words';
import { zeroOut } from './zeroOut';

const ENTRY_BYTES = 8;
const COPIED_HIGH = 0x80000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

/** An L1 entry that is to be written. */
export interface L1Write {
  readonly index: number;
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

/** The active L1 table, all of it, and slices of the L2 tables, as they will be when everything is written. */
export class ActiveTables implements GuestTables {
  readonly slices: SliceCache;
  readonly entriesPerSlice: number;
  private readonly storage: Storage;
  private readonly regions: Regions;
  private readonly refcounts: Refcounts;
  private readonly clusterSize: number;
  private readonly turn = new Turn();
  private l1: DataView;
  private l1Offset: number;
  private dirtyEntries = new Set<number>();
  /** Two entries lead to one table: what is changed for one is changed for the other. */
  private contradiction: EngineError | null = null;
  private order: Pick<MetadataOrder, 'free'> | null = null;

  constructor(storage: Storage, metadata: Qcow2Metadata, regions: Regions, refcounts: Refcounts, cacheBytes: number) {
    this.storage = storage;
    this.regions = regions;
    this.refcounts = refcounts;
    this.clusterSize = metadata.clusterSize;
    this.slices = new SliceCache(storage, metadata.clusterSize, cacheBytes);
    this.entriesPerSlice = this.slices.pieceBytes / metadata.l2EntryBytes;
    this.l1Offset = metadata.l1TableOffset;
    this.l1 = new DataView(readPadded(storage, metadata.l1TableOffset, metadata.l1Size * ENTRY_BYTES).buffer);
    this.register(true);
  }

  /** Where what is given up goes. */
  attach(order: Pick<MetadataOrder, 'free'>): void {
    this.order = order;
  }

  get l1Size(): number {
    return this.l1.byteLength / ENTRY_BYTES;
  }

  get l1TableOffset(): number {
    return this.l1Offset;
  }

  /** The L2 table's offset; 0 where there is none. */
  tableOffset(l1Index: number): number {
    if (l1Index >= this.l1Size) {
      return 0;
    }
    const at = l1Index * ENTRY_BYTES;
    return (this.l1.getUint32(at) & OFFSET_HIGH) * 2 ** 32 + ((this.l1.getUint32(at + 4) & OFFSET_LOW) >>> 0);
  }

  l1EntryOffset(l1Index: number): number {
    return this.l1Offset + l1Index * ENTRY_BYTES;
  }

  /** Whether only the active layer uses the table: its refcount is one. */
  isCopied(l1Index: number): boolean {
    return (this.l1.getUint32(l1Index * ENTRY_BYTES) & COPIED_HIGH) !== 0;
  }

  /** The active L1 table as it is in memory. */
  l1Bytes(): Uint8Array {
    return new Uint8Array(this.l1.buffer.slice(0));
  }

  /** @throws EngineError `image.corrupt` for a table that cannot be there; NotLoaded */
  slice(tableOffset: number, entry: number): Slice {
    return this.slices.slice(tableOffset + Math.floor(entry / this.entriesPerSlice) * this.slices.pieceBytes);
  }

  /** Sees to an L2 table that may be written in place. */
  *provide(l1Index: number): Steps<void> {
    if (this.tableOffset(l1Index) === 0 || !this.isCopied(l1Index)) {
      yield* this.turn.take(() => this.provideLocked(l1Index));
    }
  }

  private *provideLocked(l1Index: number): Steps<void> {
    const old = this.tableOffset(l1Index);
    if (old !== 0 && this.isCopied(l1Index)) {
      return;
    }
    if (old !== 0) {
      this.requireAligned(l1Index, old);
    }
    const { clusterSize, slices } = this;
    const hostOffset = yield* this.refcounts.allocate(1);
    try {
      slices.forget(hostOffset, clusterSize);
      if (old === 0) {
        yield* zeroOut(this.storage, hostOffset, clusterSize);
      } else {
        const copy = new Uint8Array(clusterSize);
        for (let at = 0; at < clusterSize; at += slices.pieceBytes) {
          copy.set(yield* load(() => slices.slice(old + at).bytes), at);
        }
        yield* wait(this.storage.write(copy, hostOffset));
      }
    } catch (error) {
      yield* this.refcounts.giveBack(hostOffset / clusterSize, 1);
      throw error;
    }
    this.refcounts.barrier = true;
    this.setEntry(l1Index, hostOffset, true);
    this.regions.add(REGION.activeL2, hostOffset);
    if (old !== 0) {
      this.order?.free(old, clusterSize, false, REGION.activeL2);
    }
  }

  /** Gives up the table of an L1 entry, whose clusters must have been given up before. */
  drop(l1Index: number): void {
    const old = this.tableOffset(l1Index);
    if (old !== 0) {
      this.requireAligned(l1Index, old);
      this.setEntry(l1Index, 0, false);
      this.slices.forget(old, this.clusterSize);
      this.order?.free(old, this.clusterSize, false, REGION.activeL2);
    }
  }

  /** Changes an entry; an L2 table that it led to is the caller's to give up. @param tableOffset 0 for none */
  setEntry(l1Index: number, tableOffset: number, copied: boolean): void {
    setWord(this.l1, l1Index, tableOffset);
    if (copied) {
      this.l1.setUint32(l1Index * ENTRY_BYTES, this.l1.getUint32(l1Index * ENTRY_BYTES) | COPIED_HIGH);
    }
    this.dirtyEntries.add(l1Index);
  }

  /** @throws EngineError `image.corrupt` */
  requireConsistent(): void {
    if (this.contradiction) {
      throw this.contradiction;
    }
  }

  takeEntries(): readonly L1Write[] {
    const taken = [...this.dirtyEntries]
      .sort((a, b) => a - b)
      .map((index) => ({
        index,
        hostOffset: this.l1EntryOffset(index),
        bytes: new Uint8Array(this.l1.buffer.slice(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES)),
      }));
    this.dirtyEntries = new Set();
    return taken;
  }

  putBackEntries(entries: readonly L1Write[]): void {
    for (const { index } of entries) {
      this.dirtyEntries.add(index);
    }
  }

  get changed(): boolean {
    return this.dirtyEntries.size > 0 || this.slices.changed;
  }

  /** Another table is the active one from now on; everything of the old one was written or given up. */
  replaceL1(hostOffset: number, table: Uint8Array): void {
    this.register(false);
    this.l1 = new DataView(table.buffer, table.byteOffset, table.byteLength);
    this.l1Offset = hostOffset;
    this.dirtyEntries = new Set();
    this.register(true);
  }

  /** Slices and flags in memory are forgotten; only after everything was written. */
  reload(metadata: Pick<Qcow2Metadata, 'l1TableOffset' | 'l1Size'>): void {
    this.slices.clear();
    this.replaceL1(metadata.l1TableOffset, readPadded(this.storage, metadata.l1TableOffset, metadata.l1Size * ENTRY_BYTES));
  }

  requireAligned(l1Index: number, tableOffset: number): void {
    if (tableOffset % this.clusterSize !== 0) {
      const what = `The L2 table offset 0x${tableOffset.toString(16)} is not aligned to a cluster.`;
      throw corruptImage(this.storage.name, 'L1 table entry', this.l1EntryOffset(l1Index), what);
    }
    if (tableOffset + this.clusterSize > Number.MAX_SAFE_INTEGER) {
      const what = `The L2 table offset 0x${tableOffset.toString(16)} lies past 2^53-1.`;
      throw corruptImage(this.storage.name, 'L1 table entry', this.l1EntryOffset(l1Index), what);
    }
  }

  private register(present: boolean): void {
    const { regions, l1 } = this;
    const change = (kind: number, hostOffset: number, length: number) => {
      if (present) {
        regions.add(kind, hostOffset, length);
      } else {
        regions.remove(kind, hostOffset, length);
      }
    };
    if (l1.byteLength > 0) {
      change(REGION.activeL1, this.l1Offset, l1.byteLength);
    }
    this.contradiction = null;
    for (let index = 0; index < this.l1Size; index++) {
      const table = this.tableOffset(index);
      if (table === 0 || table % this.clusterSize !== 0) {
        continue;
      }
      if (present && (regions.at(table, this.clusterSize) & REGION.activeL2) !== 0) {
        const what = 'Another entry leads to the same L2 table.';
        this.contradiction ??= corruptImage(this.storage.name, 'L1 table entry', this.l1EntryOffset(index), what);
      }
      change(REGION.activeL2, table, this.clusterSize);
    }
  }
}
