import { css } from 'lit';

/** What every component shares: VS Code's typography, focus ring, small buttons and links. */
export const base = css`
  :host {
    box-sizing: border-box;
    font-family: var(--vscode-font-family);
    font-size: var(--vscode-font-size, 13px);
    color: var(--vscode-foreground);
  }

  :host([hidden]),
  [hidden] {
    display: none !important;
  }

  *,
  *::before,
  *::after {
    box-sizing: border-box;
  }

  h2,
  h3,
  p,
  dl,
  dd,
  ul,
  ol {
    margin: 0;
    padding: 0;
    font-weight: inherit;
    list-style: none;
  }

  h2 {
    font-size: 1em;
    font-weight: 600;
  }

  .mono {
    font-family: var(--vscode-editor-font-family);
    font-size: var(--cs-mono-size);
    font-variant-ligatures: none;
  }

  .muted {
    color: var(--vscode-descriptionForeground);
  }

  .hidden-text {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }

  :focus {
    outline: none;
  }

  :focus-visible {
    outline: 1px solid var(--vscode-focusBorder);
    outline-offset: 1px;
  }

  button {
    font: inherit;
    color: inherit;
    background: none;
    border: none;
    padding: 0;
    cursor: pointer;
  }

  button:disabled {
    cursor: default;
    color: var(--vscode-disabledForeground);
  }

  .icon {
    display: block;
    width: 16px;
    height: 16px;
    flex: none;
    fill: none;
    stroke: currentColor;
    stroke-width: 1.1;
    stroke-linecap: round;
    stroke-linejoin: round;
  }

  .icon-button {
    display: inline-flex;
    align-items: center;
    justify-content: center;
    min-width: 22px;
    height: 22px;
    padding: 0 3px;
    border-radius: 4px;
    color: var(--vscode-icon-foreground);
    border: 1px solid transparent;
  }

  .icon-button:hover:not(:disabled) {
    background: var(--vscode-toolbar-hoverBackground);
    outline: 1px dashed var(--vscode-toolbar-hoverOutline, transparent);
    outline-offset: -1px;
  }

  .icon-button:active:not(:disabled) {
    background: var(--vscode-toolbar-activeBackground);
  }

  .icon-button:focus-visible {
    outline: 1px solid var(--vscode-focusBorder);
    outline-offset: -1px;
  }

  .badge {
    display: inline-block;
    min-width: 18px;
    padding: 2px 5px;
    border-radius: 11px;
    border: 1px solid var(--vscode-contrastBorder, transparent);
    font-size: 11px;
    line-height: 11px;
    text-align: center;
    color: var(--vscode-badge-foreground);
    background: var(--vscode-badge-background);
  }

  .link {
    color: var(--vscode-textLink-foreground);
    text-decoration: var(--text-link-decoration, none);
    text-align: start;
  }

  .link:hover {
    color: var(--vscode-textLink-activeForeground);
    text-decoration: underline;
  }

  .severity-error {
    color: var(--vscode-problemsErrorIcon-foreground);
  }

  .severity-warning {
    color: var(--vscode-problemsWarningIcon-foreground);
  }

  .severity-info {
    color: var(--vscode-problemsInfoIcon-foreground);
  }

  select {
    height: 26px;
    max-width: 100%;
    padding: 0 4px;
    font: inherit;
    color: var(--vscode-dropdown-foreground);
    background: var(--vscode-dropdown-background);
    border: 1px solid var(--vscode-dropdown-border, transparent);
    border-radius: 2px;
  }

  select:focus-visible {
    outline: 1px solid var(--vscode-focusBorder);
    outline-offset: -1px;
  }

  vscode-button::part(control) {
    font-size: var(--vscode-font-size, 13px);
  }

  .toolbar {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 6px 8px;
  }

  @media (prefers-reduced-motion: reduce) {
    *,
    *::before,
    *::after {
      animation: none !important;
      transition: none !important;
    }
  }
`;

/** A table of declared fields and the like: thin lines, a quiet head, monospaced numbers. */
export const dataTable = css`
  table {
    width: 100%;
    border-collapse: collapse;
    font-variant-numeric: tabular-nums;
  }

  th {
    font-weight: 600;
    text-align: start;
    color: var(--vscode-descriptionForeground);
    border-bottom: 1px solid var(--cs-line);
    white-space: nowrap;
  }

  th,
  td {
    padding: 3px 12px 3px 0;
    vertical-align: top;
  }

  th:last-child,
  td:last-child {
    padding-inline-end: 0;
  }

  tbody tr:hover {
    background: var(--vscode-list-hoverBackground);
  }

  td.number,
  th.number {
    text-align: end;
  }
`;
