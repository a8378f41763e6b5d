import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { MenuDetail } from '../events';
import { base } from './styles';

interface MenuAction {
  readonly label: string;
  /** Stands at the right, muted. */
  readonly detail?: string;
  readonly run: () => void;
}

/** Null is a line between groups. */
export type MenuItem = MenuAction | null;

/** Keeps a menu inside the window, in CSS pixels. */
const MARGIN = 4;

/** The page's one context menu. */
export class ContextMenu extends LitElement {
  static override properties = { items: { state: true } };

  declare private items: readonly MenuItem[];
  private returnFocus: HTMLElement | null = null;

  static override styles = [
    base,
    css`
      :host {
        position: fixed;
        z-index: 100;
        min-width: 180px;
        max-width: min(420px, calc(100vw - 8px));
        max-height: calc(100vh - 8px);
        overflow-y: auto;
        padding: 4px;
        border-radius: 5px;
        background: var(--vscode-menu-background);
        color: var(--vscode-menu-foreground);
        border: 1px solid var(--vscode-menu-border, var(--cs-line));
        box-shadow: 0 2px 8px var(--vscode-widget-shadow, transparent);
      }

      button {
        display: flex;
        justify-content: space-between;
        gap: 24px;
        width: 100%;
        padding: 3px 10px;
        border-radius: 3px;
        border: 1px solid transparent;
        text-align: start;
      }

      button:focus {
        color: var(--vscode-menu-selectionForeground, inherit);
        background: var(--vscode-menu-selectionBackground);
        border-color: var(--vscode-menu-selectionBorder, transparent);
        outline: none;
      }

      .detail {
        opacity: 0.8;
      }

      hr {
        margin: 4px 0;
        border: none;
        border-top: 1px solid var(--vscode-menu-separatorBackground);
      }
    `,
  ];

  constructor() {
    super();
    this.items = [];
    this.hidden = true;
    this.addEventListener('keydown', (event) => this.onKey(event));
    this.addEventListener('contextmenu', (event) => event.preventDefault());
    this.addEventListener('focusout', (event) => {
      if (!(event.relatedTarget instanceof Node) || !this.contains(event.relatedTarget)) {
        this.close(false);
      }
    });
  }

  /** Opens at a point; `focused` gets the focus back. */
  open({ items, x, y }: MenuDetail, focused: HTMLElement | null): void {
    this.items = items;
    this.returnFocus = focused;
    this.hidden = false;
    void this.updateComplete.then(() => {
      const { width, height } = this.getBoundingClientRect();
      this.style.left = `${Math.max(MARGIN, Math.min(x, window.innerWidth - width - MARGIN))}px`;
      this.style.top = `${Math.max(MARGIN, Math.min(y, window.innerHeight - height - MARGIN))}px`;
      this.buttons()[0]?.focus();
    });
  }

  private close(giveFocusBack: boolean): void {
    if (this.hidden) {
      return;
    }
    const focus = this.returnFocus;
    this.returnFocus = null;
    if (giveFocusBack) {
      focus?.focus();
    }
    this.hidden = true;
  }

  private buttons(): HTMLButtonElement[] {
    return [...this.renderRoot.querySelectorAll('button')];
  }

  private onKey(event: KeyboardEvent): void {
    const buttons = this.buttons();
    const active = this.shadowRoot?.activeElement;
    const at = buttons.findIndex((button) => button === active);
    switch (event.key) {
      case 'ArrowDown':
        buttons[(at + 1) % buttons.length]?.focus();
        break;
      case 'ArrowUp':
        buttons[(at - 1 + buttons.length) % buttons.length]?.focus();
        break;
      case 'Home':
        buttons[0]?.focus();
        break;
      case 'End':
        buttons.at(-1)?.focus();
        break;
      case 'Escape':
      case 'Tab':
        this.close(true);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private choose(action: MenuAction): void {
    this.close(true);
    action.run();
  }

  protected override render(): TemplateResult {
    return html`<div role="menu" aria-label="Actions">
      ${this.items.map((item) =>
        item === null
          ? html`<hr />`
          : html`<button
              type="button"
              role="menuitem"
              tabindex="-1"
              @click=${() => this.choose(item)}
              @pointermove=${(event: PointerEvent) => (event.currentTarget as HTMLElement).focus()}
            >
              <span>${item.label}</span>${item.detail === undefined ? nothing : html`<span class="detail mono">${item.detail}</span>`}
            </button>`,
      )}
    </div>`;
  }
}

customElements.define('context-menu', ContextMenu);
