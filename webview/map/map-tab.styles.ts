import { css } from 'lit';

export const mapTabStyles = css`
  :host {
    display: flex;
    flex-direction: column;
    height: 100%;
    container-type: inline-size;
  }

  .toolbar {
    padding: 8px 12px;
  }

  .zoom {
    display: inline-flex;
    margin-inline-start: auto;
  }

  .split {
    display: flex;
    flex: 1;
    min-height: 0;
    border-top: 1px solid var(--cs-line);
  }

  map-canvas {
    flex: 1;
  }

  map-legend {
    width: 212px;
    padding: 8px;
    border-inline-start: 1px solid var(--cs-line);
  }

  .status {
    min-height: 24px;
    padding: 3px 12px;
    border-top: 1px solid var(--cs-line);
    color: var(--vscode-descriptionForeground);
    white-space: nowrap;
    overflow: hidden;
    text-overflow: ellipsis;
  }

  .hint {
    position: fixed;
    z-index: 10;
    max-width: 320px;
    padding: 5px 8px;
    pointer-events: none;
    border-radius: 3px;
    color: var(--vscode-editorHoverWidget-foreground);
    background: var(--vscode-editorHoverWidget-background);
    border: 1px solid var(--vscode-editorHoverWidget-border);
    box-shadow: 0 2px 8px var(--vscode-widget-shadow, transparent);
    left: min(var(--x), calc(100vw - 330px));
    top: var(--y);
  }

  .hint.above {
    top: auto;
    bottom: calc(100vh - var(--y) + 24px);
  }

  .hint strong {
    font-weight: 600;
  }

  .hint div {
    overflow-wrap: anywhere;
  }

  @container (max-width: 560px) {
    .split {
      flex-direction: column;
    }

    map-legend {
      width: auto;
      max-height: 34%;
      border-inline-start: none;
      border-top: 1px solid var(--cs-line);
    }
  }
`;
