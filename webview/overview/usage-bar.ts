import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { ImageSource } from '../host';
import type { Usage, UsageRow } from '../../src/protocol/inspect';
import { HOST_CLASSES } from '../map/classes';
import { cssProperties } from '../components/css-properties';
import { insteadOf } from '../components/panel-states';
import { base, dataTable } from '../components/styles';
import '../components/class-swatch';
import { exactly, grouped, percent, size } from '../format/numbers';
import { Loader } from '../state/loader';

/** What the file's clusters are spent on: a bar, and the same in numbers. It takes a scan, so it comes after the rest. */
export class UsageBar extends LitElement {
  static override properties = { source: { attribute: false }, generation: { type: Number } };

  declare source: ImageSource;
  /** Counts up when the file changed. */
  declare generation: number;

  private readonly usage = new Loader<Usage>(this);

  static override styles = [
    base,
    dataTable,
    css`
      .bar {
        display: flex;
        height: 18px;
        margin-bottom: 8px;
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

      table {
        width: auto;
      }

      .class {
        display: inline-flex;
        align-items: center;
        gap: 6px;
      }
    `,
  ];

  constructor() {
    super();
    this.generation = 0;
  }

  protected override updated(changed: Map<string, unknown>): void {
    if (changed.has('source') || changed.has('generation')) {
      void this.usage.ask((options) => this.source.request('usage', null, options));
    }
  }

  protected override render(): TemplateResult {
    const usage = this.usage.value;
    if (usage === null || this.usage.problem !== null) {
      return html`${insteadOf(this.usage, 'Counting clusters')}`;
    }
    const rows = usage.rows.filter(({ clusters }) => clusters > 0);
    const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
    return html`<div class="bar" aria-hidden="true">${rows.map((row) => renderPart(row, bytes))}</div>
      <table aria-label="What the file's clusters are spent on" aria-busy=${String(this.usage.loading)}>
        <thead>
          <tr>
            <th scope="col">Class</th>
            <th scope="col" class="number">Clusters</th>
            <th scope="col" class="number">Size</th>
            <th scope="col" class="number">Share</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                <td>
                  <span class="class"><class-swatch .classId=${row.class}></class-swatch>${HOST_CLASSES[row.class].label}</span>
                </td>
                <td class="number">${grouped(row.clusters)}</td>
                <td class="number" title=${exactly(row.bytes)}>${size(row.bytes)}</td>
                <td class="number">${percent(row.bytes, bytes)}</td>
              </tr>`,
          )}
          ${
            rows.length === 0
              ? html`<tr>
                  <td colspan="4">The file has no clusters.</td>
                </tr>`
              : nothing
          }
        </tbody>
      </table>`;
  }
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
