import { requireSomeInside } from '../../block/inFlight';
import type { ByteSource } from '../../io/source';
import { plainExtent, unknownExtent, type GuestExtent, type LayerStatus } from '../extent';
import type { Problem } from '../problem';
import { MAX_PIECE, TableCache } from '../tableCache';
import type { SparseExtent } from './sparseExtent';

/** A stretch of the disk and the file it lies in. */
export type MappedExtent = {
  /** First guest byte. */
  readonly start: number;
  /** Guest bytes, a multiple of 512. */
  readonly length: number;
} & (
  | {
      readonly kind: 'flat';
      readonly source: ByteSource;
      /** Where in that file the stretch begins. */
      readonly hostOffset: number;
    }
  | { readonly kind: 'sparse'; readonly source: ByteSource; readonly sparse: SparseExtent }
  /** Its data cannot be told, and why. */
  | { readonly kind: 'unknown'; readonly source: null; readonly problem: Problem }
);

const SECTOR = 512;
const ENTRY_BYTES = 4;
/** Entries of a grain table below 2 are no sectors, where zero grains are in use. */
const ZEROED = 1;
/** Consecutive directory entries without a table that one answer covers at most. */
const MAX_EMPTY_TABLES = 65536;

/** Guest grains to places in the extents of a VMDK (block/vmdk.c, get_cluster_offset). */
export class VmdkGrainMap implements LayerStatus {
  readonly size: number;
  /** In guest order, without gaps. */
  readonly extents: readonly MappedExtent[];
  private readonly grains: ReadonlyMap<MappedExtent, SparseGrains>;

  constructor(extents: readonly MappedExtent[], size: number, cacheBytes: number) {
    this.extents = extents;
    this.size = size;
    const share = cacheBytes / Math.max(1, extents.length);
    this.grains = new Map(
      extents.flatMap((extent) => (extent.kind === 'sparse' ? [[extent, new SparseGrains(extent.sparse, share)] as const] : [])),
    );
  }

  blockStatus(guestOffset: number, length: number): GuestExtent {
    requireSomeInside(guestOffset, length, this.size);
    const wanted = Math.min(length, this.size - guestOffset);
    const extent = this.extentAt(guestOffset);
    if (!extent) {
      return unknownExtent(wanted, 'VMDK descriptor', 0, 'No extent holds these bytes.');
    }
    const within = guestOffset - extent.start;
    const here = Math.min(wanted, extent.length - within);
    switch (extent.kind) {
      case 'unknown':
        return unknownExtent(here, extent.problem.structure, extent.problem.hostOffset, extent.problem.message);
      case 'flat':
        return { ...plainExtent('data', here, extent.hostOffset + within), source: extent.source };
      case 'sparse': {
        const status = this.grains.get(extent)!.status(within, here);
        const { compressed } = status;
        return {
          ...status,
          source: extent.source,
          compressed: compressed && { ...compressed, guestOffset: compressed.guestOffset + extent.start },
        };
      }
    }
  }

  /** Like `blockStatus`; what lies in holes of the files of flat extents is zeroes, as a raw file's holes are. */
  blockStatusWithHoles(guestOffset: number, length: number): GuestExtent {
    const extent = this.blockStatus(guestOffset, length);
    const { source, hostOffset } = extent;
    if (!source || hostOffset === null || this.extentAt(guestOffset)?.kind !== 'flat') {
      return extent;
    }
    if (hostOffset >= source.size) {
      return plainExtent('zero', extent.length);
    }
    const found = source.extentAt(hostOffset);
    const reached = Math.min(extent.length, found.length);
    return found.data ? { ...extent, length: reached } : plainExtent('zero', reached);
  }

  /** The guest offset at which what one table entry maps ends; of a flat extent that is all of it. */
  unitEnd(guestOffset: number): number {
    const extent = this.extentAt(guestOffset);
    if (!extent) {
      return Infinity;
    }
    const { start, length } = extent;
    const { grainSize } = extent.kind === 'sparse' ? extent.sparse : { grainSize: length };
    return Math.min(start + length, start + (Math.floor((guestOffset - start) / grainSize) + 1) * grainSize);
  }

  /** A guest offset at or before the first byte at or after `guestOffset` that an extent may hold; Infinity when nothing follows. */
  nextAllocated(guestOffset: number): number {
    for (let extent = this.extentAt(guestOffset); extent; extent = this.extentAt(extent.start + extent.length)) {
      const from = Math.max(0, guestOffset - extent.start);
      const next = extent.kind === 'sparse' ? this.grains.get(extent)!.nextTable(from) : from;
      if (next < extent.length) {
        return extent.start + next;
      }
    }
    return Infinity;
  }

  /** The extent that holds a guest offset. */
  extentAt(guestOffset: number): MappedExtent | null {
    let low = 0;
    let high = this.extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { start, length } = this.extents[middle]!;
      if (start + length <= guestOffset) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return this.extents[low] ?? null;
  }
}

