import { html, LitElement, nothing, type TemplateResult } from 'lit';
import type { CheckReport } from '../src/protocol/check';
import type { Location, Overview } from '../src/protocol/inspect';
import type { EditorTab, ViewState } from '../src/protocol/webview';
import { appStyles } from './app.styles';
import { UNCHECKED, type CheckState } from './check/check-tab';
import './check/check-tab';
import './components/address-bar';
import './components/context-menu';
import { ContextMenu } from './components/context-menu';
import { insteadOf, problemState } from './components/panel-states';
import { base } from './components/styles';
import './components/tab-bar';
import './components/translation-strip';
import { listen } from './events';
import { counted } from './format/numbers';
import { baseName, visible } from './format/text';
import './hex/hex-tab';
import type { EditorHost, HostEvents } from './host';
import './inspector/cluster-inspector';
import './map/map-tab';
import './notice-list';
import './overview/overview-tab';
import { isCancelled, problemOf, type Problem } from './problem';
import './snapshots/snapshots-tab';
import { restored, TABS, type Kept } from './state/kept';
import { Loader } from './state/loader';
import { Navigator } from './state/navigator';
import { StateSaver } from './state/state-saver';
import './tables/tables-tab';
import { TAB_LABELS, tabItems } from './tabs';

/** The whole page: address bar, notices, tabs, inspector. It alone talks with the shell. */
export class ChainscopeApp extends LitElement implements HostEvents {
  static override properties = {
    host: { attribute: false },
    located: { state: true },
    failure: { state: true },
    greetingProblem: { state: true },
    check: { state: true },
    changed: { state: true },
    generation: { state: true },
    announced: { state: true },
  };

  declare host: EditorHost;
  declare private located: Location | null;
  /** What the last thing that one asked of the shell ended with. */
  declare private failure: Problem | null;
  declare private greetingProblem: Problem | null;
  declare private check: CheckState;
  declare private changed: ReadonlySet<string>;
  declare private generation: number;
  declare private announced: string;

  private readonly overview = new Loader<Overview>(this);
  private readonly saver = new StateSaver<Kept>((kept) => this.host.saveState(kept));
  private readonly navigator = new Navigator({
    client: () => this.host,
    overview: () => this.overview.value,
    openFile: (path) => this.attempt(this.host.openFile(path, null)),
    announce: (text) => this.announce(text),
    failed: (error) => this.fail(error),
    moved: (kept) => {
      this.saver.keep(kept);
      this.requestUpdate();
    },
  });

  static override styles = [base, appStyles];

