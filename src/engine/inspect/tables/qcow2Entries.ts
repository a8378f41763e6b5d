import type { GuestClass } from '../../../protocol/inspect';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import {
  BITMAP_OFFSET_MASK,
  BITMAP_TABLE_ENTRY,
  compressedEntry,
  L1_ENTRY,
  L1_OFFSET_MASK,
  L2_ENTRY,
  L2_OFFSET_MASK,
  OFLAG_COMPRESSED,
  OFLAG_COPIED,
  OFLAG_ZERO,
  REFCOUNT_OFFSET_MASK,
  REFCOUNT_TABLE_ENTRY,
  SUBCLUSTER_BITMAP,
} from '../../formats/qcow2/structures';
import { safeNumber } from '../../layout/codec';
import type { EntryStructure } from '../../layout/fields';
import { hex } from '../wording';
import { describeEntry, entryFlags, pastEndProblem, reservedProblem, type EntryView } from './entryView';

const SECTOR = 512;
const ALL_SUBCLUSTERS = 0xffffffff;

/** What entries are judged by, beside their own bits. */
export interface EntryContext {
  readonly metadata: Qcow2Metadata;
  /** Bytes of the file that guest data lies in; null when it is not open, and then nothing is said about its end. */
  readonly dataSize: number | null;
  /** Absolute path of the external data file, when there is one and it is open. */
  readonly dataPath: string | null;
  /** On-disk refcount of a host cluster; null where it cannot be read. */
  readonly refcount: (hostOffset: number) => bigint | null;
  /** Whether COPIED must agree with refcounts: in the tables of the active layer, not in a snapshot's. */
  readonly judgeCopied: boolean;
}

export function l1EntryView(word: bigint, context: EntryContext): EntryView {
  const { metadata } = context;
  const offset = word & L1_OFFSET_MASK;
  const view = pointer(word, L1_ENTRY, offset, metadata);
  return offset === 0n
    ? view
    : { ...view, kind: 'table', problems: [...view.problems, ...copiedProblems(word, view.targetOffset, context)] };
}

export function refcountTableEntryView(word: bigint, metadata: Qcow2Metadata): EntryView {
  const view = pointer(word, REFCOUNT_TABLE_ENTRY, word & REFCOUNT_OFFSET_MASK, metadata);
  return view.targetOffset === null ? view : { ...view, kind: 'block' };
}

export function bitmapTableEntryView(word: bigint, metadata: Qcow2Metadata): EntryView {
  const offset = word & BITMAP_OFFSET_MASK;
  const view = pointer(word, BITMAP_TABLE_ENTRY, offset, metadata);
  const allOnes = (word & 1n) !== 0n;
  if (offset !== 0n) {
    const problems = allOnes ? [...view.problems, 'all_ones is set beside an offset.'] : view.problems;
    return { ...view, kind: 'bits', problems };
  }
  return { ...view, kind: allOnes ? 'all ones' : 'all zeroes' };
}

/** An entry that names one host cluster and nothing else. */
function pointer(word: bigint, structure: EntryStructure, offset: bigint, metadata: Qcow2Metadata): EntryView {
  const { clusterSize, source } = metadata;
  const target = offset === 0n ? null : safeNumber(offset);
  const problems = [reservedProblem(word, structure), ...targetProblems(offset, clusterSize, source.size, clusterSize)];
  return {
    kind: 'unallocated',
    guestClass: 'unknown',
    targetOffset: finite(target),
    targetLength: target === null ? null : clusterSize,
    flags: entryFlags(word, structure),
    subclusters: null,
    decoded: describeEntry(word, structure),
    problems: present(problems),
  };
}

/** @param bitmap second word of an extended L2 entry; null for standard entries */
export function l2EntryView(word: bigint, bitmap: bigint | null, context: EntryContext): EntryView {
  return (word & OFLAG_COMPRESSED) === 0n ? standardView(word, bitmap, context) : compressedView(word, bitmap, context);
}

function standardView(word: bigint, bitmap: bigint | null, context: EntryContext): EntryView {
  const { metadata, dataSize } = context;
  const offset = word & L2_OFFSET_MASK;
  // Offset 0 is the first cluster of an external data file when COPIED stands beside it, and no cluster otherwise.
  const allocated = offset !== 0n || (metadata.hasDataFile && (word & OFLAG_COPIED) !== 0n);
  const zero = (word & OFLAG_ZERO) !== 0n;
  const subclusters = bitmap === null ? null : { allocated: Number(bitmap & 0xffffffffn), zero: Number(bitmap >> 32n) };
  const target = allocated ? safeNumber(offset) : null;
  const readable = target !== Infinity && !(zero && bitmap === null && metadata.version < 3);
  const plainClass = zero && bitmap === null ? 'zero' : allocated ? 'data' : 'unallocated';
  const guestClass = !readable ? 'unknown' : subclusters ? subclusterClass(subclusters, allocated) : plainClass;
  const problems = [
    reservedProblem(word, L2_ENTRY),
    zero && bitmap !== null ? 'Bit 0 is set, which extended L2 entries reserve.' : null,
    zero && bitmap === null && metadata.version < 3 ? 'OFLAG_ZERO is set in a version 2 image, which does not have it.' : null,
    ...(subclusters ? subclusterProblems(subclusters, allocated) : []),
    ...(allocated ? targetProblems(offset, metadata.clusterSize, dataSize, metadata.clusterSize) : []),
    ...(allocated ? copiedProblems(word, finite(target), context) : []),
  ];
  return {
    kind: subclusters && isMixed(subclusters) ? 'subclusters' : guestClass,
    guestClass,
    targetOffset: finite(target),
    targetLength: target === null ? null : metadata.clusterSize,
    flags: entryFlags(word, L2_ENTRY),
    subclusters,
    decoded: withBitmap(describeEntry(word, L2_ENTRY), bitmap),
    problems: present(problems),
  };
}

