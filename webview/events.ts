import type { LayerView, Place } from '../src/protocol/place';
import type { EditorTab } from '../src/protocol/webview';
import type { MenuItem } from './components/context-menu';
import type { Kept } from './state/kept';

/* Events that components send up to the app. They bubble through shadow roots. */

/** Go somewhere. */
export interface GoDetail {
  readonly place: Place;
  /** Where to show it; the place's natural tab when left out. */
  readonly tab?: EditorTab;
  /** The mapping to look at it in; the current one when left out. */
  readonly view?: LayerView;
}

/** Show everything about one cluster beside what is on the screen. */
export interface InspectDetail {
  readonly space: 'guest' | 'host';
  readonly offset: number;
}

export interface MenuDetail {
  readonly items: readonly MenuItem[];
  /** Position in the viewport, CSS pixels. */
  readonly x: number;
  readonly y: number;
}

export interface CopyDetail {
  readonly text: string;
  /** Named in the confirmation: `offset`, `L2 row as JSON`. */
  readonly what: string;
}

interface AppEvents {
  'cs-go': GoDetail;
  'cs-inspect': InspectDetail;
  /** Open another file of the chain, in an editor of its own. */
  'cs-open': { readonly path: string; readonly place: Place | null };
  'cs-menu': MenuDetail;
  'cs-copy': CopyDetail;
  /** One sentence for those who listen instead of look. */
  'cs-announce': string;
  /** Run a command of the extension on this image. */
  'cs-command': string;
  /** The same on something in the image. */
  'cs-command-on': { readonly command: string; readonly place: Place };
  /** Look at another mapping of guest to host: the active one's or a snapshot's. */
  'cs-view': LayerView;
  /** Something that a tab keeps changed; it is saved, not pushed on the history. */
  'cs-kept': Partial<Kept>;
}

export function send<K extends keyof AppEvents>(from: EventTarget, type: K, detail: AppEvents[K]): void {
  from.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
}

export function listen<K extends keyof AppEvents>(on: EventTarget, type: K, listener: (detail: AppEvents[K], event: Event) => void): void {
  on.addEventListener(type, (event) => {
    if (event instanceof CustomEvent) {
      listener(event.detail as AppEvents[K], event);
    }
  });
}
