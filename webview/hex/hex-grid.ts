import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import type { Region } from '../../src/protocol/inspect';
import { cssProperties } from '../components/css-properties';
import { placeLink } from '../components/offset-link';
import { problemState } from '../components/panel-states';
import { RowScroller } from '../components/row-scroller';
import '../components/row-scrollbar';
import { base } from '../components/styles';
import { asciiByte, hexByte } from '../format/bytes';
import { exactly, hex, size } from '../format/numbers';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { HOST_CLASSES } from '../map/classes';
import { HexPages } from './hex-pages';
import { cursorAfterKey, isSelected, movedTo, type HexSelection } from './selection';
import { hexGridStyles } from './hex-grid.styles';

export const BYTES_PER_ROW = 16;

/** The bytes of the whole file in rows of sixteen, with the region they belong to beside them. One stop of the tab key. */
export class HexGrid extends LitElement {
  static override properties = {
    source: { attribute: false },
    fileSize: { type: Number },
    generation: { type: Number },
    selection: { attribute: false },
  };

  declare source: ImageClient;
  declare fileSize: number;
  declare generation: number;
  declare selection: HexSelection;

  private readonly scroller = new RowScroller(this, () => Math.round(this.fontSize * 1.5));
  private pages: HexPages | null = null;
  private reveal: 'never' | 'just' | 'centered' = 'never';
  private dragging = false;

  static override styles = [base, hexGridStyles];

  constructor() {
    super();
    this.fileSize = 0;
    this.generation = 0;
    this.selection = { anchor: 0, cursor: 0 };
  }

  private get fontSize(): number {
    return Number.parseFloat(getComputedStyle(this).fontSize) || 14;
  }

  /** Brings the cursor into sight. */
  showCursor(): void {
    this.reveal = 'centered';
    this.requestUpdate();
  }

  /** Bytes from an offset on, as far as they are on the page already. */
  bytesHere(offset: number, length: number): Uint8Array {
    return this.pages?.bytes(offset, length) ?? new Uint8Array();
  }

