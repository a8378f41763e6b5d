import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Severity } from '../../src/protocol/inspect';
import { icon, SEVERITY_ICONS } from './icons';
import { base } from './styles';

/** One sentence with a tone; what belongs to it (a link, a button) stands in its slot. */
export class NoticeBanner extends LitElement {
  static override properties = { severity: {}, closable: { type: Boolean } };

  declare severity: Severity;
  declare closable: boolean;

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        align-items: flex-start;
        gap: 8px;
        padding: 5px 8px 5px 10px;
        border: 1px solid var(--vscode-inputValidation-infoBorder);
        background: var(--vscode-inputValidation-infoBackground);
        color: var(--vscode-inputValidation-infoForeground, var(--vscode-foreground));
        border-radius: 2px;
      }

      :host([severity='warning']) {
        border-color: var(--vscode-inputValidation-warningBorder);
        background: var(--vscode-inputValidation-warningBackground);
        color: var(--vscode-inputValidation-warningForeground, var(--vscode-foreground));
      }

      :host([severity='error']) {
        border-color: var(--vscode-inputValidation-errorBorder);
        background: var(--vscode-inputValidation-errorBackground);
        color: var(--vscode-inputValidation-errorForeground, var(--vscode-foreground));
      }

      .text {
        flex: 1;
        min-width: 0;
        padding: 1px 0;
        overflow-wrap: anywhere;
      }

      .icon {
        margin-top: 2px;
      }

      button .icon {
        margin: 0;
      }

      .icon-button {
        margin: -1px 0;
        height: 20px;
        min-width: 20px;
      }
    `,
  ];

  constructor() {
    super();
    this.severity = 'info';
    this.closable = false;
  }

  protected override render(): TemplateResult {
    return html`<span class=${`severity-${this.severity}`}>${icon(SEVERITY_ICONS[this.severity])}</span>
      <div class="text"><span class="hidden-text">${this.severity}: </span><slot></slot></div>
      ${
        this.closable
          ? html`<button
              type="button"
              class="icon-button"
              aria-label="Dismiss"
              title="Dismiss"
              @click=${() => this.dispatchEvent(new Event('dismiss'))}
            >
              ${icon('close')}
            </button>`
          : nothing
      }`;
  }
}

customElements.define('notice-banner', NoticeBanner);
