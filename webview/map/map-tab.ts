import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import type { MapCellInfo, MapMode, MapOrder, MapRequest, MapShape, MapSpace, Overview } from '../../src/protocol/inspect';
import type { LayerView } from '../../src/protocol/place';
import { cssProperties } from '../components/css-properties';
import { icon, type IconName } from '../components/icons';
import { insteadOf, problemState } from '../components/panel-states';
import { segmented, segmentedStyles } from '../components/segmented';
import { base } from '../components/styles';
import { viewSelect } from '../components/view-select';
import { send } from '../events';
import { counted, grouped, percent, size } from '../format/numbers';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { isCancelled, problemOf, type Problem } from '../problem';
import type { KeptMap } from '../state/kept';
import { Loader } from '../state/loader';
import { ACTIVE } from '../state/places';
import { shortLabel } from './classes';
import type { Cell } from './draw';
import type { CellDetail, MapCanvas } from './map-canvas';
import { ZOOM_STEP } from './map-keys';
import './map-canvas';
import './map-legend';
import { mapTabStyles } from './map-tab.styles';

/** Where a link wants the map to go. A new object is a new wish. */
export interface MapTarget {
  readonly space: MapSpace;
  readonly offset: number;
}

/** A hovering pointer asks the engine only when it rests this long, in milliseconds. */
const HOVER_DELAY = 60;

interface Hint {
  readonly detail: CellDetail;
  readonly info: MapCellInfo | null;
}

/** The guest map and the host map, with the choice of how to look at them. */
export class MapTab extends LitElement {
  static override properties = {
    source: { attribute: false },
    overview: { attribute: false },
    view: { attribute: false },
    kept: { attribute: false },
    target: { attribute: false },
    generation: { type: Number },
    hint: { state: true },
    cellText: { state: true },
    tileProblem: { state: true },
  };

  declare source: ImageClient;
  declare overview: Overview;
  declare view: LayerView;
  declare kept: KeptMap;
  declare target: MapTarget | null;
  declare generation: number;
  declare private hint: Hint | null;
  declare private cellText: string;
  declare private tileProblem: Problem | null;

  private readonly shape = new Loader<MapShape>(this);
  private shapeRequest: MapRequest | null = null;
  private readonly cellRequests = new Map<string, AbortController>();
  private only: ReadonlySet<string> = new Set();
  private viewportTimer: ReturnType<typeof setTimeout> | null = null;

  static override styles = [base, segmentedStyles, mapTabStyles];

  constructor() {
    super();
    this.target = null;
    this.generation = 0;
    this.hint = null;
    this.cellText = '';
    this.tileProblem = null;
  }

