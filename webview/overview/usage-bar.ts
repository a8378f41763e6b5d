import { css, html, LitElement, type PropertyValues, type TemplateResult } from 'lit';
import type { Usage, UsageRow } from '../../src/protocol/inspect';
import type { ImageClient } from '../../src/protocol/imageClient';
import '../components/class-swatch';
import { cssProperties } from '../components/css-properties';
import { insteadOf } from '../components/panel-states';
import { base } from '../components/styles';
import { counted, exactly, percent, size } from '../format/numbers';
import { HOST_CLASSES } from '../map/classes';
import { Loader } from '../state/loader';

/** What the file's clusters are spent on: a bar, and the same in numbers. It takes a scan, so it comes after the rest. */
export class UsageBar extends LitElement {
  static override properties = { source: { attribute: false }, generation: { type: Number } };

  declare source: ImageClient;
  /** Counts up when the file changed. */
  declare generation: number;

  private readonly usage = new Loader<Usage>(this);

  static override styles = [
    base,
    css`
      .bar {
        display: flex;
        height: 18px;
        border: 1px solid var(--cs-line);
        border-radius: 3px;
        overflow: hidden;
      }

      .part {
        flex: var(--share) 0 0;
        min-width: 2px;
        background: var(--part-colour);
      }

      .part + .part {
        border-inline-start: 1px solid var(--vscode-editor-background);
      }

      ul {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(250px, 1fr));
        gap: 3px 24px;
        margin-top: 8px;
        font-variant-numeric: tabular-nums;
      }

      li {
        display: grid;
        grid-template-columns: 16px 1fr auto 7ch;
        gap: 0 8px;
        align-items: center;
      }

      .share {
        white-space: nowrap;
        text-align: end;
        color: var(--vscode-descriptionForeground);
      }

      .sum {
        margin-top: 6px;
        color: var(--vscode-descriptionForeground);
      }
    `,
  ];

  constructor() {
    super();
    this.generation = 0;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('source') || changed.has('generation')) {
      void this.usage.ask((options) => this.source.call('usage', null, options));
    }
  }

  protected override render(): TemplateResult {
    const usage = this.usage.value;
    if (usage === null || this.usage.problem !== null) {
      return html`${insteadOf(this.usage, 'Counting clusters')}`;
    }
    const rows = inOrder(usage.rows.filter(({ clusters }) => clusters > 0));
    const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
    return html`<div class="bar" aria-hidden="true">${rows.map((row) => renderPart(row, bytes))}</div>
      <ul aria-label="What the file's clusters are spent on" aria-busy=${String(this.usage.loading)}>
        ${rows.map(
          (row) =>
            html`<li title=${`${counted(row.clusters, 'cluster')}, ${exactly(row.bytes)}`}>
              <class-swatch .classId=${row.class}></class-swatch><span>${HOST_CLASSES[row.class].label}</span>
              <span>${size(row.bytes)}</span><span class="share">${percent(row.bytes, bytes)}</span>
            </li>`,
        )}
      </ul>
      <p class="sum">${counted(usage.clusters, 'cluster')} of ${size(usage.clusterSize)}</p>`;
  }
}

const ORDER = Object.keys(HOST_CLASSES);

/** Metadata, then data, then what is wrong; what is free last. */
function inOrder(rows: readonly UsageRow[]): readonly UsageRow[] {
  const weight = (row: UsageRow) => (row.class === 'free' ? ORDER.length : ORDER.indexOf(row.class));
  return [...rows].sort((a, b) => weight(a) - weight(b));
}

function renderPart(row: UsageRow, bytes: number): TemplateResult {
  const { label, colour } = HOST_CLASSES[row.class];
  return html`<span
    class="part"
    title=${`${label}: ${size(row.bytes)}, ${percent(row.bytes, bytes)}`}
    ${cssProperties({ '--share': String(row.bytes), '--part-colour': `var(${colour})` })}
  ></span>`;
}

customElements.define('usage-bar', UsageBar);
