import type { ClusterEntry } from './clusterEntry';
import type { GuestEntries } from './guestEntries';
import type { GuestWriter } from './guestWriter';
import type { ImageParts } from './imageParts';
import { load, wait, type Steps } from './steps';

/**
 * How far clusters are got ready: a place in the file; also blocks of the file system for it, and none that a snapshot has too; or a place
 * with zeroes written out.
 */
type Readiness = 'place' | 'blocks' | 'full';

/** Gives clusters to what has none, before anything is written to it. */
export class Reserver {
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

  /**
   * Gives host clusters to the guest clusters from `at` on that have none, as far as one step goes. What the guest reads stays.
   * @returns where to go on, and the end in the file of the clusters that were met
   */
  *reserve(at: number, end: number, how: Readiness): Steps<{ readonly next: number; readonly hostEnd: number }> {
    const { clusterSize } = this;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const next = Math.min(Math.ceil(end / clusterSize) * clusterSize, this.writer.stepEnd(at));
    yield* this.parts.order.makeRoom();
    const hostEnd = yield* this.parts.claims.during(start, next, () => this.reserveClaimed(start, next, how));
    return { next, hostEnd };
  }

  private *reserveClaimed(start: number, end: number, how: Readiness): Steps<number> {
    const { clusterSize } = this;
    const full = how === 'full';
    const blocks = how === 'blocks';
    const { metadata, refcounts, data, codec } = this.parts;
    yield* this.entries.provide(start);
    let hostEnd = 0;
    for (let cluster = start; cluster < end;) {
      const from = cluster;
      const { old, run } = yield* load(() => {
        const entry = this.entries.entryAt(from);
        const without = (other: ClusterEntry) => needsPlace(other, blocks) && other.zero === entry.zero;
        let count = 1;
        while (without(entry) && from + count * clusterSize < end && without(this.entries.entryAt(from + count * clusterSize))) {
          count++;
        }
        return { old: entry, run: count };
      });
      cluster += run * clusterSize;
      if (!needsPlace(old, blocks)) {
        hostEnd = Math.max(hostEnd, old.placed ? old.host + clusterSize : 0);
        if (blocks && old.placed && old.allocated === 0) {
          yield* this.provideBlocks(old.host, clusterSize);
        }
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
        this.entries.requireNoMetadata(host, run * clusterSize);
        if (plain) {
          yield* data.zeroHost(host, from, run * clusterSize, host >= data.file.size && !full);
        }
        if (blocks) {
          yield* this.provideBlocks(host, run * clusterSize);
        }
        yield* load(() => this.entries.find(from));
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
        const former = this.entries.entryAt(from + i * clusterSize);
        this.entries.replace(from + i * clusterSize, former, entry, former.placed, false);
      }
      refcounts.barrier = true;
      hostEnd = Math.max(hostEnd, host + run * clusterSize);
    }
    return hostEnd;
  }

  /** Blocks for host clusters that hold nothing but zeroes, if anything. */
  private *provideBlocks(host: number, length: number): Steps<void> {
    const { file } = this.parts.data;
    const inside = Math.min(length, file.size - host);
    if (inside > 0 && file.reserve?.(host, inside) !== true) {
      yield* wait(file.writeZeroes(host, inside));
    }
    if (inside < length) {
      yield* wait(file.truncate(host + length, 'falloc'));
    }
  }
}

/** @param alone a cluster that a snapshot has too does not count, where it only reads as zero */
function needsPlace({ placed, compressed, copied, allocated }: ClusterEntry, alone: boolean): boolean {
  return !compressed && (!placed || (alone && !copied && allocated === 0));
}
