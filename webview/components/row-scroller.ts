import type { ReactiveController, ReactiveControllerHost } from 'lit';
import { RowWindow } from './row-window';

const LINE_HEIGHT = 16;

/** Connects a RowWindow to the element that shows its rows: size, wheel and touch. */
export class RowScroller implements ReactiveController {
  readonly window = new RowWindow();
  private readonly host: ReactiveControllerHost;
  private readonly rowHeight: () => number;
  private viewport: HTMLElement | null = null;
  private trackLength = 0;
  private stopping: AbortController | null = null;
  private observer: ResizeObserver | null = null;

  /** @param rowHeight in CSS pixels, asked anew whenever the viewport changes its size */
  constructor(host: ReactiveControllerHost, rowHeight: () => number) {
    this.host = host;
    this.rowHeight = rowHeight;
    host.addController(this);
  }

  /** Length of the scrollbar, CSS pixels. */
  get track(): number {
    return this.trackLength;
  }

  /** Watches an element; to be called after every render. */
  attach(viewport: HTMLElement | null): void {
    if (viewport === this.viewport) {
      return;
    }
    this.detach();
    this.viewport = viewport;
    if (viewport === null) {
      return;
    }
    this.stopping = new AbortController();
    const options = { signal: this.stopping.signal };
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(viewport);
    viewport.addEventListener('wheel', (event) => this.onWheel(event), { ...options, passive: false });
    let lastY: number | null = null;
    viewport.addEventListener('touchstart', (event) => (lastY = event.touches[0]?.clientY ?? null), { ...options, passive: true });
    viewport.addEventListener(
      'touchmove',
      (event) => {
        const y = event.touches[0]?.clientY ?? null;
        if (lastY !== null && y !== null && this.window.scrollByPixels(lastY - y)) {
          event.preventDefault();
          this.host.requestUpdate();
        }
        lastY = y;
      },
      { ...options, passive: false },
    );
  }

  private onWheel(event: WheelEvent): void {
    if (event.ctrlKey || event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      return;
    }
    const delta =
      event.deltaMode === WheelEvent.DOM_DELTA_PIXEL
        ? event.deltaY
        : event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_HEIGHT : this.trackLength);
    if (this.window.scrollByPixels(delta)) {
      event.preventDefault();
      this.host.requestUpdate();
    }
  }

  private measure(): void {
    if (this.viewport !== null) {
      this.trackLength = this.viewport.clientHeight;
      this.window.resize(this.trackLength, this.rowHeight());
      this.host.requestUpdate();
    }
  }

  private detach(): void {
    this.stopping?.abort();
    this.observer?.disconnect();
    this.stopping = null;
    this.observer = null;
    this.viewport = null;
  }

  hostDisconnected(): void {
    this.detach();
  }
}
