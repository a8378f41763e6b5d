import { corruptImage, unsupportedRequest } from '../../../errors';
import type { Storage } from '../../../io/storage';
import type { Qcow2ClusterMap } from '../clusterMap';
import type { Qcow2Metadata } from '../metadata';
import type { Claims } from './claims';
import type { EntryCodec } from './clusterEntry';
import { NO_CLUSTER, type ClusterEntry } from './clusterEntry';
import type { GuestData } from './guestData';
import type { MetadataOrder } from './order';
import type { Refcounts } from './refcounts';
import { regionTitle, type Regions } from './regions';
import type { Slice } from './slices';
import { load, type Steps, wait } from './steps';
import type { ActiveTables } from './tables';

/** Clusters are taken for at most this many bytes at a time. */
const MOST_BYTES = 2 * 1024 * 1024;
const ZEROES = new Uint8Array(MOST_BYTES);

/** What the writers of one open image share. */
export interface ImageParts {
  readonly storage: Storage;
  readonly metadata: Qcow2Metadata;
  readonly codec: EntryCodec;
  readonly refcounts: Refcounts;
  readonly tables: ActiveTables;
  readonly order: MetadataOrder;
  readonly regions: Regions;
  readonly claims: Claims;
  readonly data: GuestData;
  /** The guest's view; another one after a resize. */
  map(): Qcow2ClusterMap;
  /** Before the first change of a table. */
  prepare(): Steps<void>;
}

/** A slice with the entry of a guest cluster. */
export interface FoundEntry {
  readonly slice: Slice;
  readonly index: number;
}

/** Writes guest bytes: in place where the cluster is the guest's alone, else into clusters that are then linked. */
export class GuestWriter {
  private readonly parts: ImageParts;
  private readonly clusterSize: number;

  constructor(parts: ImageParts) {
    this.parts = parts;
    this.clusterSize = parts.metadata.clusterSize;
  }

