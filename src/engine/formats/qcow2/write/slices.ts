import type { ByteSource } from '../../../io/source';
import { WordTable } from '../../../layout/wordTable';

/**
 * A part of a table in memory. Changes are noted with `SliceCache.touch`. It stands for its part of the file until the cache is asked for
 * another one: then its memory may be used for that. Only what is changed, and not written yet, stays longer.
 */
export class Slice {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly table: WordTable;
  /** Bytes from here .. */
  dirtyFrom = Infinity;
  /** .. to here differ from the file. */
  dirtyTo = 0;
  /** Writers that still need it in memory. */
  pins = 0;
  recent = true;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.table = new WordTable(bytes, NOWHERE, 'big');
  }

  get hostOffset(): number {
    return this.table.hostOffset;
  }

  /** What lies past the end of the file reads as zero. @throws EngineError `file.io`; NotLoaded: then it stands for no part at all */
  fill(source: ByteSource, hostOffset: number): void {
    this.table.relocate(NOWHERE);
    this.bytes.fill(0, source.read(this.bytes, hostOffset));
    this.table.relocate(hostOffset);
    this.dirtyFrom = Infinity;
    this.dirtyTo = 0;
    this.recent = true;
  }
}

/** No table lies there. */
const NOWHERE = -1;

/** What a slice's changed bytes were at one moment. */
export interface SliceWrite {
  readonly slice: Slice;
  readonly from: number;
  readonly bytes: Uint8Array;
}

const SLICE_BYTES = 4096;
/** Slices whose memory is asked for at once. */
const SLAB = 64;

/**
 * Slices of tables, read when first needed. What was changed stays until it is written; of the rest those go that were not used for the
 * longest time, when the bound is reached.
 */
export class SliceCache {
  /** Bytes of a slice; tables are whole clusters, so slices never straddle two of them. */
  readonly pieceBytes: number;
  readonly capacity: number;
  private readonly source: ByteSource;
  private readonly slices = new Map<number, Slice>();
  private readonly dirty = new Set<Slice>();
  /** Not in use. A table is read again and again at random, and what goes makes room for what comes: no memory is given up on the way. */
  private readonly spare: Slice[] = [];
  private last: Slice | null = null;

  constructor(source: ByteSource, clusterSize: number, maxBytes: number) {
    this.source = source;
    this.pieceBytes = Math.min(clusterSize, SLICE_BYTES);
    this.capacity = Math.max(16, Math.floor(maxBytes / this.pieceBytes));
  }

  /** So much is changed that it should be written before more is. */
  get full(): boolean {
    return this.dirty.size * 2 >= this.capacity;
  }

  get changed(): boolean {
    return this.dirty.size > 0;
  }

  /** The slice if it is in memory. */
  cached(hostOffset: number): Slice | undefined {
    if (this.last?.hostOffset === hostOffset) {
      return this.last;
    }
    const slice = this.slices.get(hostOffset);
    if (slice) {
      slice.recent = true;
      this.last = slice;
    }
    return slice;
  }

  /**
   * @param hostOffset where the slice begins, a multiple of its length
   * @throws EngineError `file.io`; NotLoaded
   */
  slice(hostOffset: number): Slice {
    if (this.last?.hostOffset === hostOffset) {
      return this.last;
    }
    let slice = this.slices.get(hostOffset);
    if (slice) {
      slice.recent = true;
    } else {
      slice = this.spareSlice();
      slice.fill(this.source, hostOffset);
      this.spare.pop();
      this.slices.set(hostOffset, slice);
    }
    this.last = slice;
    return slice;
  }

  piece(hostOffset: number): WordTable {
    return this.slice(hostOffset).table;
  }

  /** Notes that bytes `from` .. `to` of a slice were changed. */
  touch(slice: Slice, from: number, to: number): void {
    slice.dirtyFrom = Math.min(slice.dirtyFrom, from);
    slice.dirtyTo = Math.max(slice.dirtyTo, to);
    this.dirty.add(slice);
  }

  /** Forgets what was in a table: it was given up, or its clusters have new contents. */
  forget(hostOffset: number, length: number): void {
    for (let at = hostOffset; at < hostOffset + length; at += this.pieceBytes) {
      const slice = this.slices.get(at);
      if (slice) {
        this.slices.delete(at);
        this.dirty.delete(slice);
        if (slice.pins === 0) {
          this.spare.push(slice);
        }
      }
    }
    this.last = null;
  }

  /** Nothing that is in memory is believed any more. Only where nothing is changed. */
  clear(): void {
    this.slices.clear();
    this.dirty.clear();
    this.last = null;
  }

  /** What is to be written, as it is now; later changes are for another time. `release` or `putBack` ends it. */
  take(): readonly SliceWrite[] {
    const writes: SliceWrite[] = [];
    for (const slice of this.dirty) {
      const { dirtyFrom: from, dirtyTo: to } = slice;
      writes.push({ slice, from, bytes: slice.bytes.slice(from, to) });
      slice.dirtyFrom = Infinity;
      slice.dirtyTo = 0;
      slice.pins++;
    }
    this.dirty.clear();
    // In the order of the file.
    return writes.sort((a, b) => a.slice.hostOffset - b.slice.hostOffset);
  }

  release(writes: readonly SliceWrite[]): void {
    for (const { slice } of writes) {
      slice.pins--;
    }
  }

  /** They were not written, or nobody knows. */
  putBack(writes: readonly SliceWrite[]): void {
    for (const { slice, from, bytes } of writes) {
      slice.pins--;
      // A table that was given up meanwhile is not written any more.
      if (this.slices.get(slice.hostOffset) === slice) {
        this.touch(slice, from, from + bytes.length);
      }
    }
  }

  /** The last of those that are not in use; it goes on being one of them. */
  private spareSlice(): Slice {
    if (this.spare.length === 0 && this.slices.size >= this.capacity) {
      this.makeRoom();
    }
    if (this.spare.length === 0) {
      const count = Math.max(1, Math.min(SLAB, this.capacity - this.slices.size));
      const slab = new Uint8Array(count * this.pieceBytes);
      for (let at = 0; at < slab.length; at += this.pieceBytes) {
        this.spare.push(new Slice(slab.subarray(at, at + this.pieceBytes)));
      }
    }
    return this.spare.at(-1)!;
  }

  private makeRoom(): void {
    let tries = this.slices.size * 2;
    for (const [hostOffset, slice] of this.slices) {
      if (tries-- <= 0) {
        return;
      }
      this.slices.delete(hostOffset);
      if (slice.pins === 0 && slice.dirtyTo === 0 && !slice.recent) {
        this.last = null;
        this.spare.push(slice);
        return;
      }
      // A second chance, as the youngest: the Map keeps the order of insertion, and comes by again.
      slice.recent = false;
      this.slices.set(hostOffset, slice);
    }
  }
}
