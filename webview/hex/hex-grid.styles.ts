import { css } from 'lit';

export const hexGridStyles = css`
  :host {
    display: block;
    position: relative;
    min-height: 0;
    overflow: hidden;
    font-family: var(--vscode-editor-font-family);
    font-size: var(--vscode-editor-font-size, 14px);
    font-weight: var(--vscode-editor-font-weight);
    font-feature-settings: var(--vscode-editor-font-feature-settings);
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
    flex: 1;
    min-height: 0;
    overflow: hidden;
    user-select: none;
  }

  .moving {
    transform: translateY(calc(-1 * var(--shift)));
  }

  .row {
    display: flex;
    height: var(--row-height);
    line-height: var(--row-height);
    white-space: pre;
  }

  .head {
    flex: none;
    color: var(--vscode-descriptionForeground);
    border-bottom: 1px solid var(--cs-line);
  }

  .offset {
    width: calc(var(--digits) * 1ch + 28px);
    padding-inline-start: 14px;
    color: var(--vscode-descriptionForeground);
  }

  .row.current .offset {
    color: var(--vscode-editorLineNumber-activeForeground);
  }

  .bar {
    width: 4px;
    margin-inline-end: 10px;
    background: var(--region, transparent);
  }

  .byte {
    width: 3ch;
    text-align: center;
    cursor: text;
  }

  .byte.middle {
    margin-inline-end: 1ch;
  }

  .zero {
    color: var(--vscode-descriptionForeground);
  }

  .ascii {
    display: flex;
    margin-inline: 2ch;
    cursor: text;
  }

  .ascii span {
    width: 1ch;
  }

  .selected {
    background: var(--vscode-editor-selectionBackground);
    color: var(--vscode-editor-selectionForeground, inherit);
  }

  .cursor {
    outline: 1px solid var(--vscode-editorCursor-foreground);
    outline-offset: -1px;
  }

  .region {
    white-space: nowrap;
    font-family: var(--vscode-font-family);
    font-size: var(--vscode-font-size);
    padding-inline-end: 12px;
  }

  row-scrollbar {
    top: var(--row-height);
  }
`;
