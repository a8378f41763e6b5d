import type { ZeroOptions } from '../../../block/blockNode';
import { unsupportedRequest } from '../../../errors';
import { NO_CLUSTER, type ClusterEntry } from './clusterEntry';
import type { GuestEntries } from './guestEntries';
import type { GuestWriter } from './guestWriter';
import type { ImageParts } from './imageParts';
import { load, wait, type Steps } from './steps';

const ZEROES = new Uint8Array(2 * 1024 * 1024);

/** Makes ranges read as zero: by entries that say so, and by writing zeroes around them. */
export class ZeroWriter {
  private readonly parts: ImageParts;
  private readonly entries: GuestEntries;
  private readonly writer: GuestWriter;
  private readonly clusterSize: number;

  constructor(parts: ImageParts, entries: GuestEntries, writer: GuestWriter) {
    this.parts = parts;
    this.entries = entries;
    this.writer = writer;
    this.clusterSize = parts.metadata.clusterSize;
  }

  /** Zeroes in place of whatever whole subclusters hold. See `BlockNode.writeZeroes`. */
  *zero(guestOffset: number, length: number, options: ZeroOptions = {}): Steps<void> {
    const { clusterSize } = this;
    const end = guestOffset + length;
    for (let at = guestOffset; at < end;) {
      const limit = Math.min(end, this.entries.sliceEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      yield* this.parts.claims.during(Math.floor(at / clusterSize) * clusterSize, Math.ceil(limit / clusterSize) * clusterSize, () =>
        this.zeroClaimed(from, limit, options),
      );
      at = limit;
    }
  }

  /** The same for a range that the caller has claimed, inside what one slice of a table covers. */
  *zeroClaimed(at: number, end: number, options: ZeroOptions = {}): Steps<void> {
    const { mayUnmap = false, noFallback = false, explicit = false } = options;
    const { codec, data, metadata } = this.parts;
    const { unitBytes } = codec;
    const size = this.parts.map().size;
    if (data.backing === null && !explicit && (yield* data.isZero(this.parts.map(), at, end - at))) {
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
    if (metadata.version < 3 && mayUnmap) {
      yield* this.punch(at, end, noFallback);
      return;
    }
    if (metadata.version < 3 || to <= from) {
      yield* this.writeZeroesOut(at, end, noFallback);
      return;
    }
    yield* this.writeZeroesOut(at, Math.max(at, from), noFallback);
    yield* this.writeZeroesOut(Math.min(to, end), end, noFallback);
    yield* this.zeroUnits(from, to, mayUnmap);
  }

  /** Version 2 has no zero clusters, but the file can have holes in those that are the guest's alone. */
  private *punch(at: number, end: number, noFallback: boolean): Steps<void> {
    const { clusterSize } = this;
    const { data } = this.parts;
    for (let done = at; done < end;) {
      const from = done;
      const place = data.cipher ? null : yield* load(() => this.writer.inPlace(from, end));
      if (place) {
        this.entries.requireNoMetadata(place.host, place.length);
        yield* wait(data.file.writeZeroes(place.host, place.length, { unmap: true }));
        done += place.length;
      } else {
        done = Math.min(end, (Math.floor(from / clusterSize) + 1) * clusterSize);
        yield* this.writeZeroesOut(from, done, noFallback);
      }
    }
  }

  private *writeZeroesOut(at: number, end: number, noFallback: boolean): Steps<void> {
    if (at < end && noFallback) {
      throw unsupportedRequest('These zeroes would have to be written out.');
    }
    for (let done = at; done < end;) {
      done += yield* this.writer.writeClaimed(done, ZEROES.subarray(0, Math.min(ZEROES.length, end - done)));
    }
  }

  private hasSpace(at: number, end: number): boolean {
    for (let cluster = Math.floor(at / this.clusterSize) * this.clusterSize; cluster < end; cluster += this.clusterSize) {
      if (this.entries.entryAt(cluster).placed) {
        return true;
      }
    }
    return false;
  }

  private *zeroUnits(from: number, to: number, mayUnmap: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec, metadata, data } = this.parts;
    yield* this.entries.provide(from);
    if (metadata.rawDataFile) {
      yield* wait(data.file.writeZeroes(from, Math.min(to, this.parts.map().size) - from, { unmap: mayUnmap }));
    }
    yield* load(() => this.entries.find(from));
    for (let cluster = Math.floor(from / clusterSize) * clusterSize; cluster < to; cluster += clusterSize) {
      const old = this.entries.entryAt(cluster);
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
      if (drops && metadata.hasDataFile && !keepsData && old.placed) {
        // No refcount keeps it for somebody else. What is not on the disk yet reads as zero there either way.
        yield* wait(data.file.discard(cluster, clusterSize));
        yield* load(() => this.entries.find(cluster));
      }
      if (old.zero !== next.zero || old.allocated !== next.allocated || old.placed !== next.placed) {
        this.entries.replace(cluster, old, next, drops && !keepsData, mayUnmap);
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
    yield* this.writer.writeMoved(cluster, content, 1);
  }
}
