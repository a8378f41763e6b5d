import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import type { Overview } from '../../src/protocol/inspect';
import { placeLink } from '../components/offset-link';
import { base } from '../components/styles';
import '../components/structure-panel';
import { send } from '../events';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { OVERVIEW_PAINTED, markAfterPaint } from '../painted';
import './chain-strip';
import './usage-bar';

/** What the image is: its facts, its chain, what its clusters are spent on, and its structures field by field. */
export class OverviewTab extends LitElement {
  static override properties = {
    source: { attribute: false },
    overview: { attribute: false },
    expanded: { attribute: false },
    changed: { attribute: false },
    generation: { type: Number },
    wantsUsage: { state: true },
  };

  declare source: ImageClient;
  declare overview: Overview;
  /** Ids of structures that are folded open; kept by the app. Null: as they come. */
  declare expanded: ReadonlySet<string> | null;
  declare changed: ReadonlySet<string>;
  declare generation: number;
  /** The scan waits for the first paint. */
  declare private wantsUsage: boolean;

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
        margin-bottom: 22px;
      }

      h2 {
        margin-bottom: 8px;
      }

      .facts {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(190px, 1fr));
        border: 1px solid var(--cs-line);
        border-radius: 4px;
        overflow: hidden;
      }

      .fact {
        margin: 0 -1px -1px 0;
        padding: 6px 10px 7px;
        border-inline-end: 1px solid var(--cs-line);
        border-bottom: 1px solid var(--cs-line);
        min-width: 0;
      }

      .fact:first-child {
        grid-column: span 2;
      }

      @container (max-width: 420px) {
        .facts {
          grid-template-columns: repeat(auto-fill, minmax(140px, 1fr));
        }

        .fact:first-child {
          grid-column: 1 / -1;
        }
      }

      .fact.changed dd {
        text-decoration: underline dashed;
        text-underline-offset: 3px;
      }

      .fact dt {
        color: var(--vscode-descriptionForeground);
        font-size: 0.92em;
      }

      .fact dd {
        margin-top: 1px;
        overflow-wrap: anywhere;
      }
    `,
  ];

  constructor() {
    super();
    this.expanded = null;
    this.changed = new Set();
    this.generation = 0;
    this.wantsUsage = false;
  }

  protected override firstUpdated(): void {
    void markAfterPaint(OVERVIEW_PAINTED).then(() => (this.wantsUsage = true));
  }

  protected override render(): TemplateResult {
    const { overview } = this;
    return html`<section>
        <h2 class="hidden-text">Key facts</h2>
        <dl class="facts">
          ${overview.facts.map(
            ({ name, value, place }) =>
              html`<div class=${this.changed.has(`fact.${name}`) ? 'fact changed' : 'fact'}>
                <dt>${name}</dt>
                <dd>${place === null ? visible(value) : placeLink(place, { text: visible(value), quiet: true })}</dd>
              </div>`,
          )}
        </dl>
      </section>
      <section>
        <h2>Chain</h2>
        <chain-strip .chain=${overview.chain}></chain-strip>
      </section>
      ${
        overview.has.hostMap
          ? html`<section>
              <h2>What the file is spent on</h2>
              ${this.wantsUsage ? html`<usage-bar .source=${this.source} .generation=${this.generation}></usage-bar>` : nothing}
            </section>`
          : nothing
      }
      <section>
        <h2>Structures</h2>
        ${repeat(
          overview.structures,
          ({ id }) => id,
          (structure, at) =>
            html`<structure-panel
              .structure=${structure}
              .path=${overview.path}
              .changed=${this.changed}
              ?expanded=${this.isExpanded(structure.id, at)}
              @fold=${(event: CustomEvent<boolean>) => this.fold(structure.id, event.detail)}
            ></structure-panel>`,
        )}
        ${overview.structures.length === 0 ? html`<p class="muted">The format has no structures of its own.</p>` : nothing}
      </section>`;
  }

  /** As long as nobody folded anything the first structure is open, and every one with a problem. */
  private isExpanded(id: string, at: number): boolean {
    return this.expanded === null ? at === 0 || this.hasProblem(id) : this.expanded.has(id);
  }

  private hasProblem(id: string): boolean {
    const structure = this.overview.structures.find((candidate) => candidate.id === id);
    return structure !== undefined && (structure.problems.length > 0 || structure.fields.some(({ problem }) => problem !== null));
  }

  private fold(id: string, expanded: boolean): void {
    const ids = new Set(
      this.overview.structures.filter((structure, at) => this.isExpanded(structure.id, at)).map((structure) => structure.id),
    );
    if (expanded) {
      ids.add(id);
    } else {
      ids.delete(id);
    }
    send(this, 'cs-kept', { expanded: [...ids] });
  }
}

customElements.define('overview-tab', OverviewTab);
