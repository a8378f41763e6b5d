import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import { LIMITS, REFCOUNT_OFFSET_MASK } from '../../formats/qcow2/structures';
import { safeNumber } from '../../layout/codec';
import { entryBytes, wordOf } from './wordRead';

/** The way from the refcount table to one cluster's count. */
export interface RefcountLookup {
  /** Index in the refcount table, and the entry's place; null past the table's end. */
  readonly tableIndex: number;
  readonly tableEntryOffset: number | null;
  readonly tableBytes: Uint8Array;
  readonly tableWord: bigint;
  /** Where the refcount block lies; null when none is allocated there, or none that can be read. */
  readonly blockOffset: number | null;
  /** The bytes that hold the count; one byte where several counts share it. */
  readonly entryOffset: number | null;
  readonly entryBytes: Uint8Array;
  readonly count: bigint;
}

/** Entries that the refcount table holds, at most as many as QEMU reads. */
export function refcountTableEntries({ refcountTableClusters, clusterSize }: Qcow2Metadata): number {
  return Math.min(refcountTableClusters * clusterSize, LIMITS.maxRefcountTableBytes) / 8;
}

/** Looks up the on-disk refcount of a host cluster, given by its number. Two small reads. */
export function lookUpRefcount(metadata: Qcow2Metadata, cluster: number): RefcountLookup {
  const { source, refcountTableOffset, refcountBlockEntries, refcountBits, clusterSize } = metadata;
  const tableIndex = Math.floor(cluster / refcountBlockEntries);
  const none = new Uint8Array(0);
  if (tableIndex >= refcountTableEntries(metadata) || !Number.isSafeInteger(refcountTableOffset)) {
    return {
      tableIndex,
      tableEntryOffset: null,
      tableBytes: none,
      tableWord: 0n,
      blockOffset: null,
      entryOffset: null,
      entryBytes: none,
      count: 0n,
    };
  }
  const tableEntryOffset = refcountTableOffset + tableIndex * 8;
  const tableBytes = entryBytes(source, tableEntryOffset, 8);
  const tableWord = wordOf(tableBytes, 0, 'big');
  const block = safeNumber(tableWord & REFCOUNT_OFFSET_MASK);
  const found = { tableIndex, tableEntryOffset, tableBytes, tableWord };
  if (block === 0 || !Number.isSafeInteger(block + clusterSize)) {
    return { ...found, blockOffset: null, entryOffset: null, entryBytes: none, count: 0n };
  }
  const firstBit = (cluster - tableIndex * refcountBlockEntries) * refcountBits;
  const entryOffset = block + Math.floor(firstBit / 8);
  const bytes = entryBytes(source, entryOffset, Math.max(1, refcountBits / 8));
  return { ...found, blockOffset: block, entryOffset, entryBytes: bytes, count: countIn(bytes, refcountBits, firstBit % 8) };
}

/** A count out of its bytes: big-endian from 8 bits on; below, the least significant bits of a byte come first. */
function countIn(bytes: Uint8Array, refcountBits: number, bit: number): bigint {
  if (refcountBits < 8) {
    return BigInt(((bytes[0] ?? 0) >> bit) & ((1 << refcountBits) - 1));
  }
  return bytes.reduce((count, byte) => (count << 8n) | BigInt(byte), 0n) << BigInt(refcountBits - bytes.length * 8);
}