/** One sparse extent's directory and tables; offsets count from its first guest byte. */
class SparseGrains {
  private readonly extent: SparseExtent;
  private readonly directory: TableCache;
  private readonly tables: TableCache;
  private readonly perPiece: number;
  private readonly directoryEntries: number;
  private next = { from: 0, at: -1 };

  constructor(extent: SparseExtent, cacheBytes: number) {
    this.extent = extent;
    this.directory = new TableCache(extent.source, 'little', MAX_PIECE, cacheBytes / 4);
    this.perPiece = MAX_PIECE / ENTRY_BYTES;
    // Past the end of the file there are no entries, however many the header claims.
    const there = Math.ceil((extent.source.size - extent.directoryOffset) / ENTRY_BYTES);
    this.directoryEntries = Math.max(0, Math.min(extent.directoryEntries, there));
    // Tables begin at any sector, so each is a piece of its own.
    this.tables = new TableCache(extent.source, 'little', Math.ceil(extent.tableEntries / 2) * 8, cacheBytes);
  }

  status(offset: number, length: number): GuestExtent {
    const { directoryEntries } = this;
    const { grainSize, tableEntries, source } = this.extent;
    const coverage = grainSize * tableEntries;
    const index = Math.floor(offset / coverage);
    const table = this.directoryEntry(index);
    if (table === 0) {
      const limit = Math.min(directoryEntries, index + MAX_EMPTY_TABLES);
      let next = index + 1;
      while (next < limit && this.directoryEntry(next) === 0) {
        next++;
      }
      return plainExtent('unallocated', next >= directoryEntries ? length : Math.min(length, next * coverage - offset));
    }
    const inTable = Math.min(length, (index + 1) * coverage - offset);
    const tableOffset = table * SECTOR;
    if (tableOffset >= source.size) {
      const message = `The grain table at sector ${table} lies past the end of the file.`;
      return unknownExtent(inTable, 'grain directory entry', this.extent.directoryOffset + index * ENTRY_BYTES, message);
    }
    return this.statusInTable(tableOffset, offset, inTable);
  }

  /** Where the first table at or after `offset` begins to map, or `offset` when it lies within one's range; Infinity without one. */
  nextTable(offset: number): number {
    const { directoryEntries } = this;
    const { grainSize, tableEntries } = this.extent;
    const coverage = grainSize * tableEntries;
    const index = Math.floor(offset / coverage);
    if (index < this.next.from || index > this.next.at) {
      let at = index;
      while (at < directoryEntries && this.directoryEntry(at) === 0) {
        at++;
      }
      this.next = { from: index, at: at < directoryEntries ? at : Infinity };
    }
    return Math.max(offset, this.next.at * coverage);
  }

  private statusInTable(tableOffset: number, offset: number, length: number): GuestExtent {
    const { grainSize, tableEntries, compressed, source } = this.extent;
    const grain = Math.floor(offset / grainSize);
    const within = offset - grain * grainSize;
    const first = grain % tableEntries;
    const entry = this.grainEntry(tableOffset, first);
    const kind = this.kindOf(entry);
    const hostOffset = entry * SECTOR;
    if (kind === 'data' && hostOffset >= source.size) {
      const message = `The grain at sector ${entry} lies past the end of the file.`;
      return unknownExtent(Math.min(length, grainSize - within), 'grain table entry', tableOffset + first * ENTRY_BYTES, message);
    }
    if (kind === 'data' && compressed) {
      const guestOffset = grain * grainSize;
      const stored = Math.min(2 * grainSize, source.size - hostOffset);
      return {
        class: 'compressed',
        length: Math.min(length, grainSize - within),
        hostOffset: null,
        compressed: { hostOffset, guestOffset, length: stored },
        problem: null,
      };
    }
    const count = Math.min(tableEntries - first, Math.ceil((within + length) / grainSize));
    let run = 1;
    while (run < count) {
      const following = this.grainEntry(tableOffset, first + run);
      const continues = kind === 'data' ? following * SECTOR === hostOffset + run * grainSize : this.kindOf(following) === kind;
      if (!continues || (kind === 'data' && following * SECTOR >= source.size)) {
        break;
      }
      run++;
    }
    return plainExtent(kind, Math.min(length, run * grainSize - within), kind === 'data' ? hostOffset + within : null);
  }

  private kindOf(entry: number): 'unallocated' | 'zero' | 'data' {
    return entry === 0 ? 'unallocated' : entry === ZEROED && this.extent.hasZeroGrains ? 'zero' : 'data';
  }

  private directoryEntry(index: number): number {
    const { directoryOffset } = this.extent;
    if (index >= this.directoryEntries) {
      return 0;
    }
    const piece = this.directory.piece(directoryOffset + Math.floor(index / this.perPiece) * MAX_PIECE);
    return halfWord(piece, index % this.perPiece);
  }

  private grainEntry(tableOffset: number, index: number): number {
    return halfWord(this.tables.piece(tableOffset), index);
  }
}

/** A 32-bit entry of a table that is read in 64-bit words. */
function halfWord(table: { high(index: number): number; low(index: number): number }, index: number): number {
  return (index & 1) === 0 ? table.low(index >>> 1) : table.high(index >>> 1);
}
