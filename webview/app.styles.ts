import { css } from 'lit';

export const appStyles = css`
  :host {
    display: flex;
    flex-direction: column;
    height: 100vh;
    overflow: hidden;
    background: var(--vscode-editor-background);
  }

  .top {
    flex: none;
  }

  .work {
    display: flex;
    flex: 1;
    min-height: 0;
  }

  .panels {
    flex: 1;
    min-width: 0;
    min-height: 0;
  }

  .panels > div {
    height: 100%;
  }

  cluster-inspector {
    width: clamp(300px, 34%, 460px);
    border-inline-start: 1px solid var(--cs-line);
  }

  @media (max-width: 760px) {
    .work {
      flex-direction: column;
    }

    cluster-inspector {
      width: auto;
      height: 44%;
      border-inline-start: none;
      border-top: 1px solid var(--cs-line);
    }
  }
`;
