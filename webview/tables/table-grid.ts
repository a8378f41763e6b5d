import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import { classMap } from 'lit/directives/class-map.js';
import type { TableRow, TableShape } from '../../src/protocol/inspect';
import { openCopyMenu } from '../components/copy-menu';
import { cssProperties } from '../components/css-properties';
import { OffsetLink } from '../components/offset-link';
import { problemState } from '../components/panel-states';
import { RowScroller } from '../components/row-scroller';
import '../components/row-scrollbar';
import { base } from '../components/styles';
import { send } from '../events';
import type { ImageClient } from '../../src/protocol/imageClient';
import { columnsOf, type Column } from './columns';
import { copiesOfRow } from './row-copies';
import { RowPages } from './row-pages';
import { tableGridStyles } from './table-grid.styles';

/** Pixels; grows with the text. */
const ROW_HEIGHT = 22;

/** A table of millions of rows: only those in sight exist. One stop of the tab key; arrows move between cells, Enter follows a cell's link. */
export class TableGrid extends LitElement {
  static override properties = {
    source: { attribute: false },
    shape: { attribute: false },
    path: {},
    selected: { type: Number },
    generation: { type: Number },
    column: { state: true },
    extended: { state: true },
  };

  declare source: ImageClient;
  declare shape: TableShape;
  declare path: string;
  /** The row that the cursor is on. */
  declare selected: number;
  declare generation: number;
  declare private column: number;
  declare private extended: boolean;

  private readonly scroller = new RowScroller(this, () => Math.max(ROW_HEIGHT, Math.round(this.fontSize * 1.7)));
  private pages: RowPages | null = null;
  private columns: readonly Column[] = [];
  private reveal: 'never' | 'just' | 'centered' = 'never';
  private copyWanted = false;

  static override styles = [base, tableGridStyles];

  constructor() {
    super();
    this.path = '';
    this.selected = 0;
    this.generation = 0;
    this.column = 0;
    this.extended = false;
  }

  private get fontSize(): number {
    return Number.parseFloat(getComputedStyle(this).fontSize) || 13;
  }

  /** Selects a row and brings it into sight. */
  goTo(row: number): void {
    this.selected = Math.min(Math.max(0, row), this.shape.rows - 1);
    this.reveal = 'centered';
    this.requestUpdate();
  }