  *write(guestOffset: number, bytes: Uint8Array): Steps<void> {
    const { clusterSize } = this;
    const end = guestOffset + bytes.length;
    for (let at = guestOffset; at < end;) {
      const first = Math.floor(at / clusterSize) * clusterSize;
      const limit = Math.min(end, this.stepEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      at += yield* this.parts.claims.during(first, Math.ceil(limit / clusterSize) * clusterSize, () =>
        this.writeClaimed(from, bytes.subarray(from - guestOffset, limit - guestOffset)),
      );
    }
  }

  /** As far as one step goes: not past a slice of an L2 table, nor past `MOST_BYTES`. */
  stepEnd(guestOffset: number): number {
    const sliceBytes = this.parts.tables.entriesPerSlice * this.clusterSize;
    const most = Math.floor(guestOffset / this.clusterSize) * this.clusterSize + Math.max(this.clusterSize, MOST_BYTES);
    return Math.min((Math.floor(guestOffset / sliceBytes) + 1) * sliceBytes, most);
  }

  /** The entry of a guest cluster; null without an L2 table. */
  find(guestOffset: number): FoundEntry | null {
    const { tables, metadata } = this.parts;
    const cluster = Math.floor(guestOffset / this.clusterSize);
    const l1Index = Math.floor(cluster / metadata.l2Entries);
    const table = tables.tableOffset(l1Index);
    if (table === 0) {
      return null;
    }
    tables.requireAligned(l1Index, table);
    const entry = cluster - l1Index * metadata.l2Entries;
    return { slice: tables.slice(table, entry), index: entry % tables.entriesPerSlice };
  }

  *provide(guestOffset: number): Steps<void> {
    yield* this.parts.prepare();
    yield* this.parts.tables.provide(Math.floor(guestOffset / this.parts.metadata.l2Coverage));
  }

  entryAt(guestOffset: number): ClusterEntry {
    const found = this.find(guestOffset);
    return found
      ? this.parts.codec.read(found.slice, found.index, Math.floor(guestOffset / this.clusterSize) * this.clusterSize)
      : NO_CLUSTER;
  }

  private *writeClaimed(at: number, bytes: Uint8Array): Steps<number> {
    const end = at + bytes.length;
    const place = yield* load(() => this.inPlace(at, end));
    if (place) {
      this.requireNoMetadata(place.host, place.length);
      yield* this.parts.data.writeHost(bytes.subarray(0, place.length), place.host, at);
      return place.length;
    }
    yield* this.provide(at);
    const { first, run } = yield* load(() => this.gather(at, end));
    const length = Math.min(end, (Math.floor(at / this.clusterSize) + run) * this.clusterSize) - at;
    if (first.placed && first.copied && !first.compressed) {
      yield* this.fill(at, bytes.subarray(0, length), first.host, false, [first]);
      yield* this.link(at, length, first.host, false);
      return length;
    }
    yield* this.writeMoved(at, bytes.subarray(0, length), run);
    return length;
  }

  private *writeMoved(at: number, bytes: Uint8Array, clusters: number): Steps<void> {
    const { clusterSize } = this;
    const { metadata, refcounts, data } = this.parts;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const host = metadata.hasDataFile ? start : yield* refcounts.allocate(clusters);
    try {
      const lastAt = start + (clusters - 1) * clusterSize;
      const entries = yield* load(() => (clusters === 1 ? [this.entryAt(start)] : [this.entryAt(start), this.entryAt(lastAt)]));
      yield* this.fill(at, bytes, host, host >= data.file.size, entries);
    } catch (error) {
      if (!metadata.hasDataFile) {
        yield* refcounts.giveBack(host / clusterSize, clusters);
      }
      throw error;
    }
    yield* this.link(at, bytes.length, host, true);
  }

  /** Bytes from `at` on that lie one after the other in clusters which are the guest's alone. */
  private inPlace(at: number, end: number): { readonly host: number; readonly length: number } | null {
    const { clusterSize } = this;
    const { codec, tables, metadata } = this.parts;
    if (!this.find(at) || !tables.isCopied(Math.floor(at / metadata.l2Coverage))) {
      return null;
    }
    let host = -1;
    let reached = at;
    while (reached < end) {
      const start = Math.floor(reached / clusterSize) * clusterSize;
      const entry = this.entryAt(start);
      const needed = codec.touched(reached - start, Math.min(end, start + clusterSize) - start);
      if (entry.compressed || !entry.placed || !entry.copied || (needed & ~entry.allocated) !== 0) {
        break;
      }
      if (host >= 0 && entry.host + reached - start !== host + reached - at) {
        break;
      }
      host = host < 0 ? entry.host + at - start : host;
      reached = Math.min(end, start + clusterSize);
    }
    return reached > at ? { host, length: reached - at } : null;
  }

  /** The first cluster's entry, and how many clusters from there on are written the same way. */
  private gather(at: number, end: number): { readonly first: ClusterEntry; readonly run: number } {
    const { clusterSize } = this;
    const moves = ({ placed, copied, compressed }: ClusterEntry) => compressed || !placed || !copied;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const first = this.entryAt(start);
    let run = 1;
    if (moves(first)) {
      while (start + run * clusterSize < end && moves(this.entryAt(start + run * clusterSize))) {
        run++;
      }
    }
    return { first, run };
  }

  /**
   * Writes bytes to host clusters, and around them in the first and the last one what the guest sees there now.
   * @param entries of the first and the last cluster
   */
  private *fill(at: number, bytes: Uint8Array, host: number, fresh: boolean, entries: readonly ClusterEntry[]): Steps<void> {
    const { clusterSize } = this;
    const { codec, data } = this.parts;
    const end = at + bytes.length;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const last = Math.floor((end - 1) / clusterSize) * clusterSize;
    this.requireNoMetadata(host, last + clusterSize - start);
    const around: [number, number][] = [];
    for (const [index, entry] of entries.entries()) {
      const cluster = index === 0 ? start : last;
      const moved = entry.compressed || !entry.placed || !entry.copied;
      for (let unit = 0; unit < codec.units; unit++) {
        const from = cluster + unit * codec.unitBytes;
        const to = from + codec.unitBytes;
        const hit = from < end && to > at;
        if (!hit && !(moved && ((entry.allocated >>> unit) & 1) !== 0)) {
          continue;
        }
        addRange(around, from, hit ? Math.min(to, Math.max(from, at)) : to);
        if (hit) {
          addRange(around, Math.max(from, Math.min(to, end)), to);
        }
      }
    }
    let whole = bytes;
    let wholeFrom = at;
    for (const [from, to] of around) {
      if (yield* data.isZero(this.parts.map(), from, to - from)) {
        yield* data.zeroHost(host + from - start, from, to - from, fresh);
        continue;
      }
      const content = new Uint8Array(to - from);
      yield* data.read(this.parts.map(), from, content);
      if (to === wholeFrom) {
        whole = joined(content, whole);
        wholeFrom = from;
      } else if (from === wholeFrom + whole.length) {
        whole = joined(whole, content);
      } else {
        yield* data.writeHost(content, host + from - start, from);
      }
    }
    yield* data.writeHost(whole, host + wholeFrom - start, wholeFrom);
  }

  /** Makes the entries lead to host clusters that were filled, and gives up what they led to before. */
  private *link(at: number, length: number, host: number, moved: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec } = this.parts;
    const end = at + length;
    const start = Math.floor(at / clusterSize) * clusterSize;
    yield* load(() => this.find(start));
    for (let cluster = start; cluster < end; cluster += clusterSize) {
      const old = this.entryAt(cluster);
      const written = codec.touched(Math.max(at - cluster, 0), Math.min(end - cluster, clusterSize));
      const allocated = (written | old.allocated) >>> 0;
      const zero = (old.zero & ~allocated) >>> 0;
      this.replace(
        cluster,
        old,
        { compressed: false, placed: true, host: host + cluster - start, length: 0, copied: true, allocated, zero },
        moved,
        false,
      );
    }
    // The data must be on the disk before the entry shows it.
    this.parts.refcounts.barrier = true;
  }

