import type { EntryDeclaration } from '../../../protocol/inspect';
import {
  BITMAP_TABLE_ENTRY,
  compressedEntry,
  L1_ENTRY,
  L2_ENTRY,
  REFCOUNT_TABLE_ENTRY,
  SUBCLUSTER_BITMAP,
} from '../../formats/qcow2/structures';
import type { EntryStructure } from '../../layout/fields';

/** A declared entry in the form that crosses to the editor. */
function declare(structure: EntryStructure, kinds: readonly string[] | null = null): EntryDeclaration {
  return {
    title: structure.title,
    kinds,
    littleEndian: structure.order === 'little',
    bits: structure.bits.map(({ name, lowBit, width, show = 'number', meaning }) => ({ name, lowBit, width, show, meaning })),
  };
}

/** An entry of two words: the second word's bits count on from 64. */
function withSecondWord(first: EntryDeclaration, second: EntryStructure): EntryDeclaration {
  const bits = second.bits.map(({ name, lowBit, width, meaning }) => ({ name, lowBit: lowBit + 64, width, show: 'hex' as const, meaning }));
  return { ...first, bits: [...first.bits, ...bits] };
}

export const L1_DECLARATIONS: readonly EntryDeclaration[] = [declare(L1_ENTRY)];
export const REFCOUNT_TABLE_DECLARATIONS: readonly EntryDeclaration[] = [declare(REFCOUNT_TABLE_ENTRY)];
export const BITMAP_TABLE_DECLARATIONS: readonly EntryDeclaration[] = [declare(BITMAP_TABLE_ENTRY)];

/** L2 entries: compressed clusters have a descriptor of their own. */
export function l2Declarations(clusterBits: number, extendedL2: boolean): readonly EntryDeclaration[] {
  const compressed = declare(compressedEntry(clusterBits), ['compressed']);
  const standard = declare(L2_ENTRY);
  return extendedL2 ? [compressed, standard].map((entry) => withSecondWord(entry, SUBCLUSTER_BITMAP)) : [compressed, standard];
}

/** A refcount of `bits` bits. */
export function refcountDeclarations(bits: number): readonly EntryDeclaration[] {
  if (bits < 8) {
    // Several counts share the byte that a row shows; the row says which count is meant.
    return [];
  }
  const meaning = 'Number of references to the host cluster; 0 is free.';
  return [
    { title: 'refcount', kinds: null, littleEndian: false, bits: [{ name: 'refcount', lowBit: 0, width: bits, show: 'number', meaning }] },
  ];
}

const QED_OFFSET_MEANING = 'Where the table or cluster lies; 0 is unallocated.';

export function qedDeclarations(level: 'l1' | 'l2'): readonly EntryDeclaration[] {
  const meaning = level === 'l1' ? QED_OFFSET_MEANING : `${QED_OFFSET_MEANING} 1 is a cluster of zeroes.`;
  return [
    {
      title: `${level.toUpperCase()} table entry`,
      kinds: null,
      littleEndian: true,
      bits: [{ name: 'offset', lowBit: 0, width: 64, show: 'hostOffset', meaning }],
    },
  ];
}
