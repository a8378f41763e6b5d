import { html, LitElement, nothing, type TemplateResult } from 'lit';
import type { CheckReport } from '../src/protocol/check';
import type { Location, Notice, Overview, Severity } from '../src/protocol/inspect';
import type { LayerView, Place } from '../src/protocol/place';
import type { EditorTab, ViewState } from '../src/protocol/webview';
import { UNCHECKED, type CheckState } from './check/check-tab';
import './check/check-tab';
import './components/address-bar';
import './components/context-menu';
import { ContextMenu } from './components/context-menu';
import './components/notice-banner';
import { placeLink } from './components/offset-link';
import { insteadOf, problemState } from './components/panel-states';
import { base } from './components/styles';
import type { TabItem } from './components/tab-bar';
import './components/tab-bar';
import './components/translation-strip';
import { listen, type GoDetail } from './events';
import { counted, grouped, hex } from './format/numbers';
import { baseName, visible } from './format/text';
import './hex/hex-tab';
import type { HexTarget } from './hex/hex-tab';
import type { EditorHost, HostEvents } from './host';
import './inspector/cluster-inspector';
import type { Inspected } from './inspector/cluster-inspector';
import './map/map-tab';
import type { MapTarget } from './map/map-tab';
import './overview/overview-tab';
import { isCancelled, problemOf, type Problem } from './problem';
import './snapshots/snapshots-tab';
import { History } from './state/history';
import { restored, START, TABS, type Kept } from './state/kept';
import { Loader } from './state/loader';
import { describePlace, naturalTab, sameView, viewOf } from './state/places';
import { StateSaver } from './state/state-saver';
import './tables/tables-tab';
import type { RowTarget } from './tables/tables-tab';
import { appStyles } from './app.styles';

/** A stop in the history. */
interface Visit {
  readonly tab: EditorTab;
  readonly place: Place | null;
  readonly view: LayerView;
}

/** Banners shown before one asks for the rest. */
const NOTICES_SHOWN = 3;

const TAB_LABELS: Readonly<Record<EditorTab, string>> = {
  overview: 'Overview',
  map: 'Map',
  tables: 'Tables',
  snapshots: 'Snapshots & Bitmaps',
  check: 'Check',
  hex: 'Hex',
};

/** The whole page: address bar, banners, tabs, inspector. It alone knows where one is and talks with the shell. */
export class ChainscopeApp extends LitElement implements HostEvents {
  static override properties = {
    host: { attribute: false },
    kept: { state: true },
    visited: { state: true },
    located: { state: true },
    inUse: { state: true },
    failure: { state: true },
    greetingProblem: { state: true },
    dismissed: { state: true },
    allNotices: { state: true },
    check: { state: true },
    changed: { state: true },
    generation: { state: true },
    announced: { state: true },
    mapTarget: { state: true },
    rowTarget: { state: true },
    hexTarget: { state: true },
    snapshotTarget: { state: true },
    inspected: { state: true },
  };

  declare host: EditorHost;
  declare private kept: Kept;
  /** Tabs that were opened: only they exist. */
  declare private visited: ReadonlySet<EditorTab>;
  declare private located: Location | null;
  declare private inUse: string | null;
  /** What the last thing that one asked of the shell ended with. */
  declare private failure: Problem | null;
  declare private greetingProblem: Problem | null;
  declare private dismissed: ReadonlySet<string>;
  declare private allNotices: boolean;
  declare private check: CheckState;
  declare private changed: ReadonlySet<string>;
  declare private generation: number;
  declare private announced: string;
  declare private mapTarget: MapTarget | null;
  declare private rowTarget: RowTarget | null;
  declare private hexTarget: HexTarget | null;
  declare private snapshotTarget: Extract<Place, { kind: 'snapshot' | 'bitmap' }> | null;
  declare private inspected: Inspected | null;

  private readonly overview = new Loader<Overview>(this);
  private readonly history = new History<Visit>();
  private readonly saver = new StateSaver<Kept>((kept) => this.host.saveState(kept));

  static override styles = [base, appStyles];

