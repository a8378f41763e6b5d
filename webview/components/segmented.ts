import { html, type TemplateResult } from 'lit';
import { css } from 'lit';

export interface Segment<T extends string> {
  readonly value: T;
  readonly label: string;
  readonly title?: string;
}

/** Styles for `segmented`. */
export const segmentedStyles = css`
  .segmented {
    display: inline-flex;
    height: 26px;
    border: 1px solid var(--vscode-dropdown-border, var(--cs-line));
    border-radius: 2px;
    overflow: hidden;
  }

  .segmented button {
    padding: 0 10px;
    color: var(--vscode-foreground);
    background: var(--vscode-dropdown-background);
    border: 1px solid transparent;
    white-space: nowrap;
  }

  .segmented button:hover {
    background: var(--vscode-inputOption-hoverBackground, var(--vscode-list-hoverBackground));
  }

  .segmented button[aria-checked='true'] {
    color: var(--vscode-inputOption-activeForeground);
    background: var(--vscode-inputOption-activeBackground);
    border-color: var(--vscode-inputOption-activeBorder);
  }

  .segmented button:focus-visible {
    outline: 1px solid var(--vscode-focusBorder);
    outline-offset: -3px;
  }
`;

/** A choice of a few, as buttons in a row: a radio group with its keys. */
export function segmented<T extends string>(
  label: string,
  segments: readonly Segment<T>[],
  value: T,
  choose: (value: T) => void,
): TemplateResult {
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) {
      return;
    }
    event.preventDefault();
    const at = segments.findIndex((segment) => segment.value === value);
    const next = segments[(at + step + segments.length) % segments.length];
    const buttons = (event.currentTarget as HTMLElement).querySelectorAll('button');
    if (next !== undefined) {
      choose(next.value);
      buttons[segments.indexOf(next)]?.focus();
    }
  };
  return html`<div class="segmented" role="radiogroup" aria-label=${label} @keydown=${move}>
    ${segments.map(
      (segment) =>
        html`<button
          type="button"
          role="radio"
          title=${segment.title ?? segment.label}
          aria-checked=${String(segment.value === value)}
          tabindex=${segment.value === value ? 0 : -1}
          @click=${() => choose(segment.value)}
        >
          ${segment.label}
        </button>`,
    )}
  </div>`;
}
