import { css, html, LitElement, type TemplateResult } from 'lit';
import { base } from './styles';

/** A quiet message in the middle of a panel, with an icon above and actions below. */
export class StateBox extends LitElement {
  static override properties = { tone: {} };

  declare tone: 'error' | null;

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        flex-direction: column;
        align-items: center;
        justify-content: center;
        gap: 8px;
        min-height: 120px;
        padding: 24px 16px;
        text-align: center;
        overflow-wrap: anywhere;
      }

      .message {
        max-width: 72ch;
      }

      ::slotted([slot='icon']) {
        color: var(--vscode-descriptionForeground);
      }

      :host([tone='error']) ::slotted([slot='icon']) {
        color: var(--vscode-problemsErrorIcon-foreground);
      }

      ::slotted([slot='detail']) {
        color: var(--vscode-descriptionForeground);
        max-width: 72ch;
      }

      ::slotted([slot='actions']) {
        margin-top: 4px;
      }
    `,
  ];

  protected override render(): TemplateResult {
    return html`<slot name="icon"></slot><span class="message"><slot></slot></span><slot name="detail"></slot><slot name="actions"></slot>`;
  }
}

customElements.define('state-box', StateBox);