  constructor() {
    super();
    this.kept = START;
    this.visited = new Set();
    this.located = null;
    this.inUse = null;
    this.failure = null;
    this.greetingProblem = null;
    this.dismissed = new Set();
    this.allNotices = false;
    this.check = UNCHECKED;
    this.changed = new Set();
    this.generation = 0;
    this.announced = '';
    this.mapTarget = null;
    this.rowTarget = null;
    this.hexTarget = null;
    this.snapshotTarget = null;
    this.inspected = null;
    this.listenToParts();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    window.addEventListener('keydown', this.onKey);
    void this.start();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    window.removeEventListener('keydown', this.onKey);
  }

  private listenToParts(): void {
    listen(this, 'cs-go', (detail) => void this.go(detail));
    listen(this, 'cs-inspect', (detail) => this.inspect({ space: detail.space, offset: detail.offset }));
    listen(this, 'cs-open', ({ path, place }) => void this.attempt(this.host.openFile(path, place)));
    listen(this, 'cs-kept', (change) => this.keep(change));
    listen(this, 'cs-view', (view) => this.lookAt(view));
    listen(this, 'cs-announce', (text) => this.announce(text));
    listen(this, 'cs-command', (command) => void this.attempt(this.host.runCommand(command, null)));
    listen(this, 'cs-command-on', ({ command, place }) => void this.attempt(this.host.runCommand(command, place)));
    listen(this, 'cs-copy', ({ text, what }) => void this.copy(text, what));
    listen(this, 'cs-menu', (detail, event) => {
      const menu = this.renderRoot.querySelector('context-menu');
      if (menu instanceof ContextMenu) {
        menu.open(detail, focusedIn(event));
      }
    });
  }

  /** Asks the shell and the engine at the same time: neither needs the other's answer. */
  private async start(): Promise<void> {
    this.kept = restored(this.host.savedState());
    this.inspected = this.kept.inspected;
    const greeting = this.host.ready(this);
    const overview = this.askOverview();
    try {
      const { state, inUse } = await greeting;
      this.inUse = inUse;
      await overview;
      if (state === null) {
        this.show(this.kept.tab);
      } else {
        this.goTo(state);
      }
    } catch (error) {
      this.greetingProblem = problemOf(error);
    }
  }

  private askOverview(): Promise<void> {
    return this.overview.ask((options) => this.host.call('overview', null, options));
  }

  /* What the shell says. */

  goTo({ tab, place }: ViewState): void {
    if (place === null) {
      this.show(tab);
    } else {
      void this.go({ place, tab });
    }
  }

  showReport(report: CheckReport): void {
    const running = this.check.fraction !== null;
    this.check = { report, outdated: false, fraction: null, message: null };
    if (!running) {
      // An earlier report, for a page that was hidden and is back.
      return;
    }
    this.show('check');
    const found = report.kinds.reduce((sum, { count }) => sum + count, 0);
    const result = report.failure ?? (found === 0 ? 'no errors were found' : counted(found, 'finding'));
    this.announce(`Check finished: ${result}.`);
  }

  checkProgress({ fraction, message }: { readonly fraction: number | null; readonly message: string | null }): void {
    this.check = { ...this.check, fraction, message };
    if (fraction === null && message !== null) {
      this.announce(message);
    }
  }

  reload({ changedFields, notice }: { readonly changedFields: readonly string[]; readonly notice: string | null }): void {
    this.inUse = notice;
    this.changed = new Set(changedFields);
    this.generation++;
    this.check = { ...this.check, outdated: this.check.report !== null };
    void this.askOverview();
    this.announce(
      changedFields.length === 0 ? 'The file was read again.' : `The file changed: ${counted(changedFields.length, 'field')} differ.`,
    );
  }

  /* Going places. */

  /** Shows a tab as it was left. */
  private show(tab: EditorTab): void {
    const enabled = this.tabs.find(({ id }) => id === tab)?.disabled === false ? tab : 'overview';
    this.select(enabled);
    this.history.push({ tab: enabled, place: null, view: this.kept.view });
  }

