import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import { REFCOUNT_OFFSET_MASK } from '../../formats/qcow2/structures';
import { safeNumber } from '../../layout/codec';
import type { Pace } from '../../pace';
import { hexBytes } from '../wording';
import { REFCOUNT_TABLE_DECLARATIONS, refcountDeclarations } from './declarations';
import { refcountTableEntryView } from './qcow2Entries';
import { lookUpRefcount, refcountTableEntries } from './refcountLookup';
import { findNonZero } from './scan';
import { emptyRow, entryRow, nextUsedEntry, type TableReader } from './tableReader';
import { entryBytes, readWord, wordOf } from './wordRead';

/** The refcount table: row = refcount block. */
export class RefcountTableReader implements TableReader {
  readonly capacity: number;
  private readonly metadata: Qcow2Metadata;

  constructor(metadata: Qcow2Metadata) {
    this.metadata = metadata;
    this.capacity = refcountTableEntries(metadata);
  }

  async shape(): Promise<TableShape> {
    return Promise.resolve({
      table: { kind: 'refcountTable' },
      title: 'Refcount table',
      rows: this.capacity,
      rowsPerParent: 0,
      entries: REFCOUNT_TABLE_DECLARATIONS,
    });
  }

  row(row: number): TableRow {
    const { source, refcountTableOffset, refcountBlockEntries } = this.metadata;
    const hostOffset = refcountTableOffset + row * 8;
    if (!Number.isSafeInteger(hostOffset)) {
      return emptyRow(row, 'unallocated', 'The table lies past 2^53-1.');
    }
    const bytes = entryBytes(source, hostOffset, 8);
    const result = entryRow(row, hostOffset, bytes, 8, refcountTableEntryView(wordOf(bytes, 0, 'big'), this.metadata));
    const target = { kind: 'tableRow', table: { kind: 'refcounts' }, row: row * refcountBlockEntries } as const;
    return { ...result, target: result.targetOffset === null ? null : target };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const table = { hostOffset: this.metadata.refcountTableOffset, entries: this.capacity, entryBytes: 8 };
    return nextUsedEntry(this.metadata.source, table, row + (backwards ? -1 : 1), backwards, pace);
  }
}

/** Blocks past the end of the file that are looked at for their last count, before all they cover is shown. */
const MAX_TRAILING_BLOCKS = 64;

/** All refcount blocks in a row: row = host cluster. */
export class RefcountsReader implements TableReader {
  readonly capacity: number;
  private rows: number | null = null;
  private readonly metadata: Qcow2Metadata;

  constructor(metadata: Qcow2Metadata) {
    this.metadata = metadata;
    const covered = refcountTableEntries(metadata) * metadata.refcountBlockEntries;
    this.capacity = Math.max(fileClusters(metadata), Math.min(covered, Math.floor(Number.MAX_SAFE_INTEGER / metadata.clusterSize)));
  }

  async shape(pace: Pace): Promise<TableShape> {
    this.rows ??= Math.max(fileClusters(this.metadata), 1 + (await this.lastCount(pace)));
    const rowsPerParent = this.metadata.refcountBlockEntries;
    return {
      table: { kind: 'refcounts' },
      title: 'Refcounts',
      rows: this.rows,
      rowsPerParent,
      entries: refcountDeclarations(this.metadata.refcountBits),
    };
  }