function compressedView(word: bigint, bitmap: bigint | null, context: EntryContext): EntryView {
  const { metadata, dataSize } = context;
  const structure = compressedEntry(metadata.clusterBits);
  const { offset, length } = compressedRange(word, metadata.clusterBits);
  const problems = [
    (word & OFLAG_COPIED) === 0n ? null : 'OFLAG_COPIED is set, which a compressed cluster never has.',
    metadata.hasDataFile ? 'Compressed clusters cannot lie in an external data file.' : null,
    bitmap === null || bitmap === 0n ? null : 'The subcluster bitmap of a compressed cluster must be zero.',
    Number.isFinite(offset) && dataSize !== null ? pastEndProblem(offset, length, dataSize, metadata.clusterSize) : null,
    Number.isFinite(offset) ? null : 'The offset is past 2^53-1.',
  ];
  return {
    kind: 'compressed',
    guestClass: metadata.hasDataFile || !Number.isFinite(offset) ? 'unknown' : 'compressed',
    targetOffset: finite(offset),
    targetLength: length,
    flags: entryFlags(word, structure),
    subclusters: bitmap === null || bitmap === 0n ? null : { allocated: Number(bitmap & 0xffffffffn), zero: Number(bitmap >> 32n) },
    decoded: withBitmap(describeEntry(word, structure), bitmap),
    problems: present(problems),
  };
}

/** Host bytes of a compressed cluster: from its first byte to the end of its last 512-byte sector. */
export function compressedRange(word: bigint, clusterBits: number): { readonly offset: number; readonly length: number } {
  const x = BigInt(62 - (clusterBits - 8));
  const offset = safeNumber(word & ((1n << x) - 1n));
  const additional = Number((word & (OFLAG_COMPRESSED - 1n)) >> x);
  return { offset, length: (additional + 1) * SECTOR - (Number.isFinite(offset) ? offset % SECTOR : 0) };
}

/** What one subcluster reads as. */
export function subclusterClassAt(
  { allocated, zero }: { readonly allocated: number; readonly zero: number },
  index: number,
  hasCluster: boolean,
): GuestClass {
  const bit = 2 ** index;
  const isZero = Math.floor(zero / bit) % 2 === 1;
  const isAllocated = Math.floor(allocated / bit) % 2 === 1;
  if (isZero) {
    return isAllocated ? 'unknown' : 'zero';
  }
  return isAllocated ? (hasCluster ? 'data' : 'unknown') : 'unallocated';
}

function isMixed({ allocated, zero }: { readonly allocated: number; readonly zero: number }): boolean {
  return !(
    (allocated === 0 || allocated === ALL_SUBCLUSTERS) &&
    (zero === 0 || zero === ALL_SUBCLUSTERS) &&
    (allocated === 0 || zero === 0)
  );
}

function subclusterClass({ allocated, zero }: { readonly allocated: number; readonly zero: number }, hasCluster: boolean): GuestClass {
  if (allocated !== 0) {
    return hasCluster ? 'data' : 'unknown';
  }
  return zero !== 0 ? 'zero' : 'unallocated';
}

function subclusterProblems(
  { allocated, zero }: { readonly allocated: number; readonly zero: number },
  hasCluster: boolean,
): (string | null)[] {
  const both = (BigInt(allocated) & BigInt(zero)) !== 0n;
  return [
    both ? 'A subcluster is marked both allocated and zero.' : null,
    allocated !== 0 && !hasCluster ? 'Subclusters are marked allocated, but no host cluster is.' : null,
  ];
}

function withBitmap(text: string, bitmap: bigint | null): string {
  return bitmap === null ? text : `${text}; ${SUBCLUSTER_BITMAP.title}: ${describeSubclusters(bitmap)}`;
}

function describeSubclusters(bitmap: bigint): string {
  return `allocated 0x${(bitmap & 0xffffffffn).toString(16).padStart(8, '0')}, zero 0x${(bitmap >> 32n).toString(16).padStart(8, '0')}`;
}

function targetProblems(offset: bigint, length: number, fileSize: number | null, clusterSize: number): (string | null)[] {
  if (offset === 0n) {
    return [];
  }
  const target = safeNumber(offset);
  if (!Number.isFinite(target)) {
    return [`The offset ${hex(offset)} is past 2^53-1.`];
  }
  return [
    target % clusterSize === 0 ? null : `The offset ${hex(target)} is not aligned to a cluster (${hex(clusterSize)}).`,
    fileSize === null ? null : pastEndProblem(target, length, fileSize, clusterSize),
  ];
}

/** COPIED says that the refcount is exactly one; clusters of an external data file have no refcount and always carry it. */
function copiedProblems(word: bigint, target: number | null, { refcount, judgeCopied }: EntryContext): string[] {
  const count = judgeCopied && target !== null ? refcount(target) : null;
  if (count === null) {
    return [];
  }
  const copied = (word & OFLAG_COPIED) !== 0n;
  if (copied === (count === 1n)) {
    return count === 0n ? ['The refcount of the cluster is 0 although it is in use.'] : [];
  }
  return [copied ? `OFLAG_COPIED is set, but the refcount is ${count}.` : 'OFLAG_COPIED is not set, but the refcount is 1.'];
}

function finite(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null;
}

function present(problems: readonly (string | null)[]): string[] {
  return problems.filter((problem) => problem !== null);
}
