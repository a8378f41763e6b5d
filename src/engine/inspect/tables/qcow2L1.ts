import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { LayerView } from '../../../protocol/place';
import type { L1Location } from '../../formats/qcow2/tables';
import type { Pace } from '../../pace';
import { LIMITS } from '../../formats/qcow2/structures';
import { L1_DECLARATIONS } from './declarations';
import { l1EntryView, type EntryContext } from './qcow2Entries';
import { emptyRow, entryRow, nextUsedEntry, type TableReader } from './tableReader';
import { entryBytes, wordOf } from './wordRead';

/** Entries of an L1 table that are looked at: what the format allows. */
export function l1Entries({ entries }: L1Location): number {
  return Math.min(entries, LIMITS.maxL1Bytes / 8);
}

/** The L1 table of the active layer or of a snapshot. */
export class Qcow2L1Reader implements TableReader {
  readonly capacity: number;
  private readonly view: LayerView;
  private readonly title: string;
  private readonly location: L1Location;
  private readonly context: EntryContext;

  constructor(view: LayerView, title: string, location: L1Location, context: EntryContext) {
    this.view = view;
    this.title = title;
    this.location = location;
    this.context = context;
    this.capacity = l1Entries(location);
  }

  async shape(): Promise<TableShape> {
    return Promise.resolve({
      table: { kind: 'l1', view: this.view },
      title: this.title,
      rows: this.capacity,
      rowsPerParent: 0,
      entries: L1_DECLARATIONS,
    });
  }

  row(row: number): TableRow {
    const { metadata } = this.context;
    const hostOffset = this.location.hostOffset + row * 8;
    if (!Number.isSafeInteger(hostOffset)) {
      return emptyRow(row, 'unallocated', 'The table lies past 2^53-1.');
    }
    const bytes = entryBytes(metadata.source, hostOffset, 8);
    const result = entryRow(row, hostOffset, bytes, 8, l1EntryView(wordOf(bytes, 0, 'big'), this.context));
    const guestOffset = row * metadata.l2Coverage;
    return {
      ...result,
      guestOffset: Number.isSafeInteger(guestOffset) ? guestOffset : null,
      target:
        result.targetOffset === null ? null : { kind: 'tableRow', table: { kind: 'l2', view: this.view }, row: row * metadata.l2Entries },
    };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const table = { hostOffset: this.location.hostOffset, entries: this.capacity, entryBytes: 8 };
    return nextUsedEntry(this.context.metadata.source, table, row + (backwards ? -1 : 1), backwards, pace);
  }
}
