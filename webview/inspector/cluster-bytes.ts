import { css, html, LitElement, type TemplateResult } from 'lit';
import { base } from '../components/styles';
import { hexDump } from '../format/bytes';

/** The first bytes of a cluster; eight a row in a narrow panel, sixteen in a wide one. */
export class ClusterBytes extends LitElement {
  static override properties = { bytes: { attribute: false }, first: { type: Number }, perRow: { state: true } };

  declare bytes: Uint8Array;
  /** Offset of the first, for the left column. */
  declare first: number;
  declare private perRow: number;

  private readonly observer = new ResizeObserver(([entry]) => {
    this.perRow = (entry?.contentRect.width ?? 0) > 560 ? 16 : 8;
  });

  static override styles = [
    base,
    css`
      :host {
        display: block;
      }

      pre {
        margin: 0;
        max-height: 300px;
        overflow: auto;
        padding: 6px 8px;
        border: 1px solid var(--cs-line);
        border-radius: 2px;
        background: var(--vscode-editor-background);
        font-family: var(--vscode-editor-font-family);
        font-size: var(--cs-mono-size);
        line-height: 1.45;
      }
    `,
  ];

  constructor() {
    super();
    this.first = 0;
    this.perRow = 8;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.observer.disconnect();
  }

  protected override render(): TemplateResult {
    return html`<pre tabindex="0" role="region" aria-label="First bytes of the cluster">
${hexDump(this.bytes, this.first, this.perRow)}</pre>`;
  }
}

customElements.define('cluster-bytes', ClusterBytes);