  /** @param gives whether the old host cluster is given up @param punch see `MetadataOrder.free` */
  replace(guestOffset: number, old: ClusterEntry, entry: ClusterEntry, gives: boolean, punch: boolean): void {
    const { codec, tables, metadata, order } = this.parts;
    const found = this.find(guestOffset)!;
    if (gives && (old.placed || old.compressed)) {
      // Counted less, it would be taken for something else, or given back to the file system.
      this.requireNoMetadata(old.host, old.compressed ? old.length : this.clusterSize);
    }
    codec.write(found.slice, found.index, entry);
    tables.slices.touch(found.slice, found.index * metadata.l2EntryBytes, (found.index + 1) * metadata.l2EntryBytes);
    if (gives && old.compressed) {
      order.free(old.host, old.length);
    } else if (gives && old.placed && !metadata.hasDataFile) {
      order.free(old.host, this.clusterSize, punch);
    }
  }

  /** @throws EngineError `image.corrupt` */
  requireNoMetadata(host: number, length: number): void {
    const { regions, metadata, storage } = this.parts;
    const kinds = metadata.hasDataFile ? 0 : regions.at(host, length);
    if (kinds !== 0) {
      const cluster = Math.floor(host / this.clusterSize) * this.clusterSize;
      throw corruptImage(storage.name, regionTitle(kinds), cluster, 'An L2 table entry gives guest data the same place.');
    }
  }