  /** The selected row, when it is here. */
  get selectedRow(): TableRow | null {
    return this.pages?.row(this.selected) ?? null;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('shape') || changed.has('source') || changed.has('generation')) {
      const table = this.shape.table;
      this.pages?.dispose();
      this.pages = new RowPages(
        this.shape.rows,
        (first, count, signal) => this.source.call('tablePage', { table, first, count }, { signal }),
        () => this.rowsArrived(),
      );
      if (changed.has('shape')) {
        this.extended = false;
      }
      this.scroller.window.setRows(this.shape.rows);
      this.reveal = changed.has('shape') ? 'centered' : 'never';
    }
    this.columns = columnsOf(this.shape, this.extended);
    this.column = Math.min(this.column, this.columns.length - 1);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.pages?.dispose();
  }

  private rowsArrived(): void {
    const { window } = this.scroller;
    this.extended ||= [window.first, this.selected].some((row) => (this.pages?.row(row)?.subclusters ?? null) !== null);
    this.requestUpdate();
    this.dispatchEvent(new Event('rows'));
    if (this.copyWanted && this.selectedRow !== null) {
      this.copySelected();
    }
  }

  protected override updated(): void {
    const viewport = this.renderRoot.querySelector<HTMLElement>('.rows');
    this.scroller.attach(viewport);
    const { window } = this.scroller;
    if (this.reveal !== 'never' && this.scroller.track > 0) {
      const moved = this.reveal === 'centered' ? window.revealCentered(this.selected) : window.reveal(this.selected);
      this.reveal = 'never';
      if (moved) {
        this.requestUpdate();
      }
    }
    this.pages?.want(window.first, window.visibleCount);
  }

  private select(row: number): void {
    const next = Math.min(Math.max(0, row), this.shape.rows - 1);
    if (next !== this.selected) {
      this.selected = next;
      this.dispatchEvent(new CustomEvent('select-row', { detail: next }));
    }
    this.reveal = 'just';
    this.requestUpdate();
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    const page = this.scroller.window.pageRows;
    const control = event.ctrlKey || event.metaKey;
    if (event.altKey) {
      return;
    }
    switch (event.key) {
      case 'ArrowDown':
        this.select(this.selected + 1);
        break;
      case 'ArrowUp':
        this.select(this.selected - 1);
        break;
      case 'PageDown':
        this.select(this.selected + page);
        break;
      case 'PageUp':
        this.select(this.selected - page);
        break;
      case 'Home':
        this.homeOrEnd(control, 0, 0);
        break;
      case 'End':
        this.homeOrEnd(control, this.shape.rows - 1, this.columns.length - 1);
        break;
      case 'ArrowRight':
        this.column = Math.min(this.columns.length - 1, this.column + 1);
        break;
      case 'ArrowLeft':
        this.column = Math.max(0, this.column - 1);
        break;
      case 'Enter':
        this.followCell();
        break;
      case ' ':
        this.dispatchEvent(new Event('inspect-row'));
        break;
      case 'c':
        if (!control) {
          return;
        }
        this.copySelected();
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
    void this.updateComplete.then(() => this.currentCell?.scrollIntoView({ block: 'nearest', inline: 'nearest' }));
  };

  /** With control to the first or last row, without to the first or last column. */
  private homeOrEnd(control: boolean, row: number, column: number): void {
    if (control) {
      this.select(row);
    } else {
      this.column = column;
    }
  }

  private get currentCell(): Element | null {
    return this.renderRoot.querySelector('.cell.current');
  }

  private followCell(): void {
    const link = this.currentCell?.querySelector('offset-link');
    if (link instanceof OffsetLink) {
      link.follow();
    } else {
      this.dispatchEvent(new Event('inspect-row'));
    }
  }

  private copySelected(): void {
    const row = this.selectedRow;
    this.copyWanted = row === null;
    if (row !== null) {
      const copies = copiesOfRow(row, this.shape, this.path);
      send(this, 'cs-copy', { text: copies.text(), what: copies.what });
    }
  }

  private openMenu(event: MouseEvent): void {
    event.preventDefault();
    const row = this.selectedRow;
    if (row !== null) {
      const cell = this.currentCell?.getBoundingClientRect();
      const byKey = event.clientX === 0 && event.clientY === 0;
      openCopyMenu(
        this,
        copiesOfRow(row, this.shape, this.path),
        byKey ? (cell?.left ?? 0) : event.clientX,
        byKey ? (cell?.bottom ?? 0) : event.clientY,
      );
    }
  }

  protected override render(): TemplateResult {
    const { window } = this.scroller;
    const problem = this.pages?.problem ?? null;
    if (problem !== null) {
      return problemState(problem, () => this.pages?.retry());
    }
    const rows = Array.from({ length: window.visibleCount }, (_, at) => window.first + at);
    const selectedIsDrawn = rows.includes(this.selected);
    return html`<div
        class="scroll"
        ${cssProperties({ '--columns': this.columns.map(({ width }) => width).join(' '), '--row-height': `${window.rowHeight}px` })}
      >
        <div
          class="grid"
          role="grid"
          tabindex="0"
          aria-label=${this.shape.title}
          aria-rowcount=${this.shape.rows + 1}
          aria-colcount=${this.columns.length}
          aria-activedescendant=${selectedIsDrawn ? `cell-${this.selected}-${this.column}` : nothing}
          @keydown=${this.onKey}
          @contextmenu=${(event: MouseEvent) => this.openMenu(event)}
        >
          <div class="row head" role="row" aria-rowindex="1">
            ${this.columns.map(
              ({ label, meaning, end }, at) =>
                html`<div class=${classMap({ cell: true, end: end === true })} role="columnheader" aria-colindex=${at + 1} title=${meaning}>
                  ${label}
                </div>`,
            )}
          </div>
          <div class="rows" role="rowgroup">
            <div class="moving" role="presentation" ${cssProperties({ '--shift': `${window.shift}px` })}>
              ${rows.map((row) => this.renderRow(row))}
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

  private renderRow(row: number): TemplateResult {
    const data = this.pages?.row(row) ?? null;
    const selected = row === this.selected;
    return html`<div
      class=${classMap({ row: true, odd: row % 2 === 1, selected })}
      role="row"
      aria-rowindex=${row + 2}
      aria-selected=${String(selected)}
      aria-busy=${data === null ? 'true' : nothing}
      @pointerdown=${() => this.select(row)}
      @dblclick=${() => this.dispatchEvent(new Event('inspect-row'))}
    >
      ${this.columns.map((column, at) => this.renderCell(column, at, row, data, selected))}
    </div>`;
  }

  private renderCell(column: Column, at: number, row: number, data: TableRow | null, selected: boolean): TemplateResult {
    const waiting = column.id === 'row' ? row.toLocaleString('en-US') : '…';
    return html`<div
      id=${`cell-${row}-${at}`}
      class=${classMap({ cell: true, mono: column.mono === true, end: column.end === true, current: selected && at === this.column })}
      role=${column.id === 'row' ? 'rowheader' : 'gridcell'}
      aria-colindex=${at + 1}
      title=${(data === null ? undefined : column.title?.(data)) ?? column.meaning}
      @pointerdown=${() => (this.column = at)}
    >
      ${data === null ? waiting : column.render(data)}
    </div>`;
  }
}

customElements.define('table-grid', TableGrid);
