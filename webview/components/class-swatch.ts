import { css, html, LitElement, type TemplateResult } from 'lit';
import { classMap } from 'lit/directives/class-map.js';
import { lookOf } from '../map/classes';
import { cssProperties } from './css-properties';
import { base } from './styles';

/** A class's colour with its mark: never the colour alone. */
export class ClassSwatch extends LitElement {
  static override properties = { classId: { attribute: false }, index: { type: Number } };

  declare classId: string;
  declare index: number;

  static override styles = [
    base,
    css`
      :host {
        display: inline-block;
        flex: none;
      }

      span {
        display: flex;
        align-items: center;
        justify-content: center;
        width: 16px;
        height: 16px;
        border-radius: 3px;
        border: 1px solid var(--cs-swatch-border);
        background: var(--swatch);
        color: var(--cs-class-mark);
        font: 700 10px/1 var(--vscode-editor-font-family);
      }

      .pale {
        color: var(--vscode-editor-foreground);
      }

      /* A shape of its own for what is wrong. */
      .wrong {
        border: 1px dashed var(--vscode-editor-foreground);
      }
    `,
  ];

  constructor() {
    super();
    this.index = 0;
  }

  protected override render(): TemplateResult {
    const { colour, mark, pale } = lookOf(this.classId, this.index);
    const wrong = this.classId === 'leaked' || this.classId === 'corrupt' || this.classId === 'unknown';
    return html`<span
      aria-hidden="true"
      class=${classMap({ wrong, pale: pale === true })}
      ${cssProperties({ '--swatch': `var(${colour})` })}
      >${mark}</span
    >`;
  }
}

customElements.define('class-swatch', ClassSwatch);
