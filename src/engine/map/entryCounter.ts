import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { HOST } from './hostClass';
import type { ReferenceCounts } from './referenceCounts';
import type { EntryBuffer } from './tableAccess';

/** Where L2 entries are counted, and the range of clusters that they name. */
export interface EntryCounter {
  readonly references: ReferenceCounts;
  readonly clusterSize: number;
  /** How often the table itself is referenced: each entry counts so often. */
  weight: number;
  lowest: number;
  highest: number;
}

const COMPRESSED_HIGH = 0x40000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = ~0x1ff;
const HIGH = 2 ** 32;
const SECTOR = 512;

/** Counts the entries of a piece of a qcow2 L2 table. With an external data file they name nothing in this file. */
export function countQcow2Entries(
  { words, view }: EntryBuffer,
  at: number,
  length: number,
  metadata: Qcow2Metadata,
  counter: EntryCounter,
): void {
  const { references, weight } = counter;
  const scale = 1 / metadata.clusterSize;
  const step = metadata.l2EntryBytes;
  const dataHere = !metadata.hasDataFile;
  let { lowest, highest } = counter;
  for (let entry = at; entry < at + length; entry += step) {
    // -0 is an entry without an offset, too.
    if (words[entry >>> 3] === 0) {
      continue;
    }
    const high = view.getUint32(entry);
    const low = view.getUint32(entry + 4);
    if ((high & COMPRESSED_HIGH) !== 0) {
      const { hostOffset, length: bytes } = compressedRange(high, low, metadata.clusterBits);
      const from = Math.floor(hostOffset * scale);
      const to = Math.floor((hostOffset + bytes - 1) * scale);
      for (let cluster = from; cluster <= to; cluster++) {
        references.add(cluster, HOST.compressed, weight);
      }
      lowest = from < lowest ? from : lowest;
      highest = to > highest ? to : highest;
      continue;
    }
    const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
    if (offset !== 0 && dataHere) {
      const cluster = Math.floor(offset * scale);
      references.add(cluster, HOST.data, weight);
      lowest = cluster < lowest ? cluster : lowest;
      highest = cluster > highest ? cluster : highest;
    }
  }
  counter.lowest = lowest;
  counter.highest = highest;
}

/** Counts the entries of a piece of a QED L2 table; 0 and 1 are no offsets. */
export function countQedEntries({ halves, view }: EntryBuffer, at: number, length: number, counter: EntryCounter): void {
  const { references, clusterSize, weight } = counter;
  for (let entry = at; entry < at + length; entry += 8) {
    if ((halves[entry >>> 2]! | halves[(entry >>> 2) + 1]!) === 0) {
      continue;
    }
    const offset = view.getUint32(entry + 4, true) * HIGH + view.getUint32(entry, true);
    if (offset > 1) {
      const cluster = Math.floor(offset / clusterSize);
      references.add(cluster, HOST.data, weight);
      counter.lowest = cluster < counter.lowest ? cluster : counter.lowest;
      counter.highest = cluster > counter.highest ? cluster : counter.highest;
    }
  }
}

/** The bytes that a compressed cluster descriptor names, to the end of its last sector. */
export function compressedRange(high: number, low: number, clusterBits: number): { readonly hostOffset: number; readonly length: number } {
  // The offset has 70 - cluster_bits bits, 49 to 61: the number of sectors lies wholly in the upper half.
  const offsetBits = 70 - clusterBits - 32;
  const hostOffset = (high & (2 ** offsetBits - 1)) * HIGH + low;
  const sectors = ((high & 0x3fffffff) >>> offsetBits) + 1;
  return { hostOffset, length: sectors * SECTOR - (hostOffset % SECTOR) };
}
