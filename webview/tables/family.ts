import type { TableShape } from '../../src/protocol/inspect';
import type { Place, TableId } from '../../src/protocol/place';

/* The way up and down between tables: L1 -> L2 -> cluster, refcount table -> refcount blocks -> cluster. */

/** The entry that leads to this row's table; null for the outermost. */
export function parentOf(shape: TableShape, row: number): Place | null {
  const table = parentTable(shape.table);
  return table === null || shape.rowsPerParent <= 0 ? null : { kind: 'tableRow', table, row: Math.floor(row / shape.rowsPerParent) };
}

function parentTable(table: TableId): TableId | null {
  switch (table.kind) {
    case 'l2':
      return { kind: 'l1', view: table.view };
    case 'refcounts':
      return { kind: 'refcountTable' };
    case 'l1':
    case 'refcountTable':
    case 'bitmapTable':
      return null;
  }
}

/** First row of the table that an entry leads to, in the table of all of them; null where a row leads to a cluster. */
export function childrenOf(shape: TableShape, row: number, all: readonly TableShape[]): Place | null {
  const below = all.find(({ table }) => {
    const parent = parentTable(table);
    return parent !== null && JSON.stringify(parent) === JSON.stringify(shape.table);
  });
  const first = row * (below?.rowsPerParent ?? 0);
  return below === undefined || below.rowsPerParent <= 0 || first >= below.rows
    ? null
    : { kind: 'tableRow', table: below.table, row: first };
}
