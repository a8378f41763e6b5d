import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { LayerView, Place } from '../../../protocol/place';
import type { L1Location } from '../../formats/qcow2/tables';
import { L1_OFFSET_MASK } from '../../formats/qcow2/structures';
import { safeNumber } from '../../layout/codec';
import type { Pace } from '../../pace';
import { l2Declarations } from './declarations';
import { l2EntryView, type EntryContext } from './qcow2Entries';
import { l1Entries } from './qcow2L1';
import { emptyRow, entryRow, type TableReader } from './tableReader';
import { nextUsedBelow } from './twoLevel';
import { entryBytes, readWord, wordOf } from './wordRead';

/** All L2 tables of a view in a row: row = guest cluster. */
export class Qcow2L2Reader implements TableReader {
  readonly capacity: number;
  private last = { index: -1, tableOffset: 0 };
  private readonly view: LayerView;
  private readonly title: string;
  private readonly location: L1Location;
  private readonly guestSize: number;
  private readonly context: EntryContext;

  /** @param guestSize bytes of the disk in this view; rows beyond are shown and say so */
  constructor(view: LayerView, title: string, location: L1Location, guestSize: number, context: EntryContext) {
    this.view = view;
    this.title = title;
    this.location = location;
    this.guestSize = guestSize;
    this.context = context;
    const { l2Entries, clusterSize } = context.metadata;
    this.capacity = Math.min(l1Entries(location) * l2Entries, Math.floor(Number.MAX_SAFE_INTEGER / clusterSize));
  }

  async shape(): Promise<TableShape> {
    const { l2Entries, clusterBits, extendedL2 } = this.context.metadata;
    return Promise.resolve({
      table: { kind: 'l2', view: this.view },
      title: this.title,
      rows: this.capacity,
      rowsPerParent: l2Entries,
      entries: l2Declarations(clusterBits, extendedL2),
    });
  }

  row(row: number): TableRow {
    const { l2Entries, l2EntryBytes, clusterSize, source, extendedL2 } = this.context.metadata;
    const index = Math.floor(row / l2Entries);
    const tableOffset = this.tableOffset(index);
    const guestOffset = row * clusterSize;
    const past = guestOffset >= this.guestSize ? ['past the end of the disk'] : [];
    const hostOffset = tableOffset + (row - index * l2Entries) * l2EntryBytes;
    if (tableOffset === 0 || !Number.isSafeInteger(hostOffset)) {
      const problem = tableOffset === 0 ? null : 'The L2 table lies past 2^53-1.';
      return { ...emptyRow(row, 'unallocated', problem), guestOffset, flags: past };
    }
    const bytes = entryBytes(source, hostOffset, l2EntryBytes);
    const bitmap = extendedL2 ? wordOf(bytes, 8, 'big') : null;
    const result = entryRow(row, hostOffset, bytes, l2EntryBytes, l2EntryView(wordOf(bytes, 0, 'big'), bitmap, this.context));
    const misaligned = tableOffset % clusterSize === 0 ? [] : ['The L2 table is not aligned to a cluster; QEMU does not read it.'];
    const problems = [...misaligned, ...(result.problem === null ? [] : [result.problem])];
    const target = this.target(result.target);
    return {
      ...result,
      target,
      guestOffset,
      flags: [...result.flags, ...past],
      problem: problems.length === 0 ? null : problems.join(' '),
    };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const { source, l2EntryBytes, l2Entries } = this.context.metadata;
    const tables = {
      source,
      top: { hostOffset: this.location.hostOffset, entries: l1Entries(this.location) },
      entryBytes: l2EntryBytes,
      perTable: l2Entries,
      rows: this.capacity,
      tableAt: (index: number) => this.tableOffset(index),
    };
    return nextUsedBelow(tables, row, backwards, pace);
  }

  /** Host offsets of an external data file lead into that file. */
  private target(target: Place | null): Place | null {
    if (target === null || !this.context.metadata.hasDataFile) {
      return target;
    }
    return this.context.dataPath === null ? null : { kind: 'file', path: this.context.dataPath };
  }

  /** Where an L2 table lies; 0 when none is allocated, Infinity past 2^53-1. */
  private tableOffset(index: number): number {
    if (this.last.index !== index) {
      const word = readWord(this.context.metadata.source, this.location.hostOffset + index * 8, 'big');
      this.last = { index, tableOffset: safeNumber(word & L1_OFFSET_MASK) };
    }
    return this.last.tableOffset;
  }
}
