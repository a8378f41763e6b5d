import type { Place } from '../../src/protocol/place';
import { send } from '../events';
import { hex } from '../format/numbers';
import type { MenuItem } from './context-menu';

/** What one can do with a place: look at it here or there, copy its number. */
export function placeMenu(from: EventTarget, place: Place): readonly MenuItem[] {
  switch (place.kind) {
    case 'host':
      return [
        { label: 'Show in Hex', run: () => send(from, 'cs-go', { place, tab: 'hex' }) },
        { label: 'Show in Host Map', run: () => send(from, 'cs-go', { place, tab: 'map' }) },
        { label: 'Show in Refcounts', run: () => send(from, 'cs-go', { place, tab: 'tables' }) },
        { label: 'Inspect Cluster', run: () => send(from, 'cs-inspect', { space: 'host', offset: place.hostOffset }) },
        null,
        ...copyItems(from, place.hostOffset),
      ];
    case 'guest':
      return [
        { label: 'Show in Guest Map', run: () => send(from, 'cs-go', { place, tab: 'map' }) },
        { label: 'Show in L2 Tables', run: () => send(from, 'cs-go', { place, tab: 'tables' }) },
        { label: 'Inspect Cluster', run: () => send(from, 'cs-inspect', { space: 'guest', offset: place.guestOffset }) },
        null,
        ...copyItems(from, place.guestOffset),
      ];
    case 'tableRow':
      return [
        { label: 'Show in Tables', run: () => send(from, 'cs-go', { place }) },
        null,
        { label: 'Copy Row Number', run: () => send(from, 'cs-copy', { text: String(place.row), what: 'row number' }) },
      ];
    case 'file':
      return [
        { label: 'Open in Editor', run: () => send(from, 'cs-go', { place }) },
        null,
        { label: 'Copy Path', run: () => send(from, 'cs-copy', { text: place.path, what: 'path' }) },
      ];
    case 'snapshot':
    case 'bitmap':
      return [{ label: 'Show', run: () => send(from, 'cs-go', { place }) }];
  }
}

function copyItems(from: EventTarget, offset: number): readonly MenuItem[] {
  return [
    { label: 'Copy as Hexadecimal', detail: hex(offset), run: () => send(from, 'cs-copy', { text: hex(offset), what: 'offset' }) },
    { label: 'Copy as Decimal', detail: String(offset), run: () => send(from, 'cs-copy', { text: String(offset), what: 'offset' }) },
  ];
}
