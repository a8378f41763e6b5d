import type { Location, Overview } from '../../src/protocol/inspect';
import type { ImageClient } from '../../src/protocol/imageClient';
import type { LayerView, Place } from '../../src/protocol/place';
import type { EditorTab, ViewState } from '../../src/protocol/webview';
import type { GoDetail } from '../events';
import { hex } from '../format/numbers';
import type { HexTarget } from '../hex/hex-tab';
import type { Inspected } from '../inspector/cluster-inspector';
import type { MapTarget } from '../map/map-tab';
import { hasTab, TAB_LABELS } from '../tabs';
import type { RowTarget } from '../tables/tables-tab';
import { History } from './history';
import { START, type Kept } from './kept';
import { describePlace, naturalTab, sameView, viewOf } from './places';

/** A stop in the history. */
interface Visit {
  readonly tab: EditorTab;
  readonly place: Place | null;
  readonly view: LayerView;
}

/** What each tab is to show of the place that one went to last; a new object is a new wish. */
export interface Targets {
  readonly map: MapTarget | null;
  readonly row: RowTarget | null;
  readonly hex: HexTarget | null;
  readonly snapshot: Extract<Place, { kind: 'snapshot' | 'bitmap' }> | null;
}

/** What finding the way needs of the page. */
export interface NavigatorHost {
  /** The image, asked for when one goes to what only it knows. */
  client(): ImageClient;
  overview(): Overview | null;
  openFile(path: string): Promise<void>;
  /** One sentence for those who listen instead of look. */
  announce(text: string): void;
  failed(error: unknown): void;
  /** Where one is has changed. */
  moved(kept: Kept): void;
}

/** Where one is in an image, how one got there, and how to get on. Knows tabs and places, and draws nothing. */
export class Navigator {
  private readonly host: NavigatorHost;
  private readonly history = new History<Visit>();
  private state: Kept = START;
  private opened: ReadonlySet<EditorTab> = new Set();
  private wishes: Targets = { map: null, row: null, hex: null, snapshot: null };

  constructor(host: NavigatorHost) {
    this.host = host;
  }

  /** What is kept when the page is torn down. */
  get kept(): Kept {
    return this.state;
  }

  /** Tabs that were opened: only they exist. */
  get visited(): ReadonlySet<EditorTab> {
    return this.opened;
  }

  get targets(): Targets {
    return this.wishes;
  }

  get canGoBack(): boolean {
    return this.history.canGoBack;
  }

  get canGoForward(): boolean {
    return this.history.canGoForward;
  }

  /** Begins where the page was left. */
  restore(kept: Kept): void {
    this.state = kept;
  }

  /** Takes note of what a tab keeps. */
  keep(change: Partial<Kept>): void {
    this.state = { ...this.state, ...change };
    this.host.moved(this.state);
  }

  /** Goes where the shell wants one to be. */
  goTo({ tab, place }: ViewState): void {
    if (place === null) {
      this.show(tab);
    } else {
      void this.go({ place, tab });
    }
  }

  /** Shows a tab as it was left. */
  show(tab: EditorTab): void {
    const shown = hasTab(this.host.overview(), tab) ? tab : 'overview';
    this.history.push({ tab: shown, place: null, view: this.state.view });
    this.select(shown);
  }

  /** Goes to a place and remembers that in the history. */
  async go(detail: GoDetail): Promise<void> {
    const visit = await this.visit(detail);
    if (visit !== null) {
      this.history.push(visit);
      this.host.moved(this.state);
    }
  }

  /** Goes to what was typed: in the tab that is open when it can show it. */
  goToLocated({ space, offset }: Location): void {
    const place: Place = space === 'guest' ? { kind: 'guest', guestOffset: offset } : { kind: 'host', hostOffset: offset, length: 1 };
    const { tab } = this.state;
    const stays = tab === 'map' || tab === 'tables' || tab === 'hex';
    void this.go(stays ? { place, tab } : { place });
  }

  back(): void {
    this.revisit(this.history.back());
  }

  forward(): void {
    this.revisit(this.history.forward());
  }

