import type { LayerView, Place, TableId } from '../../src/protocol/place';
import type { EditorTab } from '../../src/protocol/webview';
import { grouped, hex } from '../format/numbers';

export const ACTIVE: LayerView = { kind: 'active' };

export function sameView(a: LayerView, b: LayerView): boolean {
  return a.kind === 'snapshot' ? b.kind === 'snapshot' && a.index === b.index : b.kind === 'active';
}

/** A stable name of a view, as the value of an option. */
export function viewKey(view: LayerView): string {
  return view.kind === 'active' ? 'active' : `snapshot:${view.index}`;
}

/** A stable name of a table. */
export function tableKey(table: TableId): string {
  switch (table.kind) {
    case 'l1':
    case 'l2':
      return `${table.kind}:${viewKey(table.view)}`;
    case 'bitmapTable':
      return `bitmapTable:${table.index}`;
    case 'refcountTable':
    case 'refcounts':
      return table.kind;
  }
}

/** The mapping that a table belongs to; null for those that all mappings share. */
export function viewOf(table: TableId): LayerView | null {
  return table.kind === 'l1' || table.kind === 'l2' ? table.view : null;
}

/** Where a place is best seen when nothing else was asked for. */
export function naturalTab(place: Place): EditorTab {
  switch (place.kind) {
    case 'host':
      return 'hex';
    case 'guest':
      return 'map';
    case 'tableRow':
      return 'tables';
    case 'snapshot':
    case 'bitmap':
      return 'snapshots';
    case 'file':
      return 'overview';
  }
}

const TABLE_TITLES: Readonly<Record<TableId['kind'], string>> = {
  l1: 'L1 entry',
  l2: 'L2 entry',
  refcountTable: 'refcount table entry',
  refcounts: 'refcount',
  bitmapTable: 'bitmap table entry',
};

/** A place in words: what a link says to those who cannot see where it stands. */
export function describePlace(place: Place): string {
  switch (place.kind) {
    case 'host':
      return `host offset ${hex(place.hostOffset)}`;
    case 'guest':
      return `guest offset ${hex(place.guestOffset)}`;
    case 'tableRow':
      return `${TABLE_TITLES[place.table.kind]} ${grouped(place.row)}`;
    case 'snapshot':
      return `snapshot ${place.index}`;
    case 'bitmap':
      return `bitmap ${place.index}`;
    case 'file':
      return place.path;
  }
}