  private select(tab: EditorTab): void {
    this.visited = new Set([...this.visited, tab]);
    this.keep({ tab });
  }

  /** Goes to a place and remembers that in the history. */
  private async go(detail: GoDetail): Promise<void> {
    const visit = await this.visit(detail);
    if (visit !== null) {
      this.history.push(visit);
      this.requestUpdate();
    }
  }

  private async visit({ place, tab: wanted, view: wantedView }: GoDetail): Promise<Visit | null> {
    if (place.kind === 'file') {
      await this.attempt(this.host.openFile(place.path, null));
      return null;
    }
    const view = wantedView ?? (place.kind === 'tableRow' ? viewOf(place.table) : null) ?? this.kept.view;
    let tab = wanted ?? naturalTab(place);
    if (this.tabs.find(({ id }) => id === tab)?.disabled !== false) {
      tab = place.kind === 'host' ? 'hex' : 'overview';
    }
    this.keep({ view });
    const reached = await this.aim(tab, place, view);
    this.select(reached);
    if (this.inspected !== null) {
      this.followInspector(place);
    }
    this.announce(`${TAB_LABELS[reached]}: ${describePlace(place)}`);
    return { tab: reached, place, view };
  }

  /** Tells a tab what to show of a place; returns the tab that can. */
  private async aim(tab: EditorTab, place: Exclude<Place, { kind: 'file' }>, view: LayerView): Promise<EditorTab> {
    const clusterSize = this.overview.value?.clusterSize ?? null;
    switch (place.kind) {
      case 'tableRow':
        this.rowTarget = { table: place.table, row: place.row };
        return 'tables';
      case 'snapshot':
      case 'bitmap':
        this.snapshotTarget = { ...place };
        return 'snapshots';
      case 'host':
        if (tab === 'tables' && clusterSize !== null) {
          this.rowTarget = { table: { kind: 'refcounts' }, row: Math.floor(place.hostOffset / clusterSize) };
          return tab;
        }
        if (tab === 'map') {
          this.mapTarget = { space: 'host', offset: place.hostOffset };
          return tab;
        }
        this.hexTarget = { hostOffset: place.hostOffset, length: place.length ?? 1 };
        return 'hex';
      case 'guest':
        if (tab === 'tables' && clusterSize !== null) {
          this.rowTarget = { table: { kind: 'l2', view }, row: Math.floor(place.guestOffset / clusterSize) };
          return tab;
        }
        if (tab === 'hex' && (await this.aimHexAtGuest(place.guestOffset))) {
          return tab;
        }
        this.mapTarget = { space: 'guest', offset: place.guestOffset };
        return 'map';
    }
  }

  /** The hex view shows the file: a guest offset is there when this image's own layer supplies it. */
  private async aimHexAtGuest(guestOffset: number): Promise<boolean> {
    try {
      const { layers } = await this.host.call('locate', { address: hex(guestOffset), space: 'guest' });
      const own = layers.find(({ depth, hostOffset }) => depth === 0 && hostOffset !== null);
      const hostOffset = own?.hostOffset ?? null;
      if (hostOffset === null) {
        return false;
      }
      this.hexTarget = { hostOffset, length: 1 };
      return true;
    } catch (error) {
      if (!isCancelled(error)) {
        this.failure = problemOf(error);
      }
      return false;
    }
  }

  /** The address bar found what was typed: the tab that is open shows it when it can. */
  private goToLocated(location: Location): void {
    const { space, offset, understood } = location;
    this.located = location;
    const place: Place = space === 'guest' ? { kind: 'guest', guestOffset: offset } : { kind: 'host', hostOffset: offset, length: 1 };
    const { tab } = this.kept;
    const stays = tab === 'map' || tab === 'tables' || tab === 'hex';
    void this.go(stays ? { place, tab } : { place });
    this.announce(understood);
  }

  private back(): void {
    this.revisit(this.history.back());
  }

  private forward(): void {
    this.revisit(this.history.forward());
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
    this.requestUpdate();
  }