  /** Zeroes in place of whatever whole subclusters hold. See `BlockNode.writeZeroes`. */
  *zero(guestOffset: number, length: number, mayUnmap: boolean, noFallback: boolean): Steps<void> {
    const { clusterSize } = this;
    const end = guestOffset + length;
    for (let at = guestOffset; at < end;) {
      const limit = Math.min(end, this.zeroStepEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      yield* this.parts.claims.during(Math.floor(at / clusterSize) * clusterSize, Math.ceil(limit / clusterSize) * clusterSize, () =>
        this.zeroClaimed(from, limit, mayUnmap, noFallback),
      );
      at = limit;
    }
  }

  private zeroStepEnd(at: number): number {
    const sliceBytes = this.parts.tables.entriesPerSlice * this.clusterSize;
    return (Math.floor(at / sliceBytes) + 1) * sliceBytes;
  }

  /** The same for a range that the caller has claimed, inside what one slice of a table covers. */
  *zeroClaimed(at: number, end: number, mayUnmap: boolean, noFallback: boolean): Steps<void> {
    const { codec, data, metadata } = this.parts;
    const { unitBytes } = codec;
    const size = this.parts.map().size;
    if (data.backing === null && (yield* data.isZero(this.parts.map(), at, end - at))) {
      // Without a backing file there is nothing to hide; space is kept as it is. Past the end of one there may be something later.
      if (!mayUnmap || !(yield* load(() => this.hasSpace(at, end)))) {
        return;
      }
    }
    // A subcluster whose rest reads as zero anyway counts as a whole one.
    let from = Math.floor(at / unitBytes) * unitBytes;
    let to = Math.ceil(end / unitBytes) * unitBytes;
    if (from < at && !(yield* data.isZero(this.parts.map(), from, at - from))) {
      from += unitBytes;
    }
    if (to > end && end < size && !(yield* data.isZero(this.parts.map(), end, to - end))) {
      to -= unitBytes;
    }
    if (metadata.version < 3 || to <= from) {
      yield* this.writeZeroesOut(at, end, noFallback);
      return;
    }
    yield* this.writeZeroesOut(at, Math.max(at, from), noFallback);
    yield* this.writeZeroesOut(Math.min(to, end), end, noFallback);
    yield* this.zeroUnits(from, to, mayUnmap);
  }

  private *writeZeroesOut(at: number, end: number, noFallback: boolean): Steps<void> {
    if (at < end && noFallback) {
      throw unsupportedRequest('These zeroes would have to be written out.');
    }
    for (let done = at; done < end;) {
      done += yield* this.writeClaimed(done, ZEROES.subarray(0, Math.min(ZEROES.length, end - done)));
    }
  }

  private hasSpace(at: number, end: number): boolean {
    for (let cluster = Math.floor(at / this.clusterSize) * this.clusterSize; cluster < end; cluster += this.clusterSize) {
      if (this.entryAt(cluster).placed) {
        return true;
      }
    }
    return false;
  }

  private *zeroUnits(from: number, to: number, mayUnmap: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec, metadata, data } = this.parts;
    yield* this.provide(from);
    if (metadata.rawDataFile) {
      yield* wait(data.file.writeZeroes(from, Math.min(to, this.parts.map().size) - from, { unmap: mayUnmap }));
    }
    yield* load(() => this.find(from));
    for (let cluster = Math.floor(from / clusterSize) * clusterSize; cluster < to; cluster += clusterSize) {
      const old = this.entryAt(cluster);
      const whole = from <= cluster && to >= cluster + clusterSize;
      const units = codec.covered(Math.max(from - cluster, 0), Math.min(to - cluster, clusterSize));
      if (old.compressed && !whole) {
        // One descriptor stands for all of it: the rest is written out first.
        yield* this.decompressInPlace(cluster, units);
        continue;
      }
      const drops = whole && (old.compressed || (mayUnmap && old.placed));
      const keepsData = metadata.rawDataFile && old.placed;
      const zero = (old.zero | units) >>> 0;
      const next: ClusterEntry =
        drops && !keepsData ? { ...NO_CLUSTER, zero: codec.allUnits } : { ...old, allocated: (old.allocated & ~units) >>> 0, zero };
      if (old.zero !== next.zero || old.allocated !== next.allocated || old.placed !== next.placed) {
        this.replace(cluster, old, next, drops && !keepsData, mayUnmap);
      }
    }
  }

  /** Moves a compressed cluster into one of its own, with some subclusters as zeroes. */
  private *decompressInPlace(cluster: number, zeroUnits: number): Steps<void> {
    const { clusterSize } = this;
    const { data } = this.parts;
    const content = new Uint8Array(clusterSize);
    yield* data.read(this.parts.map(), cluster, content);
    for (let unit = 0; unit < this.parts.codec.units; unit++) {
      if (((zeroUnits >>> unit) & 1) !== 0) {
        content.fill(0, unit * this.parts.codec.unitBytes, (unit + 1) * this.parts.codec.unitBytes);
      }
    }
    yield* this.writeMoved(cluster, content, 1);
  }

