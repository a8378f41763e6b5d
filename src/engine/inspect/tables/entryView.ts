import type { GuestClass } from '../../../protocol/inspect';
import { extractBits } from '../../layout/codec';
import type { EntryStructure } from '../../layout/fields';
import { hex } from '../wording';

/** A table entry as a person reads it. */
export interface EntryView {
  /** One short word: `data`, `zero`, `table`, ... */
  readonly kind: string;
  /** What the guest finds there; for mapping entries only. */
  readonly guestClass: GuestClass;
  /** Host bytes that it names; null when it names none, or a place past 2^53-1. */
  readonly targetOffset: number | null;
  /** Bytes. */
  readonly targetLength: number | null;
  readonly flags: readonly string[];
  readonly subclusters: { readonly allocated: number; readonly zero: number } | null;
  /** The declared parts, in words. */
  readonly decoded: string;
  /** What is wrong with it, one sentence each. */
  readonly problems: readonly string[];
}

/** Names of the flags that are set, by the entry's declaration. */
export function entryFlags(word: bigint, { bits }: EntryStructure): string[] {
  return bits.filter((range) => range.show === 'flag' && extractBits(word, range) !== 0n).map(({ name }) => name);
}

/** Every part of an entry that is not zero: `host_cluster_offset 0x50000, OFLAG_COPIED`. */
export function describeEntry(word: bigint, { bits }: EntryStructure): string {
  const parts = bits.flatMap((range) => {
    const value = extractBits(word, range);
    if (value === 0n) {
      return [];
    }
    switch (range.show) {
      case 'flag':
        return [range.name];
      case 'hostOffset':
        return [`${range.name} ${hex(value)}`];
      case 'reserved':
        return [`reserved bits ${hex(value << BigInt(range.lowBit))}`];
      default:
        return [`${range.name} ${value}`];
    }
  });
  return parts.length === 0 ? 'all zero' : parts.join(', ');
}

/** The reserved bits that are set, as a sentence; null when all are zero. */
export function reservedProblem(word: bigint, { bits }: EntryStructure): string | null {
  const set = bits
    .filter(({ show }) => show === 'reserved')
    .reduce((sum, range) => sum | (extractBits(word, range) << BigInt(range.lowBit)), 0n);
  return set === 0n ? null : `Reserved bits ${hex(set)} are set.`;
}

/**
 * Whether a reference reaches too far: a file may end inside its last cluster, so QEMU's check forgives what reaches less than a cluster
 * past the end.
 */
export function pastEndProblem(hostOffset: number, length: number, fileSize: number, clusterSize: number): string | null {
  return hostOffset + length - fileSize > clusterSize ? `${hex(hostOffset)} lies past the end of the file (${hex(fileSize)}).` : null;
}