  regionAt(offset: number): Region | null {
    return this.pages?.regions(offset, 1)[0] ?? null;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('source') || changed.has('fileSize') || changed.has('generation')) {
      this.pages?.dispose();
      this.pages = new HexPages(
        this.fileSize,
        (hostOffset, length, signal) => this.source.call('hex', { hostOffset, length }, { signal }),
        () => {
          this.requestUpdate();
          this.dispatchEvent(new Event('bytes'));
        },
      );
      this.scroller.window.setRows(Math.ceil(this.fileSize / BYTES_PER_ROW));
    }
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.pages?.dispose();
  }

  protected override updated(): void {
    this.scroller.attach(this.renderRoot.querySelector<HTMLElement>('.rows'));
    const { window } = this.scroller;
    if (this.reveal !== 'never' && this.scroller.track > 0) {
      const row = Math.floor(this.selection.cursor / BYTES_PER_ROW);
      const moved = this.reveal === 'centered' ? window.revealCentered(row) : window.reveal(row);
      this.reveal = 'never';
      if (moved) {
        this.requestUpdate();
      }
    }
    if (window.visibleCount > 0) {
      this.pages?.want(window.first * BYTES_PER_ROW, window.visibleCount * BYTES_PER_ROW);
    }
  }

  private select(selection: HexSelection): void {
    this.selection = selection;
    this.reveal = 'just';
    this.dispatchEvent(new CustomEvent('select-bytes', { detail: selection }));
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    const control = event.ctrlKey || event.metaKey;
    if (event.altKey) {
      return;
    }
    const cursor = cursorAfterKey(event.key, control, this.selection.cursor, {
      width: BYTES_PER_ROW,
      pageRows: this.scroller.window.pageRows,
      fileSize: this.fileSize,
    });
    if (cursor !== null) {
      this.select(movedTo(this.selection, cursor, event.shiftKey, this.fileSize));
    } else if (event.key === 'Enter') {
      this.dispatchEvent(new Event('inspect-byte'));
    } else if (event.key === 'c' && control) {
      this.dispatchEvent(new Event('copy-bytes'));
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  private offsetAt(event: PointerEvent): number | null {
    const under = this.shadowRoot?.elementFromPoint(event.clientX, event.clientY);
    const offset = under instanceof HTMLElement ? under.dataset['offset'] : undefined;
    return offset === undefined ? null : Number(offset);
  }

  private press(event: PointerEvent): void {
    const offset = event.button === 0 ? this.offsetAt(event) : null;
    if (offset !== null) {
      this.dragging = true;
      this.select(movedTo(this.selection, offset, event.shiftKey, this.fileSize));
    }
  }

  private drag(event: PointerEvent): void {
    if (!this.dragging || event.buttons === 0) {
      this.dragging = false;
      return;
    }
    const offset = this.offsetAt(event);
    if (offset !== null && offset !== this.selection.cursor) {
      this.select(movedTo(this.selection, offset, true, this.fileSize));
    }
  }

  private get digits(): number {
    return Math.max(8, Math.max(0, this.fileSize - 1).toString(16).length);
  }

  protected override render(): TemplateResult {
    const { window } = this.scroller;
    const problem = this.pages?.problem ?? null;
    if (problem !== null) {
      return problemState(problem, () => this.pages?.retry());
    }
    const rows = Array.from({ length: window.visibleCount }, (_, at) => window.first + at);
    const { cursor } = this.selection;
    const cursorIsDrawn = rows.includes(Math.floor(cursor / BYTES_PER_ROW));
    return html`<div class="scroll" ${cssProperties({ '--row-height': `${window.rowHeight}px`, '--digits': String(this.digits) })}>
        <div
          class="grid"
          role="grid"
          tabindex="0"
          aria-label="Bytes of the file"
          aria-rowcount=${window.rows + 1}
          aria-colcount=${BYTES_PER_ROW + 3}
          aria-activedescendant=${cursorIsDrawn ? `byte-${cursor}` : nothing}
          @keydown=${this.onKey}
          @pointerdown=${(event: PointerEvent) => this.press(event)}
          @pointermove=${(event: PointerEvent) => this.drag(event)}
        >
          <div class="row head" role="row" aria-rowindex="1">
            <span class="offset" role="columnheader">Offset</span><span class="bar" role="presentation"></span>
            ${COLUMNS.map((column) => html`<span class=${column === 7 ? 'byte middle' : 'byte'} role="columnheader">${hexByte(column)}</span>`)}
            <span class="ascii" role="columnheader">${'ASCII'.padEnd(BYTES_PER_ROW)}</span>
            <span class="region" role="columnheader">Region</span>
          </div>
          <div class="rows" role="rowgroup">
            <div class="moving" role="presentation" ${cssProperties({ '--shift': `${window.shift}px` })}>
              ${rows.map((row, at) => this.renderRow(row, at === 0))}
            </div>
          </div>
        </div>
      </div>
      <row-scrollbar
        .window=${window}
        .top=${window.top}
        .track=${this.scroller.track}
        @moved=${() => this.requestUpdate()}
        ${cssProperties({ '--row-height': `${window.rowHeight}px` })}
      ></row-scrollbar>`;
  }

  private renderRow(row: number, isFirst: boolean): TemplateResult {
    const start = row * BYTES_PER_ROW;
    const length = Math.min(BYTES_PER_ROW, this.fileSize - start);
    const regions = this.pages?.regions(start, length) ?? [];
    const [main] = regions;
    // A region is named where it begins; the one that began above is named at the upper edge.
    const named = regions.filter(({ hostOffset }) => hostOffset >= start || isFirst);
    const current = Math.floor(this.selection.cursor / BYTES_PER_ROW) === row;
    return html`<div class=${current ? 'row current' : 'row'} role="row" aria-rowindex=${row + 2}>
      <span class="offset" role="rowheader" title=${exactly(start)}>${start.toString(16).padStart(this.digits, '0')}</span>
      <span
        class="bar"
        role="presentation"
        title=${main === undefined ? nothing : visible(main.label)}
        ${cssProperties({ '--region': main === undefined ? null : `var(${HOST_CLASSES[main.class].colour})` })}
      ></span>
      ${COLUMNS.map((column) => this.renderByte(start + column, column, column < length))}
      <span class="ascii" role="gridcell">${COLUMNS.map((column) => this.renderCharacter(start + column, column < length))}</span>
      <span class="region" role="gridcell">${named.map((region, at) => html`${at === 0 ? '' : ', '}${renderRegion(region)}`)}</span>
    </div>`;
  }

  private renderByte(offset: number, column: number, exists: boolean): TemplateResult {
    const middle = column === 7 ? ' middle' : '';
    if (!exists) {
      return html`<span class=${`byte${middle}`} role="gridcell"></span>`;
    }
    const byte = this.pages?.byte(offset) ?? null;
    const classes = `byte${middle}${byte === 0 ? ' zero' : ''}${this.marksOf(offset)}`;
    return html`<span
      id=${`byte-${offset}`}
      class=${classes}
      role="gridcell"
      data-offset=${offset}
      aria-selected=${isSelected(this.selection, offset) ? 'true' : nothing}
      >${byte === null ? '··' : hexByte(byte)}</span
    >`;
  }

  private renderCharacter(offset: number, exists: boolean): TemplateResult | typeof nothing {
    if (!exists) {
      return html`<span></span>`;
    }
    const byte = this.pages?.byte(offset) ?? null;
    return html`<span class=${`${byte === 0 ? 'zero' : ''}${this.marksOf(offset)}`} data-offset=${offset}
      >${byte === null ? ' ' : asciiByte(byte)}</span
    >`;
  }

  private marksOf(offset: number): string {
    return `${isSelected(this.selection, offset) ? ' selected' : ''}${offset === this.selection.cursor ? ' cursor' : ''}`;
  }
}

const COLUMNS = Array.from({ length: BYTES_PER_ROW }, (_, column) => column);

function renderRegion({ label, place, hostOffset, length }: Region): TemplateResult {
  const title = `${visible(label)}: ${hex(hostOffset)}, ${size(length)}`;
  return place === null
    ? html`<span class="muted" title=${title}>${visible(label)}</span>`
    : html`<span title=${title}>${placeLink(place, { text: visible(label), inGrid: true })}</span>`;
}

customElements.define('hex-grid', HexGrid);
