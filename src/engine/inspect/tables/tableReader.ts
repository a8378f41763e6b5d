import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { ByteSource } from '../../io/source';
import type { Pace } from '../../pace';
import { hexBytes } from '../wording';
import type { EntryView } from './entryView';
import { findNonZero } from './scan';

/** One table of an image as rows that are read when they are asked for, each by itself. */
export interface TableReader {
  shape(pace: Pace): Promise<TableShape>;
  /** Rows that can be asked for at most; `shape` may show fewer. */
  readonly capacity: number;
  row(row: number): TableRow;
  /** The next row after (before) `row` that is not empty, -1 when there is none. */
  nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number>;
}

/** A row without an entry in the file. */
export function emptyRow(row: number, kind: string, problem: string | null = null): TableRow {
  return {
    row,
    hostOffset: null,
    rawHex: '',
    kind,
    target: null,
    guestOffset: null,
    targetOffset: null,
    targetLength: null,
    flags: [],
    subclusters: null,
    refcount: null,
    problem,
  };
}

/** A row that an entry stands in. */
export function entryRow(row: number, hostOffset: number, bytes: Uint8Array, entryLength: number, view: EntryView): TableRow {
  const cut = bytes.length < entryLength ? ['The entry lies past the end of the file, where it reads as zero.'] : [];
  const problems = [...cut, ...view.problems];
  return {
    ...emptyRow(row, view.kind, problems.length === 0 ? null : problems.join(' ')),
    hostOffset,
    rawHex: hexBytes(bytes),
    target: view.targetOffset === null ? null : { kind: 'host', hostOffset: view.targetOffset, length: view.targetLength ?? 0 },
    targetOffset: view.targetOffset,
    targetLength: view.targetLength,
    flags: view.flags,
    subclusters: view.subclusters,
  };
}

/** The next (previous) entry of a plain table that is not zero; -1 when there is none. `from` is looked at itself. */
export async function nextUsedEntry(
  source: ByteSource,
  table: { readonly hostOffset: number; readonly entries: number; readonly entryBytes: number },
  from: number,
  backwards: boolean,
  pace: Pace,
): Promise<number> {
  const { hostOffset, entries, entryBytes } = table;
  if (!Number.isSafeInteger(hostOffset) || from < 0 || from >= entries) {
    return -1;
  }
  const start = backwards ? hostOffset : hostOffset + from * entryBytes;
  const end = backwards ? hostOffset + (from + 1) * entryBytes : hostOffset + entries * entryBytes;
  const found = await findNonZero(source, start, end, backwards, pace);
  return found < 0 ? -1 : Math.floor((found - hostOffset) / entryBytes);
}
