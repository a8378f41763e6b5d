import type { QedMetadata } from '../../formats/qed/metadata';
import type { Pace } from '../../pace';
import type { Claim } from './paint';
import { scanWords } from './wordScan';

/** The metadata of a QED image that lies in [from, to). */
export async function qedStructures(metadata: QedMetadata, from: number, to: number, pace: Pace): Promise<Claim[]> {
  const { source, headerBytes, l1TableOffset, tableBytes, tableEntries } = metadata;
  const view = { kind: 'active' } as const;
  const claims: Claim[] = [
    { start: 0, end: headerBytes, class: 'header', label: 'header', place: { kind: 'host', hostOffset: 0 } },
    {
      start: l1TableOffset,
      end: l1TableOffset + tableBytes,
      class: 'l1',
      label: 'L1 table',
      place: { kind: 'tableRow', table: { kind: 'l1', view }, row: 0 },
    },
  ];
  await scanWords(
    { source, order: 'little', hostOffset: l1TableOffset, words: tableEntries, highMask: 0xffffffff },
    from - tableBytes + 1,
    to,
    pace,
    (index, start) => {
      const place = { kind: 'tableRow', table: { kind: 'l2', view }, row: index * tableEntries } as const;
      claims.push({ start, end: start + tableBytes, class: 'l2', label: `L2 table ${index} (of L1 entry ${index})`, place });
    },
  );
  return claims;
}