  /** Looks at another mapping of guest to host. */
  lookAt(view: LayerView): void {
    if (sameView(view, this.state.view)) {
      return;
    }
    this.aimAt({ row: null });
    this.keep({ view });
    this.host.announce(view.kind === 'active' ? 'Showing the active layer.' : 'Showing a snapshot.');
  }

  /** Shows everything about one cluster beside the tabs; null shows nothing there. */
  inspect(inspected: Inspected | null): void {
    this.keep({ inspected });
  }

  private select(tab: EditorTab): void {
    this.opened = new Set([...this.opened, tab]);
    this.keep({ tab });
  }

  private aimAt(target: Partial<Targets>): void {
    this.wishes = { ...this.wishes, ...target };
  }

  private revisit(visit: Visit | null): void {
    if (visit === null) {
      return;
    }
    if (visit.place === null) {
      this.keep({ view: visit.view });
      this.select(visit.tab);
    } else {
      void this.visit({ place: visit.place, tab: visit.tab, view: visit.view });
    }
  }

  private async visit({ place, tab: wanted, view: wantedView }: GoDetail): Promise<Visit | null> {
    if (place.kind === 'file') {
      await this.host.openFile(place.path);
      return null;
    }
    const view = wantedView ?? (place.kind === 'tableRow' ? viewOf(place.table) : null) ?? this.state.view;
    let tab = wanted ?? naturalTab(place);
    if (!hasTab(this.host.overview(), tab)) {
      tab = place.kind === 'host' ? 'hex' : 'overview';
    }
    this.keep({ view });
    const reached = await this.aim(tab, place, view);
    this.select(reached);
    if (this.state.inspected !== null) {
      this.followInspector(place);
    }
    this.host.announce(`${TAB_LABELS[reached]}: ${describePlace(place)}`);
    return { tab: reached, place, view };
  }

  /** Tells a tab what to show of a place; returns the tab that can. */
  private async aim(tab: EditorTab, place: Exclude<Place, { kind: 'file' }>, view: LayerView): Promise<EditorTab> {
    const clusterSize = this.host.overview()?.clusterSize ?? null;
    switch (place.kind) {
      case 'tableRow':
        this.aimAt({ row: { table: place.table, row: place.row } });
        return 'tables';
      case 'snapshot':
      case 'bitmap':
        this.aimAt({ snapshot: { ...place } });
        return 'snapshots';
      case 'host':
        if (tab === 'tables' && clusterSize !== null) {
          this.aimAt({ row: { table: { kind: 'refcounts' }, row: Math.floor(place.hostOffset / clusterSize) } });
          return tab;
        }
        if (tab === 'map') {
          this.aimAt({ map: { space: 'host', offset: place.hostOffset } });
          return tab;
        }
        this.aimAt({ hex: { hostOffset: place.hostOffset, length: place.length ?? 1 } });
        return 'hex';
      case 'guest':
        if (tab === 'tables' && clusterSize !== null) {
          this.aimAt({ row: { table: { kind: 'l2', view }, row: Math.floor(place.guestOffset / clusterSize) } });
          return tab;
        }
        if (tab === 'hex' && (await this.aimHexAtGuest(place.guestOffset))) {
          return tab;
        }
        this.aimAt({ map: { space: 'guest', offset: place.guestOffset } });
        return 'map';
    }
  }

  /** The hex view shows the file: a guest offset is there when this image's own layer supplies it. */
  private async aimHexAtGuest(guestOffset: number): Promise<boolean> {
    try {
      const { layers } = await this.host.client().call('locate', { address: hex(guestOffset), space: 'guest' });
      const own = layers.find(({ depth, hostOffset }) => depth === 0 && hostOffset !== null);
      const hostOffset = own?.hostOffset ?? null;
      if (hostOffset === null) {
        return false;
      }
      this.aimAt({ hex: { hostOffset, length: 1 } });
      return true;
    } catch (error) {
      this.host.failed(error);
      return false;
    }
  }

  private followInspector(place: Place): void {
    if (place.kind === 'guest') {
      this.inspect({ space: 'guest', offset: place.guestOffset });
    } else if (place.kind === 'host') {
      this.inspect({ space: 'host', offset: place.hostOffset });
    }
  }
}
