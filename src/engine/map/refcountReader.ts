import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { LIMITS } from '../formats/qcow2/structures';
import { EntryBuffer, PagedTable } from './tableAccess';

/** Refcounts are clamped to this when read for a map. */
export const MAX_COUNT = 0xffff;

const CHUNK = 64 * 1024;

/** Reads refcounts as they stand on disk, any width, for stretches of host clusters. */
export class RefcountReader {
  private readonly metadata: Qcow2Metadata;
  private readonly table: PagedTable;
  private readonly buffer = new EntryBuffer(CHUNK);

  constructor(metadata: Qcow2Metadata) {
    this.metadata = metadata;
    const bytes = Math.min(metadata.refcountTableClusters * metadata.clusterSize, LIMITS.maxRefcountTableBytes);
    this.table = new PagedTable(metadata.source, metadata.refcountTableOffset, bytes / 8, 'big');
  }

  /** Number of refcount table entries that can be read. */
  get blocks(): number {
    return this.table.entries;
  }

  /** Host offset of a refcount block; 0 when there is none. Past 2^53-1 it is Infinity. */
  blockOffset(index: number): number {
    const high = this.table.high(index);
    return high < 0x00200000 ? high * 2 ** 32 + ((this.table.low(index) & ~0x1ff) >>> 0) : Infinity;
  }

  /** Index of the next block that is allocated, Infinity when there is none. */
  nextBlock(index: number): number {
    return this.table.nextUsed(index);
  }

  /**
   * Fills `target` with the counts of the host clusters from `firstCluster` on, clamped to MAX_COUNT. Where no block covers a cluster, or
   * the block's offset is not aligned, the count is 0.
   */
  read(firstCluster: number, target: Uint16Array): void {
    const perBlock = this.metadata.refcountBlockEntries;
    for (let done = 0; done < target.length;) {
      const cluster = firstCluster + done;
      const index = Math.floor(cluster / perBlock);
      const first = cluster - index * perBlock;
      const count = Math.min(target.length - done, perBlock - first);
      const offset = this.blockOffset(index);
      const counts = target.subarray(done, done + count);
      if (offset === 0 || offset >= this.metadata.source.size || offset % this.metadata.clusterSize !== 0) {
        counts.fill(0);
      } else {
        this.readBlock(offset, first, counts);
      }
      done += count;
    }
  }

  private readBlock(blockOffset: number, first: number, target: Uint16Array): void {
    const bits = this.metadata.refcountBits;
    const perLoad = (CHUNK * 8) / bits;
    for (let done = 0; done < target.length;) {
      const entry = first + done;
      // Loads begin at whole words, so that an entry of any width lies inside one load.
      const skipped = entry % (64 / Math.min(bits, 64));
      const count = Math.min(target.length - done, perLoad - skipped);
      this.buffer.load(this.metadata.source, blockOffset + ((entry - skipped) * bits) / 8, Math.ceil(((skipped + count) * bits) / 64) * 8);
      this.decode(skipped, target.subarray(done, done + count));
      done += count;
    }
  }

  private decode(first: number, target: Uint16Array): void {
    const { bytes, view } = this.buffer;
    const bits = this.metadata.refcountBits;
    const { length } = target;
    switch (bits) {
      case 16:
        for (let i = 0, at = first * 2; i < length; i++, at += 2) {
          target[i] = (bytes[at]! << 8) | bytes[at + 1]!;
        }
        return;
      case 8:
        target.set(bytes.subarray(first, first + length));
        return;
      case 32:
        for (let i = 0; i < length; i++) {
          target[i] = Math.min(MAX_COUNT, view.getUint32((first + i) * 4));
        }
        return;
      case 64:
        for (let i = 0; i < length; i++) {
          target[i] = view.getUint32((first + i) * 8) !== 0 ? MAX_COUNT : Math.min(MAX_COUNT, view.getUint32((first + i) * 8 + 4));
        }
        return;
      default: {
        const perByte = 8 / bits;
        const mask = (1 << bits) - 1;
        for (let i = 0; i < length; i++) {
          const entry = first + i;
          target[i] = (bytes[Math.floor(entry / perByte)]! >>> ((entry % perByte) * bits)) & mask;
        }
      }
    }
  }
}
