import { css, html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import type { BitmapDetail, Overview, SnapshotDetail, SnapshotsAndBitmaps } from '../../src/protocol/inspect';
import type { LayerView, Place } from '../../src/protocol/place';
import { icon } from '../components/icons';
import '../components/notice-banner';
import { placeLink } from '../components/offset-link';
import { emptyState, insteadOf } from '../components/panel-states';
import '../components/structure-panel';
import { base } from '../components/styles';
import { send } from '../events';
import { exactly, grouped, size } from '../format/numbers';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { Loader } from '../state/loader';
import { sameView } from '../state/places';

/** Entries shown before one asks for more: an image may have 65,536 snapshots. */
const PORTION = 100;

/** Internal snapshots and persistent bitmaps: their structures, and the way to look at a snapshot's tables and map. */
export class SnapshotsTab extends LitElement {
  static override properties = {
    source: { attribute: false },
    overview: { attribute: false },
    view: { attribute: false },
    target: { attribute: false },
    generation: { type: Number },
    opened: { state: true },
    shown: { state: true },
  };

  declare source: ImageClient;
  declare overview: Overview;
  declare view: LayerView;
  declare target: Extract<Place, { kind: 'snapshot' | 'bitmap' }> | null;
  declare generation: number;
  /** Ids of structures that are folded open. */
  declare private opened: ReadonlySet<string>;
  declare private shown: number;

  private readonly details = new Loader<SnapshotsAndBitmaps>(this);

  static override styles = [
    base,
    css`
      :host {
        display: block;
        height: 100%;
        overflow: auto;
        padding: 12px 16px 24px;
        container-type: inline-size;
      }

      section {
        margin-bottom: 24px;
      }

      h2 {
        padding-bottom: 4px;
        border-bottom: 1px solid var(--cs-line);
        color: var(--vscode-descriptionForeground);
      }

      notice-banner {
        margin-bottom: 8px;
      }

      .entry {
        margin: 0 -8px;
        padding: 0 8px;
      }

      .entry.target {
        outline: 1px solid var(--vscode-focusBorder);
      }

      .line {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: 2px 14px;
        padding: 6px 0 2px;
        color: var(--vscode-descriptionForeground);
      }

      h3 {
        color: var(--vscode-foreground);
        font-weight: 600;
      }

      .current {
        display: inline-flex;
        align-items: center;
        gap: 4px;
        color: var(--vscode-foreground);
      }
    `,
  ];

  constructor() {
    super();
    this.target = null;
    this.generation = 0;
    this.opened = new Set();
    this.shown = PORTION;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('source') || changed.has('generation')) {
      void this.details.ask((options) => this.source.call('snapshotsAndBitmaps', null, options));
    }
    if (changed.has('target') && this.target !== null) {
      this.shown = Math.max(this.shown, this.target.index + 1);
    }
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('target') || this.details.value !== null) {
      this.showTarget();
    }
  }

  private shownTarget: Place | null = null;

  /** Unfolds and scrolls to what a link leads to, once. */
  private showTarget(): void {
    const { target } = this;
    const details = this.details.value;
    if (target === null || details === null || this.shownTarget === target) {
      return;
    }
    this.shownTarget = target;
    const found = (target.kind === 'snapshot' ? details.snapshots : details.bitmaps).find(({ index }) => index === target.index);
    if (found !== undefined) {
      this.opened = new Set([...this.opened, found.structure.id]);
      void this.updateComplete.then(() => this.renderRoot.querySelector('.target')?.scrollIntoView({ block: 'nearest' }));
    }
  }

  protected override render(): TemplateResult {
    const details = this.details.value;
    if (details === null || this.details.problem !== null) {
      return html`${insteadOf(this.details, 'Reading snapshots and bitmaps')}`;
    }
    const { snapshots, bitmaps, notices } = details;
    if (snapshots.length === 0 && bitmaps.length === 0 && notices.length === 0) {
      return emptyState('file', 'This image has no internal snapshots and no bitmaps.');
    }
    return html`${notices.map(
        ({ severity, message, place }) =>
          html`<notice-banner .severity=${severity}
            >${visible(message)}${place === null ? nothing : html` ${placeLink(place)}`}</notice-banner
          >`,
      )}
      <section>
        <h2>Internal snapshots <span class="muted">${grouped(snapshots.length)}</span></h2>
        ${snapshots.length === 0 ? html`<p class="muted">None.</p>` : nothing}
        ${repeat(
          snapshots.slice(0, this.shown),
          ({ index }) => index,
          (snapshot) => this.renderSnapshot(snapshot),
        )}
        ${this.renderMore(snapshots.length)}
      </section>
      <section>
        <h2>Bitmaps <span class="muted">${grouped(bitmaps.length)}</span></h2>
        ${bitmaps.length === 0 ? html`<p class="muted">None.</p>` : nothing}
        ${repeat(
          bitmaps.slice(0, this.shown),
          ({ index }) => index,
          (bitmap) => this.renderBitmap(bitmap),
        )}
        ${this.renderMore(bitmaps.length)}
      </section>`;
  }

  private renderMore(count: number): TemplateResult | typeof nothing {
    return count <= this.shown
      ? nothing
      : html`<button type="button" class="link" @click=${() => (this.shown += PORTION * 5)}>
          Show more (${grouped(count - this.shown)} left)
        </button>`;
  }

  private renderSnapshot({ index, structure, summary }: SnapshotDetail): TemplateResult {
    const view: LayerView = { kind: 'snapshot', index };
    const current = sameView(view, this.view);
    return html`<div class="entry ${this.isTarget('snapshot', index) ? 'target' : ''}">
      <div class="line">
        <h3>${visible(summary)}</h3>
        ${
          current
            ? html`<span class="current">${icon('pass')}Tables and map show it</span>
                <button type="button" class="link" @click=${() => send(this, 'cs-view', { kind: 'active' })}>
                  Back to the active layer
                </button>`
            : html`<button type="button" class="link" @click=${() => send(this, 'cs-view', view)}>Look at this snapshot</button>`
        }
        <button type="button" class="link" @click=${() => this.open(view, 'map')}>Map</button>
        <button type="button" class="link" @click=${() => this.open(view, 'tables')}>Tables</button>
      </div>
      ${this.renderStructure(structure)}
    </div>`;
  }

  private open(view: LayerView, tab: 'map' | 'tables'): void {
    send(
      this,
      'cs-go',
      tab === 'map'
        ? { place: { kind: 'guest', guestOffset: 0 }, tab, view }
        : { place: { kind: 'tableRow', table: { kind: 'l1', view }, row: 0 }, tab, view },
    );
  }

  private renderBitmap({ index, name, structure, markedBytes }: BitmapDetail): TemplateResult {
    return html`<div class="entry ${this.isTarget('bitmap', index) ? 'target' : ''}">
      <div class="line">
        <h3>${visible(name)}</h3>
        ${
          markedBytes === null
            ? html`<span>its bits cannot be read</span>`
            : html`<span title=${exactly(markedBytes)}>marks ${markedBytes === 0 ? 'nothing' : size(markedBytes)} of the disk</span>`
        }
        ${placeLink({ kind: 'tableRow', table: { kind: 'bitmapTable', index }, row: 0 }, { text: 'Table' })}
      </div>
      ${this.renderStructure(structure)}
    </div>`;
  }

  private isTarget(kind: 'snapshot' | 'bitmap', index: number): boolean {
    return this.target?.kind === kind && this.target.index === index;
  }

  private renderStructure(structure: SnapshotDetail['structure']): TemplateResult {
    return html`<structure-panel
      .structure=${structure}
      .path=${this.overview.path}
      ?expanded=${this.opened.has(structure.id)}
      @fold=${(event: CustomEvent<boolean>) => this.fold(structure.id, event.detail)}
    ></structure-panel>`;
  }

  private fold(id: string, expanded: boolean): void {
    const opened = new Set(this.opened);
    if (expanded) {
      opened.add(id);
    } else {
      opened.delete(id);
    }
    this.opened = opened;
  }
}

customElements.define('snapshots-tab', SnapshotsTab);
