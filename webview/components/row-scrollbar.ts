import { css, html, LitElement, type TemplateResult } from 'lit';
import { cssProperties } from './css-properties';
import type { RowWindow } from './row-window';
import { base } from './styles';

/** Pixels; below, the slider could hardly be grabbed. */
const SMALLEST_SLIDER = 24;

/** The scrollbar of a RowWindow. For the eye and the pointer only: rows tell their number to those who listen, keys belong to the grid. */
export class RowScrollbar extends LitElement {
  static override properties = { window: { attribute: false }, top: { type: Number }, track: { type: Number } };

  declare window: RowWindow;
  /** Given so that the bar is drawn anew when the window moved. */
  declare top: number;
  /** Its length in pixels. */
  declare track: number;

  static override styles = [
    base,
    css`
      :host {
        position: absolute;
        inset-block: 0;
        inset-inline-end: 0;
        width: 12px;
        touch-action: none;
        border-inline-start: 1px solid var(--cs-line);
      }

      .slider {
        position: absolute;
        inset-inline: 0;
        top: var(--start);
        height: var(--length);
        background: var(--vscode-scrollbarSlider-background);
      }

      .slider:hover {
        background: var(--vscode-scrollbarSlider-hoverBackground);
      }

      .slider.dragged {
        background: var(--vscode-scrollbarSlider-activeBackground);
      }
    `,
  ];

  private grabbedAt: number | null = null;

  constructor() {
    super();
    this.top = 0;
    this.track = 0;
    this.addEventListener('pointerdown', (event) => this.press(event));
    this.addEventListener('pointermove', (event) => this.drag(event));
    const release = () => {
      this.grabbedAt = null;
      this.requestUpdate();
    };
    this.addEventListener('pointerup', release);
    this.addEventListener('pointercancel', release);
  }

  private press(event: PointerEvent): void {
    const slider = this.window.slider(this.track, SMALLEST_SLIDER);
    if (slider === null || event.button !== 0) {
      return;
    }
    event.preventDefault();
    this.setPointerCapture(event.pointerId);
    const at = event.clientY - this.getBoundingClientRect().top;
    const onSlider = at >= slider.start && at <= slider.start + slider.length;
    // A click beside the slider brings its middle there, as VS Code's scrollbars do.
    this.grabbedAt = onSlider ? at - slider.start : slider.length / 2;
    this.drag(event);
  }

  private drag(event: PointerEvent): void {
    if (this.grabbedAt === null) {
      return;
    }
    const at = event.clientY - this.getBoundingClientRect().top;
    this.window.dragTo(at - this.grabbedAt, this.track, SMALLEST_SLIDER);
    this.requestUpdate();
    this.dispatchEvent(new Event('moved'));
  }

  protected override render(): TemplateResult {
    const slider = this.window.slider(this.track, SMALLEST_SLIDER);
    return html`<div
      aria-hidden="true"
      ?hidden=${slider === null}
      class="slider ${this.grabbedAt === null ? '' : 'dragged'}"
      ${cssProperties({ '--start': `${slider?.start ?? 0}px`, '--length': `${slider?.length ?? 0}px` })}
    ></div>`;
  }
}

customElements.define('row-scrollbar', RowScrollbar);
