import { invalidRequest } from '../../../errors';
import { compressCluster } from '../compression';
import type { GuestEntries } from './guestEntries';
import type { GuestWriter } from './guestWriter';
import type { ImageParts } from './imageParts';
import { load, Turn, wait, type Steps } from './steps';

const SECTOR = 512;

/** Writes compressed clusters, one behind the other: they share host clusters, each of which counts them all. */
export class CompressedWriter {
  private readonly parts: ImageParts;
  private readonly entries: GuestEntries;
  private readonly writer: GuestWriter;
  /** Where the next one can begin, inside a host cluster; 0 when there is no such place. */
  private freeByte = 0;
  /** Neighbours share a sector, and the first of them fills it up: they are written one after the other. */
  private readonly turn = new Turn();

  constructor(parts: ImageParts, entries: GuestEntries, writer: GuestWriter) {
    this.parts = parts;
    this.entries = entries;
    this.writer = writer;
  }

  /** A host cluster is nobody's any more. */
  clusterFreed(cluster: number): void {
    if (Math.floor(this.freeByte / this.parts.metadata.clusterSize) === cluster) {
      this.freeByte = 0;
    }
  }

  /** Clusters may have become others' without this being told. */
  reset(): void {
    this.freeByte = 0;
  }

  /** See `Qcow2Node.writeCompressed`. */
  *write(guestOffset: number, bytes: Uint8Array): Steps<void> {
    const { metadata, claims, order } = this.parts;
    const { clusterSize } = metadata;
    const whole = bytes.length === clusterSize || (bytes.length < clusterSize && guestOffset + bytes.length === this.parts.map().size);
    if (guestOffset % clusterSize !== 0 || !whole) {
      throw invalidRequest('Compressed data is written in whole clusters.');
    }
    const cluster = new Uint8Array(clusterSize);
    cluster.set(bytes);
    const compressed = metadata.hasDataFile || this.parts.data.cipher ? null : compressCluster(metadata.compressionType, cluster);
    if (!compressed) {
      yield* this.writer.write(guestOffset, bytes);
      return;
    }
    yield* order.makeRoom();
    yield* claims.during(guestOffset, guestOffset + clusterSize, () => this.place(guestOffset, compressed));
  }

  private *place(guestOffset: number, compressed: Uint8Array): Steps<void> {
    const { refcounts, codec } = this.parts;
    yield* this.entries.provide(guestOffset);
    const { host, length } = yield* this.turn.take(() => this.put(compressed));
    try {
      yield* load(() => this.entries.find(guestOffset));
    } catch (error) {
      yield* this.giveBack(host, compressed.length);
      throw error;
    }
    const old = this.entries.entryAt(guestOffset);
    const entry = { compressed: true, placed: false, host, length, copied: false, allocated: codec.allUnits, zero: 0 };
    this.entries.replace(guestOffset, old, entry, true, false);
    refcounts.barrier = true;
  }

  /** Writes compressed bytes where there is room. */
  private *put(compressed: Uint8Array): Steps<{ readonly host: number; readonly length: number }> {
    const { data, storage } = this.parts;
    const host = yield* this.take(compressed.length);
    const sectorEnd = Math.ceil((host + compressed.length) / SECTOR) * SECTOR;
    const length = sectorEnd - host;
    try {
      // The file shall not end inside a sector: who reads it reads whole ones.
      const padded = sectorEnd > storage.size ? new Uint8Array(length) : compressed;
      if (padded !== compressed) {
        padded.set(compressed);
      }
      data.generation++;
      yield* wait(storage.write(padded, host));
    } catch (error) {
      yield* this.giveBack(host, compressed.length);
      throw error;
    }
    return { host, length };
  }

  private *giveBack(host: number, length: number): Steps<void> {
    const { clusterSize } = this.parts.metadata;
    const first = Math.floor(host / clusterSize);
    yield* this.parts.refcounts.giveBack(first, Math.ceil((host + length) / clusterSize) - first);
  }

  /** Takes so many bytes, behind the last ones where there is room, and counts their clusters. */
  private *take(length: number): Steps<number> {
    const { refcounts, metadata } = this.parts;
    const { clusterSize } = metadata;
    // Found and counted at once: the cluster may be given up at any time that is waited for.
    const shared = yield* load(() => this.share());
    let host = shared;
    if (shared === 0) {
      host = yield* refcounts.allocate(1);
    } else {
      const cluster = Math.floor(shared / clusterSize);
      try {
        const end = (cluster + 1) * clusterSize;
        if (shared + length > end && (yield* refcounts.allocateAt(end, 1)) === 0) {
          host = yield* refcounts.allocate(1);
        }
      } catch (error) {
        yield* refcounts.giveBack(cluster, 1);
        throw error;
      }
      if (host !== shared) {
        yield* refcounts.giveBack(cluster, 1);
      }
    }
    this.freeByte = host + length;
    return host;
  }

  /** Counts the cluster that the next one can begin in once more, and says where; 0 when there is none. */
  private share(): number {
    const { refcounts, metadata } = this.parts;
    const at = this.freeByte;
    if (at % metadata.clusterSize === 0) {
      return 0;
    }
    const cluster = Math.floor(at / metadata.clusterSize);
    const refcount = refcounts.get(cluster);
    if (refcount === 0 || refcount >= refcounts.max) {
      return 0;
    }
    refcounts.change(cluster, 1, 1);
    refcounts.barrier = true;
    return at;
  }
}
