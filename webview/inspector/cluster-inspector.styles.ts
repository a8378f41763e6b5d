import { css } from 'lit';

export const inspectorStyles = css`
  :host {
    display: flex;
    flex-direction: column;
    min-height: 0;
    min-width: 0;
    background: var(--vscode-sideBar-background);
    container-type: inline-size;
  }

  header {
    display: flex;
    align-items: center;
    gap: 6px;
    padding: 5px 6px 5px 12px;
    border-bottom: 1px solid var(--cs-line);
  }

  h2 {
    flex: 1;
    min-width: 0;
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
  }

  .body {
    flex: 1;
    min-height: 0;
    overflow: auto;
    padding: 8px 12px 16px;
  }

  section {
    margin-top: 14px;
  }

  h3 {
    margin-bottom: 3px;
    color: var(--vscode-descriptionForeground);
    font-size: 0.92em;
    font-weight: 600;
  }

  .class {
    display: flex;
    align-items: center;
    gap: 6px;
  }

  .facts {
    display: grid;
    grid-template-columns: auto 1fr;
    gap: 2px 12px;
    margin-top: 6px;
  }

  .facts dt {
    color: var(--vscode-descriptionForeground);
  }

  .facts dd {
    overflow-wrap: anywhere;
  }

  .actions {
    display: flex;
    flex-wrap: wrap;
    gap: 2px 14px;
    margin-top: 8px;
  }

  .layer {
    display: grid;
    grid-template-columns: 16px 1fr auto;
    gap: 0 6px;
    align-items: center;
    padding: 2px 0;
  }

  .layer .file {
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
  }

  .layer.passed {
    color: var(--vscode-descriptionForeground);
  }

  .layer .supplies {
    color: var(--vscode-foreground);
    font-weight: 600;
  }

  .entry {
    padding: 3px 0 5px 10px;
    border-inline-start: 2px solid var(--cs-line);
  }

  .file-head {
    padding: 2px 0;
    color: var(--vscode-descriptionForeground);
  }

  .entry .bytes {
    overflow-wrap: anywhere;
  }

  .differs {
    color: var(--cs-error-text);
  }

  .references {
    max-height: 132px;
    overflow: auto;
  }

  .command {
    display: flex;
    align-items: flex-start;
    gap: 4px;
    padding: 2px 0;
  }

  .command code {
    flex: 1;
    min-width: 0;
    overflow-wrap: anywhere;
  }
`;
