import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { Qcow2Bitmap } from '../../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import type { Pace } from '../../pace';
import { visible } from '../wording';
import { BITMAP_TABLE_DECLARATIONS } from './declarations';
import { bitmapTableEntryView } from './qcow2Entries';
import { emptyRow, entryRow, nextUsedEntry, type TableReader } from './tableReader';
import { entryBytes, wordOf } from './wordRead';

/** What QEMU accepts at most. */
export const MAX_BITMAP_TABLE_ENTRIES = 0x8000000;

/** The table of one persistent bitmap: row = cluster of bits. */
export class BitmapTableReader implements TableReader {
  readonly capacity: number;
  private readonly metadata: Qcow2Metadata;
  private readonly bitmap: Qcow2Bitmap;

  constructor(metadata: Qcow2Metadata, bitmap: Qcow2Bitmap) {
    this.metadata = metadata;
    this.bitmap = bitmap;
    this.capacity = Math.min(bitmap.tableEntries, MAX_BITMAP_TABLE_ENTRIES);
  }

  async shape(): Promise<TableShape> {
    const { index, name } = this.bitmap;
    return Promise.resolve({
      table: { kind: 'bitmapTable', index },
      title: `Bitmap table of '${visible(name)}'`,
      rows: this.capacity,
      rowsPerParent: 0,
      entries: BITMAP_TABLE_DECLARATIONS,
    });
  }

  row(row: number): TableRow {
    const { source, clusterSize } = this.metadata;
    const hostOffset = this.bitmap.tableOffset + row * 8;
    if (!Number.isSafeInteger(hostOffset)) {
      return emptyRow(row, 'all zeroes', 'The table lies past 2^53-1.');
    }
    const bytes = entryBytes(source, hostOffset, 8);
    const guestOffset = row * clusterSize * 8 * this.bitmap.granularity;
    return {
      ...entryRow(row, hostOffset, bytes, 8, bitmapTableEntryView(wordOf(bytes, 0, 'big'), this.metadata)),
      guestOffset: Number.isSafeInteger(guestOffset) ? guestOffset : null,
    };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const table = { hostOffset: this.bitmap.tableOffset, entries: this.capacity, entryBytes: 8 };
    return nextUsedEntry(this.metadata.source, table, row + (backwards ? -1 : 1), backwards, pace);
  }
}
