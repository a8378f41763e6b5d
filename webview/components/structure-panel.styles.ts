import { css } from 'lit';

export const structureStyles = css`
  :host {
    display: block;
    border-bottom: 1px solid var(--cs-line);
  }

  .head {
    display: flex;
    align-items: center;
    gap: 8px;
    min-height: 26px;
  }

  .head:hover {
    background: var(--vscode-list-hoverBackground);
  }

  .fold {
    display: flex;
    align-items: center;
    gap: 4px;
    min-width: 0;
    padding: 3px 0;
    text-align: start;
    font-weight: 600;
  }

  .fold span {
    overflow: hidden;
    text-overflow: ellipsis;
  }

  .fold .icon {
    transform: rotate(90deg);
    transition: transform 80ms;
  }

  .fold[aria-expanded='false'] .icon {
    transform: none;
  }

  .where {
    color: var(--vscode-descriptionForeground);
    white-space: nowrap;
  }

  .grow {
    flex: 1;
  }

  .count {
    display: inline-flex;
    align-items: center;
    gap: 4px;
    white-space: nowrap;
  }

  .body {
    padding: 0 0 10px 20px;
    overflow-x: auto;
  }

  td {
    overflow-wrap: anywhere;
  }

  td.name {
    white-space: nowrap;
    overflow-wrap: normal;
  }

  td.offset,
  td.raw {
    font-family: var(--vscode-editor-font-family);
    font-size: var(--cs-mono-size);
  }

  td.offset {
    white-space: nowrap;
  }

  td.raw {
    min-width: 12ch;
    max-width: 25ch;
    color: var(--vscode-descriptionForeground);
  }

  td.raw.short {
    white-space: nowrap;
  }

  td.value {
    min-width: 14ch;
  }

  td.meaning {
    color: var(--vscode-descriptionForeground);
    width: 40%;
    min-width: 22ch;
  }

  tr.problem td {
    background: var(--vscode-inputValidation-errorBackground);
  }

  tr.problem td.name {
    box-shadow: inset 2px 0 var(--vscode-problemsErrorIcon-foreground);
    padding-inline-start: 8px;
  }

  tr.changed td.value {
    outline: 1px dashed var(--vscode-editorWarning-foreground, currentColor);
  }

  .wrong {
    display: flex;
    gap: 4px;
    margin-top: 2px;
    color: var(--cs-error-text);
  }

  .wrong .icon {
    margin-top: 1px;
  }

  .bits {
    margin: 3px 0 2px;
  }

  .bits li {
    display: flex;
    gap: 6px;
    padding: 1px 0;
  }

  .bits .icon {
    margin-top: 1px;
  }

  .bits .off {
    color: var(--vscode-descriptionForeground);
  }

  .bits .unknown {
    color: var(--vscode-problemsWarningIcon-foreground);
  }

  .notices {
    margin: 2px 0 6px;
  }

  @container (max-width: 620px) {
    th.meaning,
    td.meaning {
      display: none;
    }
  }

  @container (max-width: 440px) {
    th.raw,
    td.raw {
      display: none;
    }
  }
`;
