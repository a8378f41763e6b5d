import { css } from 'lit';

export const tableGridStyles = css`
  :host {
    display: block;
    position: relative;
    min-height: 0;
    overflow: hidden;
  }

  .scroll {
    position: absolute;
    inset: 0 12px 0 0;
    overflow-x: auto;
    overflow-y: hidden;
  }

  .grid {
    display: flex;
    flex-direction: column;
    min-width: max-content;
    height: 100%;
  }

  .grid:focus-visible {
    outline: none;
  }

  .rows {
    position: relative;
    flex: 1;
    min-height: 0;
    overflow: hidden;
  }

  .row {
    display: grid;
    grid-template-columns: var(--columns);
    height: var(--row-height);
    line-height: var(--row-height);
    white-space: nowrap;
  }

  .moving {
    transform: translateY(calc(-1 * var(--shift)));
  }

  .head {
    flex: none;
    color: var(--vscode-descriptionForeground);
    border-bottom: 1px solid var(--cs-line);
  }

  .cell {
    overflow: hidden;
    text-overflow: ellipsis;
    padding: 0 8px;
    border: 1px solid transparent;
    line-height: calc(var(--row-height) - 2px);
    min-width: 0;
  }

  .head .cell {
    font-weight: 600;
  }

  .cell.end {
    text-align: end;
    font-variant-numeric: tabular-nums;
  }

  .moving .row:hover {
    background: var(--vscode-list-hoverBackground);
  }

  .row.odd {
    background: var(--vscode-tree-tableOddRowsBackground);
  }

  .moving .row.selected {
    background: var(--vscode-list-inactiveSelectionBackground);
    outline: 1px dotted var(--vscode-contrastActiveBorder, transparent);
    outline-offset: -1px;
  }

  .grid:focus .row.selected {
    background: var(--vscode-list-activeSelectionBackground);
    color: var(--vscode-list-activeSelectionForeground);
  }

  .grid:focus .row.selected .muted {
    color: inherit;
  }

  .grid:focus .cell.current {
    border-color: var(--vscode-focusBorder);
  }

  .flag {
    margin-inline-end: 6px;
    padding: 1px 5px;
    border-radius: 3px;
    border: 1px solid var(--vscode-contrastBorder, transparent);
    background: var(--vscode-keybindingLabel-background);
    font-size: 0.9em;
  }

  .wrong {
    display: inline-flex;
    align-items: center;
    gap: 4px;
    max-width: 100%;
    color: var(--cs-error-text);
    vertical-align: top;
  }

  .cut {
    overflow: hidden;
    text-overflow: ellipsis;
  }

  row-scrollbar {
    top: var(--row-height);
  }
`;
