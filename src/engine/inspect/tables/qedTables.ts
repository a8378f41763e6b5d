import type { TableRow, TableShape } from '../../../protocol/inspect';
import type { LayerView } from '../../../protocol/place';
import type { QedMetadata } from '../../formats/qed/metadata';
import { QED_UNALLOCATED, QED_ZERO_CLUSTER } from '../../formats/qed/structures';
import { safeNumber } from '../../layout/codec';
import type { Pace } from '../../pace';
import { hex } from '../wording';
import { qedDeclarations } from './declarations';
import { pastEndProblem, type EntryView } from './entryView';
import { emptyRow, entryRow, nextUsedEntry, type TableReader } from './tableReader';
import { nextUsedBelow } from './twoLevel';
import { entryBytes, readWord, wordOf } from './wordRead';

const ACTIVE: LayerView = { kind: 'active' };

/** An L1 or L2 entry: the same word, but only the data level knows zero clusters. */
export function qedEntryView(word: bigint, level: 'l1' | 'l2', metadata: QedMetadata): EntryView {
  const { clusterSize, headerBytes, source, tableBytes } = metadata;
  const none = { targetOffset: null, targetLength: null, flags: [], subclusters: null, problems: [] };
  if (word === QED_UNALLOCATED) {
    return { ...none, kind: 'unallocated', guestClass: 'unallocated', decoded: 'all zero' };
  }
  if (word === QED_ZERO_CLUSTER && level === 'l2') {
    return { ...none, kind: 'zero', guestClass: 'zero', decoded: 'zero cluster' };
  }
  const target = safeNumber(word);
  const length = level === 'l1' ? tableBytes : clusterSize;
  const problems = Number.isSafeInteger(target + length)
    ? [
        target % clusterSize === 0 ? null : `The offset ${hex(target)} is not aligned to a cluster (${hex(clusterSize)}).`,
        target < headerBytes ? `The offset ${hex(target)} lies inside the header.` : null,
        pastEndProblem(target, length, source.size, clusterSize),
      ].filter((problem) => problem !== null)
    : [`The offset ${hex(word)} is past 2^53-1.`];
  return {
    ...none,
    kind: level === 'l1' ? 'table' : 'data',
    guestClass: problems.length === 0 ? 'data' : 'unknown',
    targetOffset: Number.isFinite(target) ? target : null,
    targetLength: Number.isFinite(target) ? length : null,
    decoded: `offset ${hex(word)}`,
    problems,
  };
}

export class QedL1Reader implements TableReader {
  readonly capacity: number;
  private readonly metadata: QedMetadata;

  constructor(metadata: QedMetadata) {
    this.metadata = metadata;
    this.capacity = metadata.tableEntries;
  }

  async shape(): Promise<TableShape> {
    return Promise.resolve({
      table: { kind: 'l1', view: ACTIVE },
      title: 'L1 table',
      rows: this.capacity,
      rowsPerParent: 0,
      entries: qedDeclarations('l1'),
    });
  }

  row(row: number): TableRow {
    const { source, l1TableOffset, tableEntries, l2Coverage } = this.metadata;
    const hostOffset = l1TableOffset + row * 8;
    if (!Number.isSafeInteger(hostOffset)) {
      return emptyRow(row, 'unallocated', 'The table lies past 2^53-1.');
    }
    const bytes = entryBytes(source, hostOffset, 8);
    const result = entryRow(row, hostOffset, bytes, 8, qedEntryView(wordOf(bytes, 0, 'little'), 'l1', this.metadata));
    const guestOffset = row * l2Coverage;
    const target = { kind: 'tableRow', table: { kind: 'l2', view: ACTIVE }, row: row * tableEntries } as const;
    return {
      ...result,
      guestOffset: Number.isSafeInteger(guestOffset) ? guestOffset : null,
      target: result.targetOffset === null ? null : target,
    };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const table = { hostOffset: this.metadata.l1TableOffset, entries: this.capacity, entryBytes: 8 };
    return nextUsedEntry(this.metadata.source, table, row + (backwards ? -1 : 1), backwards, pace);
  }
}

/** All L2 tables in a row: row = guest cluster. Whole tables, as many as the disk needs. */
export class QedL2Reader implements TableReader {
  readonly capacity: number;
  private last = { index: -1, tableOffset: 0 };
  private readonly metadata: QedMetadata;

  constructor(metadata: QedMetadata) {
    this.metadata = metadata;
    const { size, l2Coverage, tableEntries, clusterSize } = metadata;
    const tables = Math.min(Math.ceil(size / l2Coverage), tableEntries);
    this.capacity = Math.min(tables * tableEntries, Math.floor(Number.MAX_SAFE_INTEGER / clusterSize));
  }

  async shape(): Promise<TableShape> {
    const { tableEntries } = this.metadata;
    return Promise.resolve({
      table: { kind: 'l2', view: ACTIVE },
      title: 'L2 tables',
      rows: this.capacity,
      rowsPerParent: tableEntries,
      entries: qedDeclarations('l2'),
    });
  }

  row(row: number): TableRow {
    const { source, tableEntries, clusterSize, size } = this.metadata;
    const index = Math.floor(row / tableEntries);
    const tableOffset = this.tableOffset(index);
    const hostOffset = tableOffset + (row - index * tableEntries) * 8;
    const guestOffset = row * clusterSize;
    const past = guestOffset >= size ? ['past the end of the disk'] : [];
    if (tableOffset === 0 || !Number.isSafeInteger(hostOffset)) {
      const problem = tableOffset === 0 ? null : 'The L2 table lies past 2^53-1.';
      return { ...emptyRow(row, 'unallocated', problem), guestOffset, flags: past };
    }
    const bytes = entryBytes(source, hostOffset, 8);
    const result = entryRow(row, hostOffset, bytes, 8, qedEntryView(wordOf(bytes, 0, 'little'), 'l2', this.metadata));
    return { ...result, guestOffset, flags: [...result.flags, ...past] };
  }

  async nextUsed(row: number, backwards: boolean, pace: Pace): Promise<number> {
    const { source, l1TableOffset, tableEntries } = this.metadata;
    const tables = {
      source,
      top: { hostOffset: l1TableOffset, entries: tableEntries },
      entryBytes: 8,
      perTable: tableEntries,
      rows: this.capacity,
      tableAt: (index: number) => this.tableOffset(index),
    };
    return nextUsedBelow(tables, row, backwards, pace);
  }

  private tableOffset(index: number): number {
    if (this.last.index !== index) {
      const hostOffset = this.metadata.l1TableOffset + index * 8;
      this.last = { index, tableOffset: safeNumber(readWord(this.metadata.source, hostOffset, 'little')) };
    }
    return this.last.tableOffset;
  }
}