  constructor() {
    super();
    this.located = null;
    this.failure = null;
    this.greetingProblem = null;
    this.check = UNCHECKED;
    this.changed = new Set();
    this.generation = 0;
    this.announced = '';
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
    const { navigator } = this;
    listen(this, 'cs-go', (detail) => void navigator.go(detail));
    listen(this, 'cs-inspect', (detail) => navigator.inspect({ space: detail.space, offset: detail.offset }));
    listen(this, 'cs-open', ({ path, place }) => void this.attempt(this.host.openFile(path, place)));
    listen(this, 'cs-kept', (change) => navigator.keep(change));
    listen(this, 'cs-view', (view) => navigator.lookAt(view));
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
    this.navigator.restore(restored(this.host.savedState()));
    const greeting = this.host.ready(this);
    const overview = this.askOverview();
    try {
      const { state } = await greeting;
      await overview;
      if (state === null) {
        this.navigator.show(this.navigator.kept.tab);
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

  goTo(state: ViewState): void {
    this.navigator.goTo(state);
  }

  showReport(report: CheckReport): void {
    const running = this.check.fraction !== null;
    this.check = { report, outdated: false, fraction: null, message: null };
    if (!running) {
      // An earlier report, for a page that was hidden and is back.
      return;
    }
    this.navigator.show('check');
    const found = findingsOf(report);
    const result = report.failure ?? (found === 0 ? 'no errors were found' : counted(found, 'finding'));
    this.announce(`Check finished: ${result}.`);
  }

  checkProgress({ fraction, message }: { readonly fraction: number | null; readonly message: string | null }): void {
    this.check = { ...this.check, fraction, message };
    if (fraction === null && message !== null) {
      this.announce(message);
    }
  }

  reload({ changedFields }: { readonly changedFields: readonly string[] }): void {
    this.changed = new Set(changedFields);
    this.generation++;
    this.check = { ...this.check, outdated: this.check.report !== null };
    void this.askOverview();
    this.announce(
      changedFields.length === 0 ? 'The file was read again.' : `The file changed: ${counted(changedFields.length, 'field')} differ.`,
    );
  }

  /* Small services. */

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
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (!isCancelled(error)) {
      this.failure = problemOf(error);
    }
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    if (event.altKey && !event.ctrlKey && !event.shiftKey && !event.metaKey) {
      if (event.key === 'ArrowLeft') {
        event.preventDefault();
        this.navigator.back();
      } else if (event.key === 'ArrowRight') {
        event.preventDefault();
        this.navigator.forward();
      }
    }
  };

  /** The address bar found what was typed. */
  private goToLocated(location: Location): void {
    this.located = location;
    this.navigator.goToLocated(location);
    this.announce(location.understood);
  }

  protected override render(): TemplateResult {
    const overview = this.overview.value;
    const { kept } = this.navigator;
    const { inspected } = kept;
    return html`<h1 class="hidden-text">${overview === null ? 'Disk image' : visible(baseName(overview.path))}</h1>
      <div class="top">
        <address-bar
          .source=${this.host}
          .space=${kept.space}
          .canGoBack=${this.navigator.canGoBack}
          .canGoForward=${this.navigator.canGoForward}
          @back=${() => this.navigator.back()}
          @forward=${() => this.navigator.forward()}
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
        ${this.renderNotices(overview)}
        <tab-bar
          .tabs=${tabItems(overview, this.check.report === null ? 0 : findingsOf(this.check.report))}
          .selected=${kept.tab}
          @choose=${(event: CustomEvent<EditorTab>) => this.navigator.show(event.detail)}
        ></tab-bar>
      </div>
      <main class="work">
        <div class="panels">${this.renderPanels(overview)}</div>
        ${
          inspected === null || overview === null
            ? nothing
            : html`<cluster-inspector
                .source=${this.host}
                .inspected=${inspected}
                .path=${overview.path}
                .view=${kept.view}
                .generation=${this.generation}
                @close=${() => this.navigator.inspect(null)}
              ></cluster-inspector>`
        }
      </main>
      <context-menu></context-menu>
      <div class="hidden-text" role="status" aria-live="polite">${visible(this.announced)}</div>`;
  }

  private renderNotices(overview: Overview | null): TemplateResult | typeof nothing {
    const notices = overview?.notices ?? [];
    return this.failure === null && notices.length === 0
      ? nothing
      : html`<notice-list .failure=${this.failure} .notices=${notices} @forgive=${() => (this.failure = null)}></notice-list>`;
  }

  private renderPanels(overview: Overview | null): TemplateResult {
    if (this.greetingProblem !== null) {
      return problemState(this.greetingProblem, null);
    }
    if (overview === null || this.overview.problem !== null) {
      return html`${insteadOf(this.overview, 'Reading the image')}`;
    }
    return html`${TABS.filter((tab) => this.navigator.visited.has(tab)).map(
      (tab) =>
        html`<div role="tabpanel" id=${`panel-${tab}`} aria-label=${TAB_LABELS[tab]} ?hidden=${tab !== this.navigator.kept.tab}>
          ${this.renderTab(tab, overview)}
        </div>`,
    )}`;
  }

  private renderTab(tab: EditorTab, overview: Overview): TemplateResult {
    const { host, generation } = this;
    const { kept, targets } = this.navigator;
    const { view } = kept;
    switch (tab) {
      case 'overview':
        return html`<overview-tab
          .source=${host}
          .overview=${overview}
          .expanded=${kept.expanded === null ? null : new Set(kept.expanded)}
          .changed=${this.changed}
          .generation=${generation}
        ></overview-tab>`;
      case 'map':
        return html`<map-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .kept=${kept.map}
          .target=${targets.map}
          .generation=${generation}
        ></map-tab>`;
      case 'tables':
        return html`<tables-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .kept=${kept.table}
          .target=${targets.row}
          .generation=${generation}
        ></tables-tab>`;
      case 'snapshots':
        return html`<snapshots-tab
          .source=${host}
          .overview=${overview}
          .view=${view}
          .target=${targets.snapshot}
          .generation=${generation}
        ></snapshots-tab>`;
      case 'check':
        return html`<check-tab .state=${this.check}></check-tab>`;
      case 'hex':
        return html`<hex-tab
          .source=${host}
          .overview=${overview}
          .target=${targets.hex}
          .start=${kept.hexOffset}
          .generation=${generation}
        ></hex-tab>`;
    }
  }
}

/** All that a check found, kinds that are not listed one by one included. */
function findingsOf({ kinds }: CheckReport): number {
  return kinds.reduce((sum, { count }) => sum + count, 0);
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
