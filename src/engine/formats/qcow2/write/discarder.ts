import { NO_CLUSTER } from './clusterEntry';
import type { GuestEntries } from './guestEntries';
import type { ImageParts } from './imageParts';
import { load, wait, type Steps } from './steps';

/** Gives up what guest clusters have. */
export class Discarder {
  private readonly parts: ImageParts;
  private readonly entries: GuestEntries;
  private readonly clusterSize: number;

  constructor(parts: ImageParts, entries: GuestEntries) {
    this.parts = parts;
    this.entries = entries;
    this.clusterSize = parts.metadata.clusterSize;
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
      const limit = Math.min(end, this.entries.sliceEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      yield* this.parts.claims.during(from, limit, () => this.discardClaimed(from, limit, full));
      at = limit;
    }
  }

  /** Makes clusters unallocated that the guest does not see any more; the caller has the range to itself. */
  *drop(from: number, end: number): Steps<void> {
    for (let at = from; at < end;) {
      const limit = Math.min(end, this.entries.sliceEnd(at));
      yield* this.parts.order.makeRoom();
      yield* this.discardClaimed(at, limit, true);
      at = limit;
    }
  }

  private *discardClaimed(from: number, end: number, full: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec, metadata } = this.parts;
    if (!(yield* load(() => this.entries.find(from)))) {
      if (!this.parts.data.backing || full) {
        return;
      }
    }
    yield* this.entries.provide(from);
    const { backing, file } = this.parts.data;
    yield* load(() => this.entries.find(from));
    for (let cluster = from; cluster < end; cluster += clusterSize) {
      const old = this.entries.entryAt(cluster);
      if (!old.placed && !old.compressed && (full ? old.zero === 0 : old.zero === codec.allUnits || (old.zero === 0 && !backing))) {
        continue;
      }
      const zero = full || metadata.version < 3 ? 0 : codec.allUnits;
      const keeps = metadata.rawDataFile && !full;
      if (metadata.hasDataFile && old.placed) {
        const length = Math.min(clusterSize, Math.max(0, this.parts.map().size - cluster));
        yield* wait(metadata.rawDataFile ? file.writeZeroes(cluster, length, { unmap: true }) : undefined);
      }
      yield* load(() => this.entries.find(cluster));
      this.entries.replace(
        cluster,
        old,
        keeps && old.placed ? { ...old, allocated: 0, zero } : { ...NO_CLUSTER, zero },
        !(keeps && old.placed),
        true,
      );
    }
  }
}
