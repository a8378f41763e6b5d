import type { LayerView, Place } from '../../protocol/place';
import { compressedExtent, entryHex, hostOffsetOf, isCompressed } from './entries';
import { hex, type FindingText } from './findings';
import { ACTIVE, type L2TableSet } from './l2Tables';
import type { L1View } from './l2Walk';
import type { CheckedImage } from './opening';

/** What a broken entry means for the guest. */
export const CONSEQUENCE = {
  reserved: 'No known program sets these bits: the entry is damaged, and its other bits may be wrong too.',
  misalignedL2: 'QEMU refuses to read or write the whole range that this entry maps.',
  lostTable: 'The mapping of the whole range is lost: it reads as if it had never been written.',
  unreadable: 'The guest cannot read this cluster; QEMU answers with an error.',
  lostPastEnd: 'The data is lost: it reads as zeroes, and a cluster that is allocated there later will show through.',
  copiedCompressed: 'A write could go in place into compressed data that other clusters share.',
  copiedSet: 'A write goes in place, although the cluster may have other users: their data would change with it.',
  copiedClear: 'Nothing is lost: the next write copies the cluster without need, and the old one leaks.',
  noRefcounts: 'The clusters that it should count look free: a write can be given one that is in use.',
  pastEnd: 'What lies past the end is lost: it reads as zeroes.',
} as const;

export function layerView(snapshot: number): LayerView {
  return snapshot === ACTIVE ? { kind: 'active' } : { kind: 'snapshot', index: snapshot };
}

export function ofSnapshot(snapshot: number): string {
  return snapshot === ACTIVE ? '' : ` of snapshot ${snapshot}`;
}

/** A table's first reference: whose it is, and the guest cluster of its first entry. */
export function tableOwner(image: CheckedImage, set: L2TableSet, table: number): { readonly snapshot: number; readonly row: number } {
  return { snapshot: set.view[table] ?? ACTIVE, row: (set.l1Index[table] ?? 0) * image.metadata.l2Entries };
}

/** A finding about an L1 entry. */
export function l1EntryText(
  { metadata, clusterSize }: CheckedImage,
  view: L1View,
  index: number,
  high: number,
  low: number,
  message: string,
  consequence: string,
): FindingText {
  return {
    message: `L1 entry ${index}${ofSnapshot(view.snapshot)} at ${hex(view.hostOffset + index * 8)} is 0x${entryHex(high, low)}: ${message}`,
    consequence,
    place: { kind: 'tableRow', table: { kind: 'l1', view: layerView(view.snapshot) }, row: index },
    cluster: { kind: 'host', hostOffset: hostOffsetOf(high, low), length: clusterSize },
    guest: { guestOffset: index * metadata.l2Coverage, length: metadata.l2Coverage },
  };
}

/** How an L2 entry is named in a sentence. */
export function l2EntryTitle({ metadata, clusterSize }: CheckedImage, set: L2TableSet, table: number, index: number): string {
  const snapshot = set.view[table] ?? ACTIVE;
  const row = (set.l1Index[table] ?? 0) * metadata.l2Entries + index;
  const place = hex((set.hostOffset[table] ?? 0) + index * metadata.l2EntryBytes);
  return `L2 entry ${index}${ofSnapshot(snapshot)} at ${place}, for guest offset ${hex(row * clusterSize)},`;
}

export function l2EntryPlace(snapshot: number, row: number): Place {
  return { kind: 'tableRow', table: { kind: 'l2', view: layerView(snapshot) }, row };
}

/** A finding about an L2 entry. What is needed is taken now; a table's place in its set may be another's when the text is written. */
export function l2EntryText(
  image: CheckedImage,
  set: L2TableSet,
  table: number,
  index: number,
  high: number,
  low: number,
  message: string,
  consequence: string,
): () => FindingText {
  const title = l2EntryTitle(image, set, table, index);
  const { snapshot, row } = tableOwner(image, set, table);
  const { clusterSize, clusterBits } = image;
  return () => ({
    message: `${title} is 0x${entryHex(high, low)}: ${message}`,
    consequence,
    place: l2EntryPlace(snapshot, row + index),
    cluster: {
      kind: 'host',
      ...(isCompressed(high) ? compressedExtent(high, low, clusterBits) : { hostOffset: hostOffsetOf(high, low), length: clusterSize }),
    },
    guest: { guestOffset: (row + index) * clusterSize, length: clusterSize },
  });
}