  row(row: number): TableRow {
    const { source, clusterSize, refcountBits } = this.metadata;
    const found = lookUpRefcount(this.metadata, row);
    const hostOffset = row * clusterSize;
    const inFile = hostOffset < source.size;
    const target = { kind: 'host', hostOffset, length: Math.min(clusterSize, source.size - hostOffset) } as const;
    const common = { target: inFile ? target : null, targetOffset: hostOffset, targetLength: clusterSize };
    const flags = inFile ? [] : ['past the end of the file'];
    if (found.entryOffset === null) {
      const problem = found.tableWord === 0n ? null : 'The refcount block lies past 2^53-1.';
      return { ...emptyRow(row, 'free', problem), ...common, flags, refcount: 0 };
    }
    const short = found.entryBytes.length < Math.max(1, refcountBits / 8);
    const problems = [
      ...(short ? ['The entry lies past the end of the file, where it reads as zero.'] : []),
      ...((found.blockOffset ?? 0) % clusterSize === 0 ? [] : ['The refcount block is not aligned to a cluster.']),
      ...(found.count > 0n && !inFile ? ['A cluster past the end of the file has a refcount.'] : []),
    ];
    return {
      ...emptyRow(row, found.count === 0n ? 'free' : `refcount ${found.count}`, problems.length === 0 ? null : problems.join(' ')),
      ...common,
      flags,
      hostOffset: found.entryOffset,
      rawHex: hexBytes(found.entryBytes),
      refcount: Number(found.count),
    };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const { metadata } = this;
    const perByte = Math.max(1, 8 / metadata.refcountBits);
    const step = backwards ? -1 : 1;
    let at = row + step;
    while (at >= 0 && at < this.capacity) {
      const block = Math.floor(at / metadata.refcountBlockEntries);
      const found = await this.nextInBlock(block, at, perByte, backwards, pace);
      if (found >= 0) {
        return found;
      }
      const table = { hostOffset: metadata.refcountTableOffset, entries: refcountTableEntries(metadata), entryBytes: 8 };
      const next = await nextUsedEntry(metadata.source, table, block + step, backwards, pace);
      if (next < 0) {
        return -1;
      }
      at = backwards ? (next + 1) * metadata.refcountBlockEntries - 1 : next * metadata.refcountBlockEntries;
      if (pace.due()) {
        await pace.turn(Math.abs(at - row), this.capacity);
      }
    }
    return -1;
  }

  /** `from` is looked at itself. */
  private async nextInBlock(block: number, from: number, perByte: number, backwards: boolean, pace: Pace): Promise<number> {
    const { source, refcountBlockEntries, refcountBits, refcountTableOffset, clusterSize } = this.metadata;
    const first = block * refcountBlockEntries;
    const end = first + refcountBlockEntries;
    const step = backwards ? -1 : 1;
    let at = from;
    // Counts that share a byte with `from` are looked at one by one.
    const inByte = (row: number) => (backwards ? row % perByte !== perByte - 1 : row % perByte !== 0);
    for (; at >= first && at < end && inByte(at); at += step) {
      if (lookUpRefcount(this.metadata, at).count > 0n) {
        return at;
      }
    }
    const blockOffset = safeNumber(readWord(source, refcountTableOffset + block * 8, 'big') & REFCOUNT_OFFSET_MASK);
    if (at < first || at >= end || blockOffset === 0 || !Number.isSafeInteger(blockOffset + clusterSize)) {
      return -1;
    }
    const byteOf = (row: number) => blockOffset + Math.floor(((row - first) * refcountBits) / 8);
    const range = backwards ? ([blockOffset, byteOf(at + 1)] as const) : ([byteOf(at), blockOffset + clusterSize] as const);
    const found = await findNonZero(source, range[0], range[1], backwards, pace);
    if (found < 0) {
      return -1;
    }
    const low = first + Math.floor(((found - blockOffset) * 8) / refcountBits);
    const candidates = Array.from({ length: perByte }, (_, index) => low + index);
    return (backwards ? candidates.reverse() : candidates).find((row) => lookUpRefcount(this.metadata, row).count > 0n) ?? -1;
  }

  /** The last cluster at or past the end of the file that has a refcount; -1 when none has. */
  private async lastCount(pace: Pace): Promise<number> {
    const { metadata } = this;
    const table = { hostOffset: metadata.refcountTableOffset, entries: refcountTableEntries(metadata), entryBytes: 8 };
    const firstBlock = Math.floor(fileClusters(metadata) / metadata.refcountBlockEntries);
    let block = table.entries;
    for (let looked = 0; ; looked++) {
      block = await nextUsedEntry(metadata.source, table, block - 1, true, pace);
      if (block < firstBlock) {
        return -1;
      }
      const last = Math.min(this.capacity, (block + 1) * metadata.refcountBlockEntries) - 1;
      if (looked === MAX_TRAILING_BLOCKS) {
        return last;
      }
      const found = await this.nextInBlock(block, last, Math.max(1, 8 / metadata.refcountBits), true, pace);
      if (found >= 0) {
        return found;
      }
    }
  }
}

function fileClusters({ source, clusterSize }: Qcow2Metadata): number {
  return Math.ceil(source.size / clusterSize);
}
