import type { ByteSource } from '../io/source';
import { EntryBuffer } from './tableAccess';

const CAPACITY = 256 * 1024;

/** A piece of a table in `TableReader.buffer`. */
export interface TablePiece {
  /** Which of the tables, by its place in the list. */
  readonly table: number;
  /** First byte of the piece in the buffer, and in the table. */
  readonly at: number;
  readonly inTable: number;
  /** Bytes. */
  readonly length: number;
}

/** Reads many tables of one length in the order of their offsets: neighbours in one read, large ones in pieces. */
export class TableReader {
  readonly buffer = new EntryBuffer(CAPACITY);
  private readonly source: ByteSource;
  private readonly tableBytes: number;

  constructor(source: ByteSource, tableBytes: number) {
    this.source = source;
    this.tableBytes = tableBytes;
  }

  /**
   * Reads on from byte `inTable` of the table at `offsets[first]`: a piece of it, or its end and the tables that lie right behind, as far
   * as they fit.
   */
  read(offsets: Float64Array, first: number, inTable: number): TablePiece[] {
    const { tableBytes, buffer, source } = this;
    const start = offsets[first]! + inTable;
    let length = Math.min(CAPACITY, tableBytes - inTable);
    const pieces: TablePiece[] = [{ table: first, at: 0, inTable, length }];
    for (let next = first + 1; offsets[next] === start + length && length + tableBytes <= CAPACITY; next++) {
      pieces.push({ table: next, at: length, inTable: 0, length: tableBytes });
      length += tableBytes;
    }
    buffer.load(source, start, length);
    return pieces;
  }
}