  /** Looks at another mapping of guest to host. */
  private lookAt(view: LayerView): void {
    if (sameView(view, this.kept.view)) {
      return;
    }
    this.rowTarget = null;
    this.keep({ view });
    this.announce(view.kind === 'active' ? 'Showing the active layer.' : 'Showing a snapshot.');
  }

  private inspect(inspected: Inspected): void {
    this.inspected = inspected;
    this.keep({ inspected });
  }

  private followInspector(place: Place): void {
    if (place.kind === 'guest') {
      this.inspect({ space: 'guest', offset: place.guestOffset });
    } else if (place.kind === 'host') {
      this.inspect({ space: 'host', offset: place.hostOffset });
    }
  }

  private closeInspector(): void {
    this.inspected = null;
    this.keep({ inspected: null });
  }

  /* Small services. */

  private keep(change: Partial<Kept>): void {
    this.kept = { ...this.kept, ...change };
    this.saver.keep(this.kept);
  }

  private announce(text: string): void {
    this.announced = text;
  }

  private async copy(text: string, what: string): Promise<void> {
    await this.attempt(this.host.copyText(text, what));
    if (this.failure === null) {
      this.announce(`Copied ${what}.`);
    }
  }

  private async attempt(what: Promise<void>): Promise<void> {
    this.failure = null;
    try {
      await what;
    } catch (error) {
      if (!isCancelled(error)) {
        this.failure = problemOf(error);
      }
    }
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    if (event.altKey && !event.ctrlKey && !event.shiftKey && !event.metaKey) {
      if (event.key === 'ArrowLeft') {
        event.preventDefault();
        this.back();
      } else if (event.key === 'ArrowRight') {
        event.preventDefault();
        this.forward();
      }
    }
  };

  private get tabs(): readonly TabItem[] {
    const has = this.overview.value?.has;
    const enabled: Readonly<Record<EditorTab, boolean>> = {
      overview: true,
      map: has !== undefined && (has.guestMap || has.hostMap),
      tables: has?.tables ?? false,
      snapshots: has?.snapshots ?? false,
      check: has?.check ?? false,
      hex: true,
    };
    const findings = this.check.report?.kinds.reduce((sum, { count }) => sum + count, 0) ?? 0;
    return TABS.map((id) => ({
      id,
      label: TAB_LABELS[id],
      badge: id === 'check' && findings > 0 ? grouped(findings) : null,
      disabled: !enabled[id],
    }));
  }

  protected override render(): TemplateResult {
    const overview = this.overview.value;
    return html`<h1 class="hidden-text">${overview === null ? 'Disk image' : visible(baseName(overview.path))}</h1>
      <div class="top">
        <address-bar
          .source=${this.host}
          .space=${this.kept.space}
          .canGoBack=${this.history.canGoBack}
          .canGoForward=${this.history.canGoForward}
          @back=${() => this.back()}
          @forward=${() => this.forward()}
          @located=${(event: CustomEvent<Location>) => this.goToLocated(event.detail)}
        ></address-bar>
        ${
          this.located === null
            ? nothing
            : html`<translation-strip
                .location=${this.located}
                .path=${overview?.path ?? ''}
                @close=${() => (this.located = null)}
              ></translation-strip>`
        }
        <div class="notices">${this.renderNotices(overview)}</div>
        <tab-bar
          .tabs=${this.tabs}
          .selected=${this.kept.tab}
          @choose=${(event: CustomEvent<EditorTab>) => this.show(event.detail)}
        ></tab-bar>
      </div>
      <main class="work">
        <div class="panels">${this.renderPanels(overview)}</div>
        ${
          this.inspected === null || overview === null
            ? nothing
            : html`<cluster-inspector
                .source=${this.host}
                .inspected=${this.inspected}
                .path=${overview.path}
                .view=${this.kept.view}
                .generation=${this.generation}
                @close=${() => this.closeInspector()}
              ></cluster-inspector>`
        }
      </main>
      <context-menu></context-menu>
      <div class="hidden-text" role="status" aria-live="polite">${visible(this.announced)}</div>`;
  }

