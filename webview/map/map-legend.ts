import { css, html, LitElement, type TemplateResult } from 'lit';
import type { MapShape } from '../../src/protocol/inspect';
import '../components/class-swatch';
import { base } from '../components/styles';
import { exactly, grouped, percent, size } from '../format/numbers';
import { visible } from '../format/text';
import { shortLabel } from './classes';

/** The classes of a map with their counts; choosing some dims all others. */
export class MapLegend extends LitElement {
  static override properties = { shape: { attribute: false }, only: { attribute: false } };

  declare shape: MapShape;
  declare only: ReadonlySet<string>;

  static override styles = [
    base,
    css`
      :host {
        display: block;
        overflow: auto;
      }

      ul {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(180px, 1fr));
        gap: 2px;
      }

      button {
        display: grid;
        grid-template-columns: auto 1fr auto;
        align-items: center;
        gap: 0 8px;
        width: 100%;
        padding: 3px 6px;
        border: 1px solid transparent;
        border-radius: 3px;
        text-align: start;
        font-variant-numeric: tabular-nums;
      }

      button:hover {
        background: var(--vscode-list-hoverBackground);
      }

      button[aria-pressed='true'] {
        background: var(--vscode-list-inactiveSelectionBackground);
        border-color: var(--vscode-inputOption-activeBorder);
      }

      .dim {
        opacity: 0.6;
      }

      .label {
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }

      .count {
        grid-column: 2 / -1;
        font-size: 0.9em;
        color: var(--vscode-descriptionForeground);
      }

      .all {
        display: block;
        margin-top: 4px;
        padding: 3px 6px;
        width: auto;
      }
    `,
  ];

  protected override render(): TemplateResult {
    const total = this.shape.classes.reduce((sum, { bytes }) => sum + bytes, 0);
    return html`<ul aria-label="Classes; choose some to dim the others">
        ${this.shape.classes
          .filter(({ id, clusters }) => clusters > 0 || this.only.has(id))
          .map(
            ({ index, id, label, clusters, bytes }) =>
              html`<li>
                <button
                  type="button"
                  aria-pressed=${String(this.only.has(id))}
                  class=${clusters === 0 ? 'dim' : ''}
                  title=${`${visible(label)}: ${exactly(bytes)}, ${grouped(clusters)} clusters`}
                  @click=${() => this.toggle(id)}
                >
                  <class-swatch .classId=${id} .index=${index}></class-swatch>
                  <span class="label">${shortLabel({ id, label })}</span>
                  <span>${percent(bytes, total)}</span>
                  <span class="count">${size(bytes)} · ${grouped(clusters)}</span>
                </button>
              </li>`,
          )}
      </ul>
      <button type="button" class="all link" ?hidden=${this.only.size === 0} @click=${() => this.choose(new Set())}>
        Show all classes
      </button>`;
  }

  private toggle(id: string): void {
    const only = new Set(this.only);
    if (!only.delete(id)) {
      only.add(id);
    }
    this.choose(only);
  }

  private choose(only: ReadonlySet<string>): void {
    this.dispatchEvent(new CustomEvent('choose', { detail: only }));
  }
}

customElements.define('map-legend', MapLegend);
