import { readPadded } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import type { Qcow2Metadata } from '../metadata';
import { EXTENSION } from '../structures';
import type { HeaderFields } from './headerFields';
import type { HostRange } from './refcountTable';
import { load, wait, type Steps } from './steps';
import { setRefcount } from './words';
import { zeroOut } from './zeroOut';

/** What an image has that is being emptied; everything of it is on the disk, and nobody changes it meanwhile. */
interface Emptied {
  readonly storage: Storage;
  readonly metadata: Qcow2Metadata;
  readonly header: HeaderFields;
  readonly l1Table: HostRange;
  readonly refcountTable: HostRange;
}

/**
 * Makes all clusters of an image unallocated at once, by cutting its file off behind the structures that it always has; for images as they
 * usually are, with those at the beginning of the file and no others. The L1 table is empty on the disk before a refcount becomes less: a
 * crash leaves leaks at most. What is in memory of the tables has to be read again afterwards.
 * @returns false where the image is not like that; nothing is changed then
 * @throws EngineError `file.io`
 */
export function* emptyAtOnce(image: Emptied): Steps<boolean> {
  const { storage, metadata, l1Table, refcountTable } = image;
  const { clusterSize, refcountBits, refcountBlockEntries } = metadata;
  if (hasMore(image)) {
    return false;
  }
  const entry = yield* load(() => readPadded(storage, refcountTable.hostOffset, 8));
  const block = Number(new DataView(entry.buffer).getBigUint64(0));
  const places = [{ hostOffset: 0, length: clusterSize }, l1Table, refcountTable, { hostOffset: block, length: clusterSize }];
  const end = endTogether(places, clusterSize);
  if (end === null || end / clusterSize > refcountBlockEntries || end > storage.size) {
    return false;
  }
  yield* zeroOut(storage, l1Table.hostOffset, Math.ceil(l1Table.length / clusterSize) * clusterSize);
  yield storage.flush();
  const counts = new Uint8Array(clusterSize);
  for (let cluster = 0; cluster < end / clusterSize; cluster++) {
    setRefcount(new DataView(counts.buffer), cluster, refcountBits, 1);
  }
  const table = new Uint8Array(refcountTable.length);
  table.set(entry);
  yield* wait(storage.write(counts, block));
  yield* wait(storage.write(table, refcountTable.hostOffset));
  // No entry may lead past the end of the file.
  yield storage.flush();
  yield* wait(storage.truncate(end));
  yield storage.flush();
  return true;
}

/** Whether clusters are used by more than the guest's data and the tables that every image has. */
function hasMore({ metadata, header }: Emptied): boolean {
  const { version, hasDataFile, cryptMethod, extensions } = metadata;
  return (
    version < 3 ||
    hasDataFile ||
    cryptMethod === 2 ||
    header.bigint('nb_snapshots') > 0n ||
    extensions.some(({ type }) => type === EXTENSION.bitmaps || type === EXTENSION.encryption)
  );
}

/** Where ranges end that fill the beginning of the file together, each in whole clusters; null when they do not. */
function endTogether(places: readonly HostRange[], clusterSize: number): number | null {
  let end = 0;
  for (const { hostOffset, length } of places.filter((place) => place.length > 0).sort((a, b) => a.hostOffset - b.hostOffset)) {
    if (hostOffset !== end) {
      return null;
    }
    end += Math.ceil(length / clusterSize) * clusterSize;
  }
  return end;
}
