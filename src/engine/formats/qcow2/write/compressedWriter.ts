import { invalidRequest } from '../../../errors';
import { compressCluster } from '../compression';
import type { GuestWriter, ImageParts } from './guestWriter';
import { load, wait, type Steps } from './steps';

const SECTOR = 512;

/** Writes compressed clusters, one behind the other: they share host clusters, each of which counts them all. */
export class CompressedWriter {
  private readonly parts: ImageParts;
  private readonly writer: GuestWriter;
  /** Where the next one can begin, inside a host cluster; 0 when there is no such place. */
  private freeByte = 0;

  constructor(parts: ImageParts, writer: GuestWriter) {
    this.parts = parts;
    this.writer = writer;
  }

  /** A host cluster is nobody's any more. */
  clusterFreed(cluster: number): void {
    if (Math.floor(this.freeByte / this.parts.metadata.clusterSize) === cluster) {
      this.freeByte = 0;
    }
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
    const { data, refcounts, metadata, storage, codec } = this.parts;
    const { clusterSize } = metadata;
    yield* this.writer.provide(guestOffset);
    const host = yield* this.take(compressed.length);
    const sectorEnd = Math.ceil((host + compressed.length) / SECTOR) * SECTOR;
    const length = sectorEnd - host;
    const first = Math.floor(host / clusterSize);
    try {
      // The file shall not end inside a sector: who reads it reads whole ones.
      const padded = sectorEnd > storage.size ? new Uint8Array(length) : compressed;
      if (padded !== compressed) {
        padded.set(compressed);
      }
      data.generation++;
      yield* wait(storage.write(padded, host));
      yield* load(() => this.writer.find(guestOffset));
    } catch (error) {
      refcounts.change(first, Math.ceil((host + compressed.length) / clusterSize) - first, -1);
      throw error;
    }
    const old = this.writer.entryAt(guestOffset);
    const entry = { compressed: true, placed: false, host, length, copied: false, allocated: codec.allUnits, zero: 0 };
    this.writer.replace(guestOffset, old, entry, true, false);
    refcounts.barrier = true;
  }

  /** Takes so many bytes, behind the last ones where there is room, and counts their clusters. */
  private *take(length: number): Steps<number> {
    const { refcounts, metadata } = this.parts;
    const { clusterSize } = metadata;
    const at = this.freeByte;
    // Nobody else begins there while this waits.
    this.freeByte = 0;
    let host: number;
    if (at > 0 && at % clusterSize !== 0 && (yield* load(() => this.canShare(Math.floor(at / clusterSize))))) {
      const room = clusterSize - (at % clusterSize);
      if (length <= room) {
        refcounts.change(Math.floor(at / clusterSize), 1, 1);
        refcounts.barrier = true;
        host = at;
      } else if ((yield* refcounts.allocateAt(at + room, 1)) === 1) {
        refcounts.change(Math.floor(at / clusterSize), 1, 1);
        host = at;
      } else {
        host = yield* refcounts.allocate(1);
      }
    } else {
      host = yield* refcounts.allocate(1);
    }
    this.freeByte = host + length;
    return host;
  }

  private canShare(cluster: number): boolean {
    const refcount = this.parts.refcounts.get(cluster);
    return refcount > 0 && refcount < this.parts.refcounts.max;
  }
}
