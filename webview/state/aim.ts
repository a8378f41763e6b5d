import type { LayerView, Place } from '../../src/protocol/place';
import type { EditorTab } from '../../src/protocol/webview';
import type { HexTarget } from '../hex/hex-tab';
import type { MapTarget } from '../map/map-tab';
import type { RowTarget } from '../tables/tables-tab';

/** What an image has to show places in. */
export interface Sights {
  /** Null for formats without clusters. */
  readonly clusterSize: number | null;
  /** It counts references, so that a host cluster has a row of its own. */
  readonly refcounts: boolean;
}

/** Which tab shows a place, and what that tab is told. */
export type Aim =
  | { readonly tab: 'map'; readonly target: MapTarget }
  | { readonly tab: 'tables'; readonly target: RowTarget }
  | { readonly tab: 'hex'; readonly target: HexTarget }
  | { readonly tab: 'snapshots'; readonly target: Extract<Place, { kind: 'snapshot' | 'bitmap' }> };

/** Aims at a place in the tab that was asked for, or in the one where it is at home when that cannot show it. */
export function aimAt(place: Exclude<Place, { kind: 'file' }>, tab: EditorTab, view: LayerView, { clusterSize, refcounts }: Sights): Aim {
  switch (place.kind) {
    case 'tableRow':
      return { tab: 'tables', target: { table: place.table, row: place.row } };
    case 'snapshot':
    case 'bitmap':
      return { tab: 'snapshots', target: { ...place } };
    case 'host':
      if (tab === 'tables' && clusterSize !== null && refcounts) {
        return { tab, target: { table: { kind: 'refcounts' }, row: Math.floor(place.hostOffset / clusterSize) } };
      }
      return tab === 'map'
        ? { tab, target: { space: 'host', offset: place.hostOffset } }
        : { tab: 'hex', target: { hostOffset: place.hostOffset, length: place.length ?? 1 } };
    case 'guest':
      return tab === 'tables' && clusterSize !== null
        ? { tab, target: { table: { kind: 'l2', view }, row: Math.floor(place.guestOffset / clusterSize) } }
        : { tab: 'map', target: { space: 'guest', offset: place.guestOffset } };
  }
}