  private get request(): MapRequest {
    const { has } = this.overview;
    const space = has.guestMap && (this.kept.space === 'guest' || !has.hostMap) ? 'guest' : 'host';
    return {
      space,
      mode: space === 'guest' ? this.kept.mode : 'state',
      order: this.kept.order,
      view: space === 'guest' ? this.view : ACTIVE,
    };
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('target') && this.target !== null && this.target.space !== this.kept.space) {
      this.keep({ space: this.target.space, viewport: null });
    }
    if (this.kept.only.join() !== [...this.only].join()) {
      this.only = new Set(this.kept.only);
    }
    const request = this.request;
    const sameRequest = JSON.stringify(request) === JSON.stringify(this.shapeRequest);
    if (!sameRequest || changed.has('generation') || changed.has('source')) {
      this.shapeRequest = request;
      this.tileProblem = null;
      this.hint = null;
      this.cellText = '';
      if (!sameRequest) {
        this.shape.reset();
      }
      void this.shape.ask((options) => this.source.call('mapShape', request, options)).then(() => this.showTarget());
    } else if (changed.has('target')) {
      void this.showTarget();
    }
  }

  /** Finds the cell that a link leads to and outlines it. */
  private async showTarget(): Promise<void> {
    const { target } = this;
    const request = this.request;
    if (target === null || this.shape.value === null || target.space !== request.space) {
      return;
    }
    try {
      const cell = await this.source.call('mapFind', { ...request, offset: target.offset });
      if (this.target === target) {
        await this.updateComplete;
        this.canvas?.select(cell, true);
      }
    } catch (error) {
      this.canvas?.select(null, false);
      this.tell(error);
    }
  }

  /** Says in the status line what did not work. */
  private tell(error: unknown): void {
    if (!isCancelled(error)) {
      this.cellText = visible(problemOf(error).message);
      send(this, 'cs-announce', this.cellText);
    }
  }

  private get canvas(): MapCanvas | null {
    return this.renderRoot.querySelector('map-canvas');
  }

  private keep(change: Partial<KeptMap>): void {
    this.kept = { ...this.kept, ...change };
    send(this, 'cs-kept', { map: this.kept });
  }

  /**
   * Asks what is in a cell; null when that failed, which was then said, or when the same was asked about another cell meanwhile. Where the
   * pointer rests and what was clicked are two questions: neither gives up the other.
   */
  private async cellInfo(why: 'hover' | 'cursor' | 'pick', { level, x, y }: Cell): Promise<MapCellInfo | null> {
    this.cellRequests.get(why)?.abort();
    const controller = new AbortController();
    this.cellRequests.set(why, controller);
    try {
      return await this.source.call('mapCell', { ...this.request, level, x, y }, { signal: controller.signal });
    } catch (error) {
      this.tell(error);
      return null;
    }
  }

  private hovered(detail: CellDetail | null): void {
    this.hint = detail === null ? null : { detail, info: null };
    if (detail === null) {
      this.cellRequests.get('hover')?.abort();
      return;
    }
    setTimeout(() => {
      if (this.hint?.detail === detail) {
        void this.describe(detail);
      }
    }, HOVER_DELAY);
  }

  private async describe(detail: CellDetail): Promise<void> {
    const info = await this.cellInfo('hover', detail.cell);
    if (info !== null && this.hint?.detail === detail) {
      this.hint = { detail, info };
    }
  }

  private async tellCell(detail: CellDetail): Promise<void> {
    const info = await this.cellInfo('cursor', detail.cell);
    if (info !== null) {
      this.cellText = this.textOf(info);
      send(this, 'cs-announce', this.cellText);
    }
  }

  private async pick(detail: CellDetail): Promise<void> {
    const { space } = this.request;
    const info = await this.cellInfo('pick', detail.cell);
    if (info !== null) {
      this.cellText = this.textOf(info);
      send(this, 'cs-inspect', { space, offset: info.offset });
    }
  }

  private textOf({ description, counts, clusters }: MapCellInfo): string {
    if (clusters <= 1 || counts.length <= 1) {
      return visible(description);
    }
    const parts = counts.map(({ index, clusters: some }) => `${grouped(some)} ${this.labelOf(index)}`);
    return `${visible(description)}: ${parts.join(', ')}`;
  }

  private labelOf(index: number): string {
    const found = this.shape.value?.classes.find((each) => each.index === index);
    return found === undefined ? `class ${index}` : shortLabel(found);
  }

  private get summary(): string {
    const shape = this.shape.value;
    if (shape === null) {
      return '';
    }
    const parts = shape.classes
      .filter(({ clusters }) => clusters > 0)
      .map((each) => `${shortLabel(each)} ${size(each.bytes)}, ${percent(each.bytes, shape.length)}`);
    return `${counted(shape.clusters, 'cluster')} of ${size(shape.clusterSize)}: ${parts.join('; ')}.`;
  }

  protected override render(): TemplateResult {
    const shape = this.shape.value;
    const instead = insteadOf(this.shape, this.request.space === 'guest' ? 'Reading the tables' : 'Reading the refcounts');
    return html`${this.renderToolbar(shape !== null)}
    ${
      shape === null || this.shape.problem !== null
        ? instead
        : html`<div class="split" aria-busy=${String(this.shape.loading)}>
              <map-canvas
                .source=${this.source}
                .request=${this.shapeRequest}
                .shape=${shape}
                .start=${this.kept.viewport}
                .only=${this.only}
                .name=${this.request.space === 'guest' ? 'Guest map' : 'Host map'}
                .summary=${this.summary}
                @cell-hover=${(event: CustomEvent<CellDetail | null>) => this.hovered(event.detail)}
                @cell-cursor=${(event: CustomEvent<CellDetail>) => void this.tellCell(event.detail)}
                @cell-pick=${(event: CustomEvent<CellDetail>) => void this.pick(event.detail)}
                @tile-problem=${(event: CustomEvent<Problem>) => (this.tileProblem = event.detail)}
                @viewport=${() => this.keepViewport()}
              ></map-canvas>
              <map-legend
                .shape=${shape}
                .only=${this.only}
                @choose=${(event: CustomEvent<ReadonlySet<string>>) => this.keep({ only: [...event.detail] })}
              ></map-legend>
            </div>
            ${
              this.tileProblem === null
                ? html`<div class="status">${this.cellText === '' ? this.summary : this.cellText}</div>`
                : problemState(this.tileProblem, () => this.retryTiles())
            }`
    }
    ${this.renderHint()}`;
  }

  private retryTiles(): void {
    this.tileProblem = null;
    this.canvas?.reload();
  }

  /** Saved when the hand rests, not sixty times a second. */
  private keepViewport(): void {
    this.viewportTimer ??= setTimeout(() => {
      this.viewportTimer = null;
      this.keep({ viewport: this.canvas?.kept ?? null });
    }, 300);
  }

  private renderToolbar(ready: boolean): TemplateResult {
    const { has } = this.overview;
    const request = this.request;
    const spaces = [
      ...(has.guestMap ? [{ value: 'guest' as const, label: 'Guest', title: 'What the virtual disk is made of' }] : []),
      ...(has.hostMap ? [{ value: 'host' as const, label: 'Host', title: "What the file's clusters are" }] : []),
    ];
    return html`<div class="toolbar" role="toolbar" aria-label="Map">
      ${spaces.length < 2 ? nothing : segmented<MapSpace>('Which map', spaces, request.space, (space) => this.keep({ space, only: [], viewport: null }))}
      ${
        request.space === 'guest'
          ? segmented<MapMode>(
              'Coloured by',
              [
                { value: 'state', label: 'State', title: 'Colour by what a cluster is' },
                { value: 'layer', label: 'Layer', title: 'Colour by the layer of the chain that supplies it' },
              ],
              request.mode,
              (mode) => this.keep({ mode, only: [] }),
            )
          : nothing
      }
      ${segmented<MapOrder>(
        'Order of cells',
        [
          { value: 'hilbert', label: 'Hilbert', title: 'Along a Hilbert curve: what lies close by address lies close on the map' },
          { value: 'rowMajor', label: 'Rows', title: 'Row by row' },
        ],
        request.order,
        (order) => this.keep({ order, viewport: null }),
      )}
      ${request.space === 'guest' ? viewSelect(this.overview, this.view, (view) => send(this, 'cs-view', view)) : nothing}
      <span class="zoom" ?hidden=${!ready}>
        ${this.zoomButton('zoomOut', 'Zoom out (-)', () => this.canvas?.zoom(1 / ZOOM_STEP))}
        ${this.zoomButton('zoomIn', 'Zoom in (+)', () => this.canvas?.zoom(ZOOM_STEP))}
        ${this.zoomButton('fit', 'Whole map (Home)', () => this.canvas?.fit())}
      </span>
    </div>`;
  }

  private zoomButton(name: IconName, label: string, run: () => void): TemplateResult {
    return html`<button type="button" class="icon-button" aria-label=${label} title=${label} @click=${run}>${icon(name)}</button>`;
  }

  private renderHint(): TemplateResult | typeof nothing {
    if (this.hint === null) {
      return nothing;
    }
    const { detail, info } = this.hint;
    const above = detail.clientY > window.innerHeight - 140;
    return html`<div
      class="hint ${above ? 'above' : ''}"
      aria-hidden="true"
      ${cssProperties({ '--x': `${detail.clientX + 8}px`, '--y': `${detail.clientY + 8}px` })}
    >
      ${
        info === null
          ? html`<div>${detail.classIndex === null ? '…' : this.labelOf(detail.classIndex)}</div>`
          : html`<div><strong>${visible(info.description)}</strong></div>
              ${
                info.clusters > 1
                  ? info.counts.map(
                      ({ index, clusters }) =>
                        html`<div>${this.labelOf(index)}: ${grouped(clusters)}, ${percent(clusters, info.clusters)}</div>`,
                    )
                  : nothing
              }`
      }
    </div>`;
  }
}

customElements.define('map-tab', MapTab);
