import { css, html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import type { Overview, TableRow, TableShape } from '../../src/protocol/inspect';
import type { LayerView, TableId } from '../../src/protocol/place';
import { icon } from '../components/icons';
import { emptyState, insteadOf } from '../components/panel-states';
import { base } from '../components/styles';
import { viewSelect } from '../components/view-select';
import { send } from '../events';
import { grouped } from '../format/numbers';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { hint, problemOf, type Problem } from '../problem';
import type { Kept } from '../state/kept';
import { Loader } from '../state/loader';
import { tableKey, viewOf } from '../state/places';
import { fieldOf } from '../toolkit';
import type { TableGrid } from './table-grid';
import './row-detail';
import './table-grid';

/** A row that a link leads to. A new object is a new wish. */
export interface RowTarget {
  readonly table: TableId;
  readonly row: number;
}

/** All tables of the image, one at a time: the way from L1 to a cluster, and from the refcount table to a refcount. */
export class TablesTab extends LitElement {
  static override properties = {
    source: { attribute: false },
    overview: { attribute: false },
    view: { attribute: false },
    kept: { attribute: false },
    target: { attribute: false },
    generation: { type: Number },
    current: { state: true },
    rowIndex: { state: true },
    rowData: { state: true },
    rowProblem: { state: true },
    searching: { state: true },
  };

  declare source: ImageClient;
  declare overview: Overview;
  declare view: LayerView;
  declare kept: Kept['table'];
  declare target: RowTarget | null;
  declare generation: number;
  /** Key of the table that is shown. */
  declare private current: string | null;
  declare private rowIndex: number;
  declare private rowData: TableRow | null;
  declare private rowProblem: Problem | null;
  declare private searching: boolean;

  private readonly tables = new Loader<readonly TableShape[]>(this);
  private search: AbortController | null = null;

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        flex-direction: column;
        height: 100%;
      }

      .toolbar {
        padding: 8px 12px;
      }

      vscode-text-field {
        width: 13ch;
        min-width: 110px;
      }

      select {
        min-width: 0;
      }

      .group {
        display: inline-flex;
        align-items: center;
        gap: 4px;
      }

      table-grid {
        flex: 1;
        border-block: 1px solid var(--cs-line);
      }

      row-detail {
        max-height: 38%;
        flex: none;
      }

      .problem {
        color: var(--cs-error-text);
      }
    `,
  ];

  constructor() {
    super();
    this.kept = null;
    this.target = null;
    this.generation = 0;
    this.current = null;
    this.rowIndex = 0;
    this.rowData = null;
    this.rowProblem = null;
    this.searching = false;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('target') && this.target !== null) {
      this.current = tableKey(this.target.table);
      this.rowIndex = this.target.row;
      this.rowProblem = null;
    } else if (!this.hasUpdated && this.kept !== null) {
      this.current = this.kept.key;
      this.rowIndex = this.kept.row;
    }
    if (changed.has('view') && changed.get('view') !== undefined && this.target === null) {
      this.keepTableOfView();
    }
    if (changed.has('source') || changed.has('view') || changed.has('generation')) {
      const view = this.view;
      this.rowData = null;
      void this.tables.ask((options) => this.source.call('tables', { view }, options));
    }
  }

  /** The same table of the other mapping. */
  private keepTableOfView(): void {
    const kind = this.shape?.table.kind;
    if (kind === 'l1' || kind === 'l2') {
      this.current = tableKey({ kind, view: this.view });
    }
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('target') && this.target !== null) {
      this.grid?.goTo(this.target.row);
    }
  }

  private get shape(): TableShape | null {
    const tables = this.tables.value ?? [];
    return tables.find(({ table }) => tableKey(table) === this.current) ?? (this.tables.loading ? null : (tables[0] ?? null));
  }

  private get grid(): TableGrid | null {
    return this.renderRoot.querySelector('table-grid');
  }

  private choose(key: string): void {
    const table = this.tables.value?.find((shape) => tableKey(shape.table) === key)?.table;
    this.current = key;
    this.rowIndex = 0;
    this.rowData = null;
    this.rowProblem = null;
    this.keep();
    const view = table === undefined ? null : viewOf(table);
    if (view !== null) {
      send(this, 'cs-view', view);
    }
  }

  private keep(): void {
    if (this.current !== null) {
      send(this, 'cs-kept', { table: { key: this.current, row: this.rowIndex } });
    }
  }

  private selectRow(row: number): void {
    this.rowIndex = row;
    this.rowData = null;
    this.rowProblem = null;
    this.keep();
  }

  private goTo(row: number): void {
    this.selectRow(row);
    this.grid?.goTo(row);
  }

  private goToTyped(text: string): void {
    const shape = this.shape;
    const row = parseRow(text);
    if (shape === null) {
      return;
    }
    if (row === null || row >= shape.rows) {
      this.rowProblem = hint(`Type a row from 0 to ${grouped(shape.rows - 1)}, decimal or as 0x….`);
      return;
    }
    this.goTo(row);
  }

  private async goToUsed(backwards: boolean): Promise<void> {
    const shape = this.shape;
    if (shape === null) {
      return;
    }
    this.search?.abort();
    const search = new AbortController();
    this.search = search;
    this.searching = true;
    this.rowProblem = null;
    try {
      const row = await this.source.call('nextUsedRow', { table: shape.table, row: this.rowIndex, backwards }, { signal: search.signal });
      if (this.search === search) {
        if (row < 0) {
          const message = backwards ? 'No used row before this one.' : 'No used row after this one.';
          this.rowProblem = hint(message);
        } else {
          this.goTo(row);
        }
      }
    } catch (error) {
      if (this.search === search && !search.signal.aborted) {
        this.rowProblem = problemOf(error);
      }
    }
    if (this.search === search) {
      this.search = null;
      this.searching = false;
    }
  }

  private inspect(): void {
    const row = this.grid?.selectedRow ?? null;
    if (row === null) {
      return;
    }
    if (row.guestOffset !== null && this.shape?.table.kind === 'l2') {
      send(this, 'cs-inspect', { space: 'guest', offset: row.guestOffset });
    } else if (row.targetOffset !== null) {
      send(this, 'cs-inspect', { space: 'host', offset: row.targetOffset });
    } else if (row.hostOffset !== null) {
      send(this, 'cs-inspect', { space: 'host', offset: row.hostOffset });
    }
  }

  protected override render(): TemplateResult {
    const tables = this.tables.value;
    if (tables === null || this.tables.problem !== null) {
      return html`${insteadOf(this.tables, 'Finding the tables')}`;
    }
    const shape = this.shape;
    if (shape === null) {
      return this.tables.loading
        ? html`${insteadOf(this.tables, 'Finding the tables')}`
        : emptyState('file', 'This image has no tables.', 'A raw image maps every guest byte to the same byte of the file.');
    }
    return html`${this.renderToolbar(tables, shape)}
      <table-grid
        .source=${this.source}
        .shape=${shape}
        .path=${this.overview.path}
        .selected=${this.rowIndex}
        .generation=${this.generation}
        @select-row=${(event: CustomEvent<number>) => this.selectRow(event.detail)}
        @rows=${() => (this.rowData = this.grid?.selectedRow ?? null)}
        @inspect-row=${() => this.inspect()}
      ></table-grid>
      <row-detail
        .shape=${shape}
        .tables=${tables}
        .row=${this.rowData ?? this.grid?.selectedRow ?? null}
        .path=${this.overview.path}
        @inspect-row=${() => this.inspect()}
      ></row-detail>`;
  }

  private renderToolbar(tables: readonly TableShape[], shape: TableShape): TemplateResult {
    const key = tableKey(shape.table);
    return html`<div class="toolbar" role="toolbar" aria-label="Table">
      <select
        aria-label="Which table"
        title="Which table"
        @change=${(event: Event) => this.choose((event.currentTarget as HTMLSelectElement).value)}
      >
        ${tables.map(
          ({ table, title, rows }) =>
            html`<option value=${tableKey(table)} ?selected=${tableKey(table) === key}>${visible(title)} (${grouped(rows)})</option>`,
        )}
      </select>
      ${viewSelect(this.overview, this.view, (view) => send(this, 'cs-view', view))}
      <span class="group">
        <vscode-text-field
          aria-label="Go to row"
          placeholder="Go to row"
          @keydown=${(event: KeyboardEvent) => {
            if (event.key === 'Enter') {
              this.goToTyped(fieldOf(event).value);
            }
          }}
        ></vscode-text-field>
      </span>
      <span class="group">
        <button
          type="button"
          class="icon-button"
          title="Previous used row"
          aria-label="Previous used row"
          @click=${() => void this.goToUsed(true)}
        >
          ${icon('up')}
        </button>
        <button
          type="button"
          class="icon-button"
          title="Next used row"
          aria-label="Next used row"
          @click=${() => void this.goToUsed(false)}
        >
          ${icon('down')}
        </button>
      </span>
      <span role="status">
        ${
          this.searching
            ? html`<span class="muted">Searching…</span> <button type="button" class="link" @click=${() => this.stopSearch()}>Stop</button>`
            : this.rowProblem === null
              ? nothing
              : html`<span class="problem">${visible(this.rowProblem.message)}</span>`
        }
      </span>
    </div>`;
  }

  private stopSearch(): void {
    this.search?.abort();
    this.search = null;
    this.searching = false;
  }
}

/** `1,024`, `0x400`; null when it is no row number. */
function parseRow(text: string): number | null {
  const digits = text.replace(/[,_\s]/g, '');
  const row = /^(0x[0-9a-f]+|\d+)$/i.test(digits) ? Number(digits) : Number.NaN;
  return Number.isSafeInteger(row) ? row : null;
}

customElements.define('tables-tab', TablesTab);
