import type { LayerView } from '../../../protocol/place';
import { ENCRYPTION_EXTENSION, EXTENSION, LIMITS } from '../../formats/qcow2/structures';
import { Decoded } from '../../layout/codec';
import type { Pace } from '../../pace';
import type { Qcow2Context } from '../qcow2Context';
import { MAX_BITMAP_TABLE_ENTRIES } from '../tables/qcow2BitmapTable';
import { l1Entries } from '../tables/qcow2L1';
import { refcountTableEntries } from '../tables/refcountLookup';
import { hex, visible } from '../wording';
import type { Claim } from './paint';
import { scanWords } from './wordScan';

/** Offsets of L1 and bitmap table entries end at bit 55, those of refcount table entries at bit 63. */
const OFFSET_HIGH = 0x00ffffff;
const REFCOUNT_HIGH = 0xffffffff;
/** Entries of all L1 and bitmap tables together that are looked through for a name: half a gigabyte of tables. */
const MAX_TOP_ENTRIES = 2 ** 26;

/** The metadata of a qcow2 image that lies in [from, to): everything but data clusters, found through the top tables alone. */
export async function qcow2Structures(context: Qcow2Context, from: number, to: number, pace: Pace): Promise<Claim[]> {
  const claims = fixedStructures(context).filter(({ start, end }) => start < to && end > from);
  const { metadata } = context;
  const { source, clusterSize, refcountTableOffset, refcountBlockEntries, l2Entries } = metadata;
  const low = Math.floor(from / clusterSize) * clusterSize - clusterSize + 1;
  const words = { source, order: 'big' } as const;
  await scanWords(
    { ...words, hostOffset: refcountTableOffset, words: refcountTableEntries(metadata), highMask: REFCOUNT_HIGH },
    low,
    to,
    pace,
    (index, start) => {
      const label = `refcount block ${index} (clusters from ${hex(index * refcountBlockEntries)})`;
      const place = { kind: 'tableRow', table: { kind: 'refcounts' }, row: index * refcountBlockEntries } as const;
      claims.push({ start, end: start + clusterSize, class: 'refcountBlock', label, place });
    },
  );
  let left = MAX_TOP_ENTRIES;
  for (const view of views(context)) {
    const { l1, suffix } = context.view(view);
    const entries = Math.min(l1Entries(l1), left);
    left -= entries;
    await scanWords({ ...words, hostOffset: l1.hostOffset, words: entries, highMask: OFFSET_HIGH }, low, to, pace, (index, start) => {
      const place = { kind: 'tableRow', table: { kind: 'l2', view }, row: index * l2Entries } as const;
      claims.push({ start, end: start + clusterSize, class: 'l2', label: `L2 table ${index}${suffix} (of L1 entry ${index})`, place });
    });
  }
  for (const bitmap of context.bitmaps.bitmaps) {
    const entries = Math.min(bitmap.tableEntries, MAX_BITMAP_TABLE_ENTRIES, left);
    left -= entries;
    await scanWords({ ...words, hostOffset: bitmap.tableOffset, words: entries, highMask: OFFSET_HIGH }, low, to, pace, (index, start) => {
      const place = { kind: 'tableRow', table: { kind: 'bitmapTable', index: bitmap.index }, row: index } as const;
      claims.push({ start, end: start + clusterSize, class: 'bitmap', label: `bits ${index} of bitmap '${visible(bitmap.name)}'`, place });
    });
  }
  return claims;
}

function views(context: Qcow2Context): LayerView[] {
  return [{ kind: 'active' }, ...context.snapshots.snapshots.map(({ index }): LayerView => ({ kind: 'snapshot', index }))];
}

/** Structures whose place the header or a directory says. */
function fixedStructures(context: Qcow2Context): Claim[] {
  const { metadata } = context;
  const { clusterSize, refcountTableOffset } = metadata;
  const claims: Claim[] = [
    { start: 0, end: clusterSize, class: 'header', label: 'header and header extensions', place: { kind: 'host', hostOffset: 0 } },
  ];
  const claim = (start: number, length: number, rest: Pick<Claim, 'class' | 'label' | 'place'>): void => {
    // A structure occupies whole clusters.
    const end = Math.ceil((start + length) / clusterSize) * clusterSize;
    if (Number.isSafeInteger(end) && length > 0) {
      claims.push({ ...rest, start, end });
    }
  };
  claim(refcountTableOffset, refcountTableEntries(metadata) * 8, {
    class: 'refcountTable',
    label: 'refcount table',
    place: { kind: 'tableRow', table: { kind: 'refcountTable' }, row: 0 },
  });
  for (const view of views(context)) {
    const { l1, suffix } = context.view(view);
    const place = { kind: 'tableRow', table: { kind: 'l1', view }, row: 0 } as const;
    claim(l1.hostOffset, l1Entries(l1) * 8, { class: 'l1', label: `L1 table${suffix}`, place });
  }
  const { snapshots, length } = context.snapshots;
  if (snapshots.length > 0) {
    claim(metadata.snapshotsOffset, length, { class: 'snapshotTable', label: 'snapshot table', place: { kind: 'snapshot', index: 0 } });
  }
  const { bitmaps, directoryOffset, directorySize } = context.bitmaps;
  if (bitmaps.length > 0) {
    const bounded = Math.min(directorySize, LIMITS.maxSnapshotTableBytes);
    claim(directoryOffset, bounded, { class: 'bitmap', label: 'bitmap directory', place: { kind: 'bitmap', index: 0 } });
  }
  for (const { index, name, tableOffset, tableEntries } of bitmaps) {
    const place = { kind: 'tableRow', table: { kind: 'bitmapTable', index }, row: 0 } as const;
    const bytes = Math.min(tableEntries, MAX_BITMAP_TABLE_ENTRIES) * 8;
    claim(tableOffset, bytes, { class: 'bitmap', label: `table of bitmap '${visible(name)}'`, place });
  }
  const encryption = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
  if (encryption) {
    const pointer = new Decoded(ENCRYPTION_EXTENSION, encryption.data);
    const offset = pointer.number('offset');
    claim(offset, pointer.number('length'), {
      class: 'encryption',
      label: 'encryption header',
      place: { kind: 'host', hostOffset: offset },
    });
  }
  return claims;
}
