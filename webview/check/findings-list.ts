import { css, html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import type { CheckReport, Finding, FindingKind } from '../../src/protocol/check';
import { cssProperties } from '../components/css-properties';
import { icon } from '../components/icons';
import { guestLink, placeLink } from '../components/offset-link';
import { emptyState } from '../components/panel-states';
import { base } from '../components/styles';
import { VirtualList } from '../components/virtual-list';
import { exactly, grouped, size } from '../format/numbers';
import { visible } from '../format/text';
import { describePlace } from '../state/places';
import { groupsOf, wordsOf, type FindingGroup } from './groups';
import { CATEGORIES, KIND_TITLES } from './kinds';

type Row =
  | { readonly type: 'group'; readonly group: FindingGroup }
  | { readonly type: 'finding'; readonly finding: Finding; readonly at: number }
  | { readonly type: 'rest'; readonly group: FindingGroup };

/** Findings grouped by kind. Groups fold; only rows in sight exist. */
export class FindingsList extends LitElement {
  static override properties = { report: { attribute: false }, filter: {}, folded: { state: true } };

  declare report: CheckReport;
  /** Shows only findings whose text has these words. */
  declare filter: string;
  declare private folded: ReadonlySet<string>;

  private rows: readonly Row[] = [];
  private readonly list = new VirtualList(this, (index) => (this.rows[index]?.type === 'finding' ? 58 : 30));
  private keyOf: (index: number) => string = String;

  static override styles = [
    base,
    css`
      :host {
        display: block;
        overflow: auto;
        position: relative;
      }

      .all {
        position: relative;
        height: var(--height);
      }

      .item {
        position: absolute;
        inset-inline: 0;
        top: 0;
        transform: translateY(var(--start));
        padding: 0 16px;
      }

      .group {
        display: flex;
        align-items: center;
        gap: 6px;
        width: 100%;
        min-height: 30px;
        text-align: start;
        border-top: 1px solid var(--cs-line);
      }

      .group > .icon:first-child {
        transform: rotate(90deg);
      }

      .group[aria-expanded='false'] > .icon:first-child {
        transform: none;
      }

      .group:hover {
        background: var(--vscode-list-hoverBackground);
      }

      .kind {
        font-weight: 600;
      }

      .finding {
        padding: 3px 0 8px 44px;
        overflow-wrap: anywhere;
      }

      .links {
        display: flex;
        flex-wrap: wrap;
        gap: 0 16px;
      }

      .consequence {
        color: var(--vscode-descriptionForeground);
      }

      .rest {
        padding: 2px 0 8px 44px;
        color: var(--vscode-descriptionForeground);
      }
    `,
  ];

  constructor() {
    super();
    this.filter = '';
    this.folded = new Set();
  }

  protected override willUpdate(changed: PropertyValues): void {
    if (changed.has('report') || changed.has('filter') || changed.has('folded')) {
      const rows = this.layOut();
      this.rows = rows;
      this.keyOf = (index) => keyOfRow(rows[index]);
    }
    this.list.setRows(this.rows.length, this.keyOf);
  }

  protected override updated(): void {
    this.list.attach(this, this.renderRoot);
  }

  private layOut(): readonly Row[] {
    const words = wordsOf(this.filter);
    const groups = groupsOf(this.report, words);
    return groups.flatMap((group): Row[] => {
      if (group.findings.length === 0 && words.length > 0) {
        return [];
      }
      const head: Row = { type: 'group', group };
      if (this.folded.has(group.kind)) {
        return [head];
      }
      const findings = group.findings.map((finding, at): Row => ({ type: 'finding', finding, at }));
      const cut = words.length === 0 && group.count > group.findings.length;
      return cut ? [head, ...findings, { type: 'rest', group }] : [head, ...findings];
    });
  }

  private fold(kind: FindingKind): void {
    const folded = new Set(this.folded);
    if (!folded.delete(kind)) {
      folded.add(kind);
    }
    this.folded = folded;
  }

  protected override render(): TemplateResult {
    if (this.rows.length === 0) {
      return emptyState('search', 'No finding matches the filter.');
    }
    return html`<div class="all" role="list" aria-label="Findings" ${cssProperties({ '--height': `${this.list.totalHeight}px` })}>
      ${repeat(
        this.list.items,
        ({ key }) => key,
        ({ index, start }) => {
          const row = this.rows[index];
          return row === undefined
            ? nothing
            : html`<div
                class="item"
                role="listitem"
                data-index=${index}
                aria-setsize=${this.rows.length}
                aria-posinset=${index + 1}
                ${cssProperties({ '--start': `${start}px` })}
              >
                ${this.renderRow(row)}
              </div>`;
        },
      )}
    </div>`;
  }

  private renderRow(row: Row): TemplateResult {
    switch (row.type) {
      case 'group':
        return this.renderGroup(row.group);
      case 'finding':
        return renderFinding(row.finding);
      case 'rest':
        return html`<div class="rest">and ${grouped(row.group.count - row.group.findings.length)} more, counted but not listed</div>`;
    }
  }

  private renderGroup({ kind, category, count }: FindingGroup): TemplateResult {
    const { label, severity, meaning } = CATEGORIES[category];
    return html`<button
      type="button"
      class="group"
      aria-expanded=${String(!this.folded.has(kind))}
      title=${meaning}
      @click=${() => this.fold(kind)}
    >
      ${icon('right')}<span class="severity-${severity}">${icon(severity)}</span>
      <span class="kind">${KIND_TITLES[kind]}</span>
      <span class="badge">${grouped(count)}</span>
      <span class="muted">${label}</span>
    </button>`;
  }
}

function renderFinding({ message, consequence, place, cluster, guest }: Finding): TemplateResult {
  return html`<div class="finding">
    <div>${visible(message)}</div>
    <div class="consequence">${visible(consequence)}</div>
    <div class="links">
      ${place === null ? nothing : html`<span>Entry: ${placeLink(place, { text: describePlace(place) })}</span>`}
      ${cluster === null ? nothing : html`<span>Cluster: ${placeLink(cluster, { text: describePlace(cluster) })}</span>`}
      ${
        guest === null
          ? nothing
          : html`<span title=${`${exactly(guest.guestOffset)}, ${exactly(guest.length)}`}
              >Guest: ${guestLink(guest.guestOffset)}, ${size(guest.length)}</span
            >`
      }
    </div>
  </div>`;
}

function keyOfRow(row: Row | undefined): string {
  switch (row?.type) {
    case 'group':
      return `group:${row.group.kind}`;
    case 'finding':
      return `${row.finding.kind}:${row.at}`;
    case 'rest':
      return `rest:${row.group.kind}`;
    case undefined:
      return '';
  }
}

customElements.define('findings-list', FindingsList);