  /**
   * Gives whole clusters up.
   * @param full they become unallocated, whatever lies below: for what the guest will never see again
   */
  *discard(guestOffset: number, length: number, full: boolean): Steps<void> {
    const { clusterSize } = this;
    const { metadata } = this.parts;
    const size = this.parts.map().size;
    if (!full && metadata.version < 3 && this.parts.data.backing) {
      return;
    }
    const first = Math.ceil(guestOffset / clusterSize) * clusterSize;
    const end =
      guestOffset + length >= size
        ? Math.ceil((guestOffset + length) / clusterSize) * clusterSize
        : Math.floor((guestOffset + length) / clusterSize) * clusterSize;
    for (let at = first; at < end;) {
      const limit = Math.min(end, this.zeroStepEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      yield* this.parts.claims.during(from, limit, () => this.discardClaimed(from, limit, full));
      at = limit;
    }
  }

  /** Makes clusters unallocated that the guest does not see any more; the caller has the range to itself. */
  *drop(from: number, end: number): Steps<void> {
    for (let at = from; at < end;) {
      const limit = Math.min(end, this.zeroStepEnd(at));
      yield* this.parts.order.makeRoom();
      yield* this.discardClaimed(at, limit, true);
      at = limit;
    }
  }

  /**
   * Gives host clusters to the guest clusters from `at` on that have none, as far as one step goes. What the guest reads stays.
   * @param full zeroes are written out
   * @returns where to go on, and the end in the file of the clusters that were met
   */
  *reserve(at: number, end: number, full: boolean): Steps<{ readonly next: number; readonly hostEnd: number }> {
    const { clusterSize } = this;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const next = Math.min(Math.ceil(end / clusterSize) * clusterSize, this.stepEnd(at));
    yield* this.parts.order.makeRoom();
    const hostEnd = yield* this.parts.claims.during(start, next, () => this.reserveClaimed(start, next, full));
    return { next, hostEnd };
  }

  private *reserveClaimed(start: number, end: number, full: boolean): Steps<number> {
    const { clusterSize } = this;
    const { metadata, refcounts, data, codec } = this.parts;
    yield* this.provide(start);
    let hostEnd = 0;
    for (let cluster = start; cluster < end;) {
      const from = cluster;
      const { old, run } = yield* load(() => {
        const entry = this.entryAt(from);
        const without = (other: ClusterEntry) => !other.placed && !other.compressed && other.zero === entry.zero;
        let count = 1;
        while (without(entry) && from + count * clusterSize < end && without(this.entryAt(from + count * clusterSize))) {
          count++;
        }
        return { old: entry, run: count };
      });
      cluster += run * clusterSize;
      if (old.placed || old.compressed) {
        hostEnd = Math.max(hostEnd, old.placed ? old.host + clusterSize : 0);
        continue;
      }
      const zeroes = yield* data.isZero(this.parts.map(), from, run * clusterSize);
      if (!zeroes && codec.units === 1) {
        // What lies below shows through; only subclusters can have a place and still do that.
        continue;
      }
      const host = metadata.hasDataFile ? from : yield* refcounts.allocate(run);
      const plain = zeroes && (full || data.backing === null || metadata.version < 3);
      try {
        this.requireNoMetadata(host, run * clusterSize);
        if (plain) {
          yield* data.zeroHost(host, from, run * clusterSize, host >= data.file.size && !full);
        }
        yield* load(() => this.find(from));
      } catch (error) {
        if (!metadata.hasDataFile) {
          yield* refcounts.giveBack(host / clusterSize, run);
        }
        throw error;
      }
      const allocated = plain ? codec.allUnits : 0;
      const zero = zeroes && !plain ? codec.allUnits : 0;
      for (let i = 0; i < run; i++) {
        const entry = { compressed: false, placed: true, host: host + i * clusterSize, length: 0, copied: true, allocated, zero };
        this.replace(from + i * clusterSize, this.entryAt(from + i * clusterSize), entry, false, false);
      }
      refcounts.barrier = true;
      hostEnd = Math.max(hostEnd, host + run * clusterSize);
    }
    return hostEnd;
  }

  private *discardClaimed(from: number, end: number, full: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec, metadata } = this.parts;
    if (!(yield* load(() => this.find(from)))) {
      if (!this.parts.data.backing || full) {
        return;
      }
    }
    yield* this.provide(from);
    const { backing, file } = this.parts.data;
    yield* load(() => this.find(from));
    for (let cluster = from; cluster < end; cluster += clusterSize) {
      const old = this.entryAt(cluster);
      if (!old.placed && !old.compressed && (full ? old.zero === 0 : old.zero === codec.allUnits || (old.zero === 0 && !backing))) {
        continue;
      }
      const zero = full || metadata.version < 3 ? 0 : codec.allUnits;
      const keeps = metadata.rawDataFile && !full;
      if (metadata.hasDataFile && old.placed) {
        const length = Math.min(clusterSize, Math.max(0, this.parts.map().size - cluster));
        yield* wait(metadata.rawDataFile ? file.writeZeroes(cluster, length, { unmap: true }) : undefined);
      }
      yield* load(() => this.find(cluster));
      this.replace(
        cluster,
        old,
        keeps && old.placed ? { ...old, allocated: 0, zero } : { ...NO_CLUSTER, zero },
        !(keeps && old.placed),
        true,
      );
    }
  }
}

/** Ranges come in ascending order. */
function addRange(ranges: [number, number][], from: number, to: number): void {
  const last = ranges.at(-1);
  if (to <= from) {
    return;
  }
  if (last?.[1] === from) {
    last[1] = to;
  } else {
    ranges.push([from, to]);
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
