import { css, html, LitElement, type TemplateResult } from 'lit';
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

      .hatched {
        background: repeating-linear-gradient(
          135deg,
          var(--swatch) 0 3px,
          color-mix(in srgb, var(--swatch) 55%, var(--vscode-editor-background)) 3px 5px
        );
      }
    `,
  ];

  constructor() {
    super();
    this.index = 0;
  }

  protected override render(): TemplateResult {
    const { colour, mark } = lookOf(this.classId, this.index);
    const hatched = this.classId === 'leaked' || this.classId === 'corrupt' || this.classId === 'unknown';
    return html`<span aria-hidden="true" class=${hatched ? 'hatched' : ''} ${cssProperties({ '--swatch': `var(${colour})` })}
      >${mark}</span
    >`;
  }
}

customElements.define('class-swatch', ClassSwatch);
