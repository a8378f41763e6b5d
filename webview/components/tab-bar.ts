import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { EditorTab } from '../../src/protocol/webview';
import { base } from './styles';

export interface TabItem {
  readonly id: EditorTab;
  readonly label: string;
  /** Number of findings. */
  readonly badge: string | null;
  readonly disabled: boolean;
}

/** The tabs of the editor. Arrow keys move between them; the panels are the parent's, with ids `panel-…`. */
export class TabBar extends LitElement {
  static override properties = { tabs: { attribute: false }, selected: {} };

  declare tabs: readonly TabItem[];
  declare selected: EditorTab;

  static override styles = [
    base,
    css`
      :host {
        display: block;
        overflow-x: auto;
        scrollbar-width: none;
        border-bottom: 1px solid var(--cs-line);
      }

      [role='tablist'] {
        display: flex;
        gap: 4px;
        min-width: max-content;
        padding: 0 8px;
      }

      button {
        display: flex;
        align-items: center;
        gap: 6px;
        height: 31px;
        padding: 0 8px;
        color: var(--vscode-panelTitle-inactiveForeground);
        border-bottom: 1px solid transparent;
        white-space: nowrap;
      }

      button:hover:not(:disabled) {
        color: var(--vscode-panelTitle-activeForeground);
      }

      button[aria-selected='true'] {
        color: var(--vscode-panelTitle-activeForeground);
        border-bottom-color: var(--vscode-panelTitle-activeBorder);
        box-shadow: inset 0 -1px var(--vscode-panelTitle-activeBorder);
      }

      button:focus-visible {
        outline-offset: -3px;
      }
    `,
  ];

  private choose(id: EditorTab): void {
    this.dispatchEvent(new CustomEvent('choose', { detail: id }));
  }

  private onKey(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const enabled = this.tabs.filter(({ disabled }) => !disabled);
    const at = enabled.findIndex(({ id }) => id === this.selected);
    const next = {
      ArrowRight: enabled[(at + 1) % enabled.length],
      ArrowLeft: enabled[(at - 1 + enabled.length) % enabled.length],
      Home: enabled[0],
      End: enabled.at(-1),
    }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      this.choose(next.id);
      void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(`#tab-${next.id}`)?.focus());
    }
  }

  protected override updated(): void {
    this.renderRoot.querySelector(`#tab-${this.selected}`)?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  protected override render(): TemplateResult {
    return html`<div role="tablist" aria-label="Views of the image" @keydown=${(event: KeyboardEvent) => this.onKey(event)}>
      ${this.tabs.map(
        ({ id, label, badge, disabled }) =>
          html`<button
            type="button"
            role="tab"
            id=${`tab-${id}`}
            aria-selected=${String(id === this.selected)}
            tabindex=${id === this.selected ? 0 : -1}
            ?disabled=${disabled}
            aria-description=${badge === null ? nothing : `${badge} findings`}
            title=${disabled ? 'This format has nothing of the kind' : nothing}
            @click=${() => this.choose(id)}
          >
            ${label}${badge === null ? nothing : html`<span class="badge" aria-hidden="true">${badge}</span>`}
          </button>`,
      )}
    </div>`;
  }
}

customElements.define('tab-bar', TabBar);
