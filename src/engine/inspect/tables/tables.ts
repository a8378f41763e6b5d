import type { TablePage, TableRequest, TableShape } from '../../../protocol/inspect';
import type { LayerView, TableId } from '../../../protocol/place';
import { invalidRequest } from '../../errors';
import type { Layer } from '../../chain/layer';
import type { Pace } from '../../pace';
import type { Qcow2Context } from '../qcow2Context';
import { BitmapTableReader } from './qcow2BitmapTable';
import { Qcow2L1Reader } from './qcow2L1';
import { Qcow2L2Reader } from './qcow2L2';
import { RefcountsReader, RefcountTableReader } from './qcow2Refcounts';
import { QedL1Reader, QedL2Reader } from './qedTables';
import type { TableReader } from './tableReader';

/** Rows of one page at most. */
export const MAX_PAGE_ROWS = 512;
/** Bitmaps whose tables are listed; others are reached by their number. */
const MAX_LISTED_BITMAPS = 1024;

/** All tables of one image, row by row. */
export class ImageTables {
  private readonly layer: Layer;
  private readonly qcow2: Qcow2Context | null;
  private readonly readers = new Map<string, TableReader>();

  /** @param qcow2 the layer's context when it is a qcow2 image */
  constructor(layer: Layer, qcow2: Qcow2Context | null) {
    this.layer = layer;
    this.qcow2 = qcow2;
  }

  /** The tables of a view, and those that all views share. Empty for formats without tables, and where the header makes no sense. */
  async shapes(view: LayerView, pace: Pace): Promise<TableShape[]> {
    const shapes: TableShape[] = [];
    for (const table of this.tableIds(view)) {
      shapes.push(await this.reader(table).shape(pace));
    }
    return shapes;
  }

  page({ table, first, count }: TableRequest): TablePage {
    const reader = this.reader(table);
    const start = Math.max(0, Math.floor(first));
    const length = Math.max(0, Math.min(Math.floor(count), MAX_PAGE_ROWS, reader.capacity - start));
    return { first: start, rows: Array.from({ length }, (_, index) => reader.row(start + index)) };
  }

  async nextUsedRow(table: TableId, row: number, backwards: boolean, pace: Pace): Promise<number> {
    const reader = this.reader(table);
    // A row outside the table stands for its edge.
    const from = Math.min(Math.max(Math.floor(row), -1), reader.capacity);
    return reader.nextUsed(from, backwards, pace);
  }

  /** @throws EngineError `request.invalid` for a table that the image does not have */
  reader(table: TableId): TableReader {
    const key = JSON.stringify(table);
    let reader = this.readers.get(key);
    if (!reader) {
      reader = this.makeReader(table);
      this.readers.set(key, reader);
    }
    return reader;
  }

  private tableIds(view: LayerView): TableId[] {
    const mapping: TableId[] = [
      { kind: 'l1', view },
      { kind: 'l2', view },
    ];
    const { detail } = this.layer;
    if (detail.format === 'qed' && detail.metadata.tablesReadable) {
      return mapping;
    }
    if (!this.qcow2?.metadata.tablesReadable) {
      return [];
    }
    const bitmaps = this.qcow2.bitmaps.bitmaps.slice(0, MAX_LISTED_BITMAPS);
    return [
      ...mapping,
      { kind: 'refcountTable' },
      { kind: 'refcounts' },
      ...bitmaps.map(({ index }): TableId => ({ kind: 'bitmapTable', index })),
    ];
  }

  private makeReader(table: TableId): TableReader {
    const { detail } = this.layer;
    if (this.qcow2?.metadata.tablesReadable) {
      return qcow2Reader(this.qcow2, table);
    }
    if (detail.format === 'qed' && detail.metadata.tablesReadable && 'view' in table && table.view.kind === 'active') {
      return table.kind === 'l1' ? new QedL1Reader(detail.metadata) : new QedL2Reader(detail.metadata);
    }
    throw invalidRequest(`'${this.layer.source.name}' has no such table that can be read.`);
  }
}

function qcow2Reader(context: Qcow2Context, table: TableId): TableReader {
  const { metadata } = context;
  switch (table.kind) {
    case 'l1': {
      const { view, l1, suffix } = context.view(table.view);
      return new Qcow2L1Reader(view, `L1 table${suffix}`, l1, context.l1Context(view));
    }
    case 'l2': {
      const { view, l1, suffix, guestSize } = context.view(table.view);
      return new Qcow2L2Reader(view, `L2 tables${suffix}`, l1, guestSize, context.l2Context(view));
    }
    case 'refcountTable':
      return new RefcountTableReader(metadata);
    case 'refcounts':
      return new RefcountsReader(metadata);
    case 'bitmapTable': {
      const bitmap = context.bitmaps.bitmaps[table.index];
      if (!bitmap) {
        throw invalidRequest(`'${metadata.source.name}' has no bitmap number ${table.index}.`);
      }
      return new BitmapTableReader(metadata, bitmap);
    }
  }
}
