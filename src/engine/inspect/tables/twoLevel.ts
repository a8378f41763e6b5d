import type { ByteSource } from '../../io/source';
import type { Pace } from '../../pace';
import { nextUsedEntry } from './tableReader';

/** A table of tables: L1 and its L2 tables, as rows of the second level one after the other. */
export interface TwoLevel {
  readonly source: ByteSource;
  readonly top: { readonly hostOffset: number; readonly entries: number };
  /** Bytes of an entry in the second level. */
  readonly entryBytes: number;
  /** Entries of one second-level table. */
  readonly perTable: number;
  readonly rows: number;
  /** Where the second-level table of a top entry lies; 0 when there is none, or none that can be read. */
  tableAt(index: number): number;
}

const TOP_ENTRY_BYTES = 8;
/** Tables known to be empty that are remembered: a hostile top table names the same one millions of times. */
const MAX_REMEMBERED = 65_536;

/** The next (previous) row that is not empty, `row` excluded; -1 when there is none. */
export async function nextUsedBelow(tables: TwoLevel, row: number, backwards: boolean, pace: Pace): Promise<number> {
  const { source, top, entryBytes, perTable, rows } = tables;
  const step = backwards ? -1 : 1;
  const empty = new Set<number>();
  let at = row + step;
  while (at >= 0 && at < rows) {
    const index = Math.floor(at / perTable);
    const hostOffset = tables.tableAt(index);
    if (hostOffset > 0 && !empty.has(hostOffset)) {
      const found = await nextUsedEntry(source, { hostOffset, entries: perTable, entryBytes }, at - index * perTable, backwards, pace);
      if (found >= 0) {
        const result = index * perTable + found;
        return result < rows ? result : -1;
      }
      // A table that was entered in its middle may still hold something on the other side.
      if (empty.size < MAX_REMEMBERED && at === (backwards ? (index + 1) * perTable - 1 : index * perTable)) {
        empty.add(hostOffset);
      }
    }
    const next = await nextUsedEntry(source, { ...top, entryBytes: TOP_ENTRY_BYTES }, index + step, backwards, pace);
    if (next < 0) {
      return -1;
    }
    at = backwards ? (next + 1) * perTable - 1 : next * perTable;
    if (pace.due()) {
      await pace.turn(backwards ? row - at : at - row, backwards ? row : rows - row);
    }
  }
  return -1;
}
