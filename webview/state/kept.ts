import type { MapMode, MapOrder, MapSpace } from '../../src/protocol/inspect';
import type { LayerView } from '../../src/protocol/place';
import type { EditorTab } from '../../src/protocol/webview';
import type { KeptViewport } from '../map/viewport';

/* What survives when VS Code tears the page down and builds it again. */

export interface KeptMap {
  readonly space: MapSpace;
  readonly mode: MapMode;
  readonly order: MapOrder;
  readonly only: readonly string[];
  readonly viewport: KeptViewport | null;
}

export interface Kept {
  readonly tab: EditorTab;
  readonly view: LayerView;
  readonly space: 'guest' | 'host';
  readonly inspected: { readonly space: 'guest' | 'host'; readonly offset: number } | null;
  /** Ids of structures that are folded open; null while nobody folded any. */
  readonly expanded: readonly string[] | null;
  readonly map: KeptMap;
  /** Key of the table that is shown (state/places.ts), and its selected row. */
  readonly table: { readonly key: string; readonly row: number } | null;
  readonly hexOffset: number;
}

export const TABS: readonly EditorTab[] = ['overview', 'map', 'tables', 'snapshots', 'check', 'hex'];

export const START: Kept = {
  tab: 'overview',
  view: { kind: 'active' },
  space: 'guest',
  inspected: null,
  expanded: null,
  map: { space: 'guest', mode: 'state', order: 'hilbert', only: [], viewport: null },
  table: null,
  hexOffset: 0,
};

/**
 * What was saved, as far as it still makes sense: an older version of the extension may have written it. There is no place in it, as each
 * tab keeps where it is by itself.
 */
export function restored(saved: unknown): Kept {
  if (!isObject(saved)) {
    return START;
  }
  return {
    ...START,
    tab: TABS.find((tab) => tab === saved['tab']) ?? START.tab,
    view: layerView(saved['view']),
    space: saved['space'] === 'host' ? 'host' : 'guest',
    inspected: inspected(saved['inspected']),
    expanded: Array.isArray(saved['expanded']) ? saved['expanded'].filter(isString) : null,
    map: map(saved['map']),
    table: table(saved['table']),
    hexOffset: isOffset(saved['hexOffset']) ? saved['hexOffset'] : 0,
  };
}

function layerView(value: unknown): LayerView {
  return isObject(value) && value['kind'] === 'snapshot' && isOffset(value['index'])
    ? { kind: 'snapshot', index: value['index'] }
    : START.view;
}

function inspected(value: unknown): Kept['inspected'] {
  return isObject(value) && isOffset(value['offset']) && (value['space'] === 'guest' || value['space'] === 'host')
    ? { space: value['space'], offset: value['offset'] }
    : null;
}

function map(value: unknown): KeptMap {
  if (!isObject(value)) {
    return START.map;
  }
  const viewport = value['viewport'];
  return {
    space: value['space'] === 'host' ? 'host' : 'guest',
    mode: value['mode'] === 'layer' ? 'layer' : 'state',
    order: value['order'] === 'rowMajor' ? 'rowMajor' : 'hilbert',
    only: Array.isArray(value['only']) ? value['only'].filter(isString) : [],
    viewport:
      isObject(viewport) && isNumber(viewport['centerX']) && isNumber(viewport['centerY']) && isNumber(viewport['scale'])
        ? { centerX: viewport['centerX'], centerY: viewport['centerY'], scale: viewport['scale'] }
        : null,
  };
}

function table(value: unknown): Kept['table'] {
  return isObject(value) && isString(value['key']) && isOffset(value['row']) ? { key: value['key'], row: value['row'] } : null;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
