import { css, html, LitElement, type TemplateResult } from 'lit';
import { base } from './styles';

const SUBCLUSTERS = 32;

type State = 'data' | 'zero' | 'none' | 'both';

const WORDS: Readonly<Record<State, string>> = {
  data: 'allocated',
  zero: 'zero',
  none: 'unallocated',
  both: 'both allocated and zero, which is corrupt',
};

/** The 32 subclusters of an extended L2 entry as cells; the first is on the left. */
export class SubclusterStrip extends LitElement {
  static override properties = { allocated: { type: Number }, zero: { type: Number } };

  declare allocated: number;
  declare zero: number;

  static override styles = [
    base,
    css`
      :host {
        display: inline-block;
        vertical-align: middle;
        line-height: 0;
        margin-top: -2px;
      }

      .cells {
        display: grid;
        grid-template-columns: repeat(32, 5px);
        height: 12px;
        border: 1px solid var(--cs-line);
      }

      .none {
        background: var(--cs-class-none);
      }

      .data {
        background: var(--cs-class-data);
      }

      /* Half high, so that the shape tells it from data. */
      .zero {
        background: linear-gradient(var(--cs-class-none) 50%, var(--cs-class-zero) 50%);
      }

      .both {
        background: repeating-linear-gradient(135deg, var(--cs-class-corrupt) 0 2px, var(--vscode-editor-background) 2px 3px);
      }
    `,
  ];

  protected override render(): TemplateResult {
    const states = Array.from({ length: SUBCLUSTERS }, (_, bit) => stateOf(this.allocated, this.zero, bit));
    const text = describe(states);
    return html`<span class="cells" role="img" aria-label=${`Subclusters: ${text}`} title=${text}>
      ${states.map((state) => html`<span class=${state}></span>`)}
    </span>`;
  }
}

function stateOf(allocated: number, zero: number, bit: number): State {
  const isAllocated = ((allocated >>> bit) & 1) === 1;
  const isZero = ((zero >>> bit) & 1) === 1;
  return isAllocated ? (isZero ? 'both' : 'data') : isZero ? 'zero' : 'none';
}

/** `0-3 allocated, 4-31 unallocated`. */
function describe(states: readonly State[]): string {
  const runs: string[] = [];
  for (let from = 0; from < states.length;) {
    const state = states[from] ?? 'none';
    let to = from;
    while (to + 1 < states.length && states[to + 1] === state) {
      to++;
    }
    runs.push(`${from === to ? String(from) : `${from}-${to}`} ${WORDS[state]}`);
    from = to + 1;
  }
  return runs.join(', ');
}

customElements.define('subcluster-strip', SubclusterStrip);
