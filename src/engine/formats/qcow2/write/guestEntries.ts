import { corruptImage } from '../../../errors';
import { NO_CLUSTER, type ClusterEntry } from './clusterEntry';
import type { ImageParts } from './imageParts';
import { regionTitle } from './regions';
import type { Slice } from './slices';
import type { Steps } from './steps';

/** A slice with the entry of a guest cluster. */
export interface FoundEntry {
  readonly slice: Slice;
  readonly index: number;
}

/** The L2 entries of guest clusters: where they are, and what changing them entails. */
export class GuestEntries {
  private readonly parts: ImageParts;
  private readonly clusterSize: number;

  constructor(parts: ImageParts) {
    this.parts = parts;
    this.clusterSize = parts.metadata.clusterSize;
  }

  /** Where the part of a table ends that a guest offset lies in: no step goes further. */
  sliceEnd(guestOffset: number): number {
    const sliceBytes = this.parts.tables.entriesPerSlice * this.clusterSize;
    return (Math.floor(guestOffset / sliceBytes) + 1) * sliceBytes;
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

  /** Sees to a table that may be changed. */
  *provide(guestOffset: number): Steps<void> {
    yield* this.parts.prepare();
    yield* this.parts.tables.provide(Math.floor(guestOffset / this.parts.metadata.l2Coverage));
  }

  /** @throws EngineError `image.corrupt` for an entry that no driver follows; NotLoaded */
  entryAt(guestOffset: number): ClusterEntry {
    const found = this.find(guestOffset);
    return found
      ? this.parts.codec.read(found.slice, found.index, Math.floor(guestOffset / this.clusterSize) * this.clusterSize)
      : NO_CLUSTER;
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
}