  private renderNotices(overview: Overview | null): TemplateResult {
    const notices = (overview?.notices ?? []).filter(({ message }) => !this.dismissed.has(message));
    const shown = this.allNotices ? notices : notices.slice(0, NOTICES_SHOWN);
    return html`${
      this.failure === null
        ? nothing
        : this.renderBanner(
            'error',
            `${this.failure.message}${this.failure.remedy === null ? '' : ` ${this.failure.remedy}`}`,
            () => (this.failure = null),
          )
    }${this.inUse === null || this.dismissed.has(this.inUse) ? nothing : this.renderBanner('info', this.inUse, () => this.dismiss(this.inUse ?? ''))}${shown.map((notice) => this.renderNotice(notice))}${
      shown.length < notices.length
        ? html`<button type="button" class="link" @click=${() => (this.allNotices = true)}>
            Show ${counted(notices.length - shown.length, 'more notice')}
          </button>`
        : nothing
    }`;
  }

  private renderNotice({ severity, message, place }: Notice): TemplateResult {
    return this.renderBanner(severity, message, () => this.dismiss(message), place);
  }

  private renderBanner(severity: Severity, message: string, dismiss: () => void, place: Place | null = null): TemplateResult {
    return html`<notice-banner
      .severity=${severity}
      severity=${severity}
      closable
      role=${severity === 'error' ? 'alert' : 'status'}
      @dismiss=${dismiss}
      >${visible(message)}${place === null ? nothing : html` ${placeLink(place, { text: describePlace(place) })}`}</notice-banner
    >`;
  }

  private dismiss(message: string): void {
    this.dismissed = new Set([...this.dismissed, message]);
  }

  private renderPanels(overview: Overview | null): TemplateResult {
    if (this.greetingProblem !== null) {
      return problemState(this.greetingProblem, null);
    }
    if (overview === null || this.overview.problem !== null) {
      return html`${insteadOf(this.overview, 'Reading the image')}`;
    }
    return html`${TABS.filter((tab) => this.visited.has(tab)).map(
      (tab) =>
        html`<div role="tabpanel" id=${`panel-${tab}`} aria-label=${TAB_LABELS[tab]} ?hidden=${tab !== this.kept.tab}>
          ${this.renderTab(tab, overview)}
        </div>`,
    )}`;
  }

  private renderTab(tab: EditorTab, overview: Overview): TemplateResult {
    const { host, generation } = this;
    const { view } = this.kept;
    switch (tab) {
      case 'overview':
        return html`<overview-tab
          .source=${host}
          .overview=${overview}
          .expanded=${this.kept.expanded === null ? null : new Set(this.kept.expanded)}
          .changed=${this.changed}
          .generation=${generation}
        ></overview-tab>`;
      case 'map':
        return html`<map-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .kept=${this.kept.map}
          .target=${this.mapTarget}
          .generation=${generation}
        ></map-tab>`;
      case 'tables':
        return html`<tables-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .kept=${this.kept.table}
          .target=${this.rowTarget}
          .generation=${generation}
        ></tables-tab>`;
      case 'snapshots':
        return html`<snapshots-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .target=${this.snapshotTarget}
          .generation=${generation}
        ></snapshots-tab>`;
      case 'check':
        return html`<check-tab .state=${this.check}></check-tab>`;
      case 'hex':
        return html`<hex-tab
          .source=${host}
          .overview=${overview}
          .target=${this.hexTarget}
          .start=${this.kept.hexOffset}
          .generation=${generation}
        ></hex-tab>`;
    }
  }
}

/** The element that has the focus, through all shadow roots; else the one that the event came from. */
function focusedIn(event: Event): HTMLElement | null {
  let element = document.activeElement;
  for (let inner = element; inner !== null; inner = inner.shadowRoot?.activeElement ?? null) {
    element = inner;
  }
  const [origin] = event.composedPath();
  return element instanceof HTMLElement ? element : origin instanceof HTMLElement ? origin : null;
}

customElements.define('chainscope-app', ChainscopeApp);
