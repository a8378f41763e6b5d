import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { TableRow, TableShape } from '../../src/protocol/inspect';
import { copyButton } from '../components/copy-menu';
import { icon } from '../components/icons';
import { guestLink, hostLink, placeLink } from '../components/offset-link';
import { base } from '../components/styles';
import { spacedHex } from '../format/bytes';
import { grouped, size } from '../format/numbers';
import { visible } from '../format/text';
import { childrenOf, parentOf } from './family';
import { copiesOfRow } from './row-copies';
import { decoded } from './entry-bits';

/** The selected row in full: its bit fields with what they mean, and the ways up and down. */
export class RowDetail extends LitElement {
  static override properties = {
    shape: { attribute: false },
    tables: { attribute: false },
    row: { attribute: false },
    path: {},
  };

  declare shape: TableShape;
  declare tables: readonly TableShape[];
  declare row: TableRow | null;
  declare path: string;

  static override styles = [
    base,
    css`
      :host {
        display: block;
        padding: 6px 12px 8px;
        overflow: auto;
      }

      .line {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: 2px 14px;
        min-height: 22px;
      }

      .title {
        font-weight: 600;
      }

      .way {
        display: inline-flex;
        align-items: center;
        gap: 3px;
      }

      .grow {
        flex: 1;
      }

      .bits {
        display: flex;
        flex-wrap: wrap;
        gap: 4px;
        margin-top: 4px;
      }

      .bits li {
        padding: 1px 7px 2px;
        border: 1px solid var(--cs-line);
        border-radius: 3px;
      }

      .bits .wrong {
        border-color: var(--vscode-inputValidation-errorBorder);
        color: var(--cs-error-text);
      }

      .range {
        color: var(--vscode-descriptionForeground);
        font-size: 0.9em;
      }

      .problem {
        display: flex;
        gap: 4px;
        margin-top: 4px;
        color: var(--cs-error-text);
      }
    `,
  ];

  protected override render(): TemplateResult {
    const { row, shape } = this;
    if (row === null) {
      return html`<div class="line muted">…</div>`;
    }
    const up = parentOf(shape, row.row);
    const down = childrenOf(shape, row.row, this.tables);
    return html`<div class="line">
        <span class="title">${visible(shape.title)}, row ${grouped(row.row)}</span>
        ${
          row.hostOffset === null
            ? html`<span class="muted">no table is allocated for it</span>`
            : html`<span class="mono">${hostLink(row.hostOffset)}: ${spacedHex(row.rawHex)}</span>`
        }
        ${up === null ? nothing : html`<span class="way">${icon('up')}${placeLink(up, { text: wayUp(shape) })}</span>`}
        ${down === null || row.targetOffset === null ? nothing : html`<span class="way">${icon('down')}${placeLink(down, { text: wayDown(shape) })}</span>`}
        ${
          row.targetOffset === null
            ? nothing
            : html`<span class="way"
                >${icon('right')}<span class="mono">${hostLink(row.targetOffset)}</span
                >${row.targetLength === null ? '' : `, ${size(row.targetLength)}`}</span
              >`
        }
        ${row.guestOffset === null ? nothing : html`<span class="way">guest <span class="mono">${guestLink(row.guestOffset)}</span></span>`}
        <span class="grow"></span>
        <button type="button" class="link" @click=${() => this.dispatchEvent(new Event('inspect-row'))}>Inspect</button>
        ${copyButton(copiesOfRow(row, shape, this.path))}
      </div>
      ${this.renderBits(row)}
      ${row.problem === null ? nothing : html`<div class="problem">${icon('error')}<span>${visible(row.problem)}</span></div>`}`;
  }

  private renderBits(row: TableRow): TemplateResult | typeof nothing {
    const bits = decoded(row, this.shape);
    return bits.length === 0
      ? nothing
      : html`<ul class="bits" aria-label="Bit fields">
          ${bits.map(
            ({ name, range, value, meaning, wrong }) =>
              html`<li class=${wrong ? 'wrong' : ''} title=${meaning}>
                <span class="range">${range}</span> ${name} <span class="mono">${value}</span>
              </li>`,
          )}
        </ul>`;
  }
}

function wayUp({ table }: TableShape): string {
  return table.kind === 'refcounts' ? 'refcount table entry' : 'L1 entry';
}

function wayDown({ table }: TableShape): string {
  return table.kind === 'refcountTable' ? 'its refcounts' : 'its L2 entries';
}

customElements.define('row-detail', RowDetail);
