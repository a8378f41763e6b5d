import type { Preallocation } from '../../../block/blockNode';
import { invalidRequest, unsupportedRequest } from '../../../errors';
import { LIMITS } from '../structures';
import type { Discarder } from './discarder';
import type { GuestEntries } from './guestEntries';
import type { HeaderFields } from './headerFields';
import type { ImageParts } from './imageParts';
import type { Reserver } from './reserver';
import { load, wait, type Steps } from './steps';
import type { ZeroWriter } from './zeroWriter';

const SECTOR = 512;

/** Who changes guest clusters for it. */
interface ResizerWriters {
  readonly entries: GuestEntries;
  readonly zeroes: ZeroWriter;
  readonly discarder: Discarder;
  readonly reserver: Reserver;
}

/** Changes the length of the disk, and gives ranges clusters before anything is written to them. */
export class Resizer {
  private readonly parts: ImageParts;
  private readonly writers: ResizerWriters;
  private readonly header: HeaderFields;
  private readonly resized: (size: number) => void;

  /** @param resized told when the header has the new size */
  constructor(parts: ImageParts, writers: ResizerWriters, header: HeaderFields, resized: (size: number) => void) {
    this.parts = parts;
    this.writers = writers;
    this.header = header;
    this.resized = resized;
  }

  *resize(size: number, preallocation: Preallocation): Steps<void> {
    const { metadata } = this.parts;
    const before = this.parts.map().size;
    if (!(size >= 0 && size % SECTOR === 0)) {
      throw invalidRequest('The new size must be a multiple of 512');
    }
    if (metadata.version < 3 && this.header.bigint('nb_snapshots') > 0n) {
      throw unsupportedRequest("Can't resize a v2 image which has snapshots");
    }
    const l1Size = Math.ceil(size / metadata.l2Coverage);
    if (!Number.isSafeInteger(size) || l1Size * 8 > LIMITS.maxL1Bytes) {
      throw invalidRequest('Failed to grow the L1 table: File too large');
    }
    if (size < before) {
      if (preallocation !== 'off') {
        throw unsupportedRequest("Preallocation can't be used for shrinking an image");
      }
      yield* this.parts.claims.during(0, Infinity, () => this.shrink(before, size));
      return;
    }
    yield* this.parts.claims.during(0, Infinity, () => this.grow(before, size, l1Size));
    if (this.parts.data.backing && this.parts.data.backing.size > before && preallocation === 'off') {
      const end = Math.min(size, this.parts.data.backing.size);
      yield* this.writers.zeroes.zero(before, end - before);
    }
    yield* this.preallocate(before, size, preallocation);
  }

  private *grow(before: number, size: number, l1Size: number): Steps<void> {
    const { tables, order, metadata, data } = this.parts;
    if (l1Size > tables.l1Size) {
      yield* this.growL1(l1Size);
    }
    yield* this.zeroTail(before, size);
    yield* order.alone(() => this.header.update({ size }));
    if (metadata.hasDataFile && data.file.size < size) {
      yield* wait(data.file.truncate(size));
    }
    this.resized(size);
  }

  /** The rest of the last cluster, which the guest has not seen yet, must not show what was there. */
  private *zeroTail(before: number, size: number): Steps<void> {
    const { clusterSize } = this.parts.metadata;
    const { data } = this.parts;
    const end = Math.ceil(before / clusterSize) * clusterSize;
    if (end === before) {
      return;
    }
    const entry = yield* load(() => this.writers.entries.entryAt(before));
    if (entry.placed && entry.copied) {
      this.writers.entries.requireNoMetadata(entry.host, clusterSize);
      yield* data.zeroHost(entry.host + (before % clusterSize), before, end - before, false);
    } else if (entry.placed || entry.compressed) {
      // A snapshot has it too, or it cannot be written in place: the guest gets a cluster of its own before it sees more of it.
      this.resized(size);
      try {
        yield* this.writers.zeroes.zeroClaimed(before, Math.min(end, size));
      } catch (error) {
        this.resized(before);
        throw error;
      }
    }
  }

  /** Moves the L1 table to where it can be longer; the header leads to it when it is on the disk. */
  private *growL1(l1Size: number): Steps<void> {
    const { tables, refcounts, order, metadata } = this.parts;
    const { clusterSize } = metadata;
    // As QEMU: half as long again, so that growing often costs little.
    const entries = Math.min(LIMITS.maxL1Bytes / 8, Math.max(l1Size, Math.ceil(tables.l1Size * 1.5)));
    const clusters = Math.ceil((entries * 8) / clusterSize);
    const place = yield* refcounts.allocate(clusters);
    const old = { hostOffset: tables.l1TableOffset, length: tables.l1Size * 8 };
    const grown = new Uint8Array(entries * 8);
    try {
      const padded = new Uint8Array(clusters * clusterSize);
      yield* order.alone(() => this.moveL1(padded, grown, place, entries));
    } catch (error) {
      yield* refcounts.giveBack(place / clusterSize, clusters);
      throw error;
    }
    tables.replaceL1(place, grown);
    if (old.length > 0) {
      order.free(old.hostOffset, Math.ceil(old.length / clusterSize) * clusterSize);
    }
  }

  private *moveL1(padded: Uint8Array, grown: Uint8Array, place: number, entries: number): Steps<void> {
    const { tables, storage } = this.parts;
    grown.set(tables.l1Bytes());
    padded.set(grown);
    yield* wait(storage.write(padded, place));
    yield storage.flush();
    yield* this.header.update({ l1_table_offset: place, l1_size: entries });
    yield storage.flush();
  }

  private *shrink(before: number, size: number): Steps<void> {
    const { metadata, order, tables, storage } = this.parts;
    const from = Math.ceil(size / metadata.clusterSize) * metadata.clusterSize;
    // The guest sees the smaller disk first: what is given up is not seen half.
    yield* order.alone(() => this.header.update({ size }));
    yield storage.flush();
    if (from < before) {
      yield* this.writers.discarder.drop(from, Math.ceil(before / metadata.clusterSize) * metadata.clusterSize);
    }
    for (let l1Index = Math.ceil(size / metadata.l2Coverage); l1Index < tables.l1Size; l1Index++) {
      tables.drop(l1Index);
    }
    this.resized(size);
    if (metadata.hasDataFile) {
      yield* wait(this.parts.data.file.truncate(size));
    }
  }

  /** Gives clusters to what has none. */
  *preallocate(from: number, end: number, preallocation: Preallocation): Steps<void> {
    if (preallocation === 'off' || from >= end) {
      return;
    }
    const { data } = this.parts;
    let length = data.file.size;
    for (let at = from; at < end;) {
      const reserved = yield* this.writers.reserver.reserve(at, end, preallocation === 'full' ? 'full' : 'place');
      at = reserved.next;
      length = Math.max(length, reserved.hostEnd);
    }
    if (length > data.file.size) {
      yield* wait(data.file.truncate(length, preallocation === 'metadata' ? 'off' : preallocation));
    }
  }
}
