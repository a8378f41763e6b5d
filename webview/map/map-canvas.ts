import { css, html, LitElement, type PropertyValues, type TemplateResult } from 'lit';
import { MAP_OUTSIDE, type MapRequest, type MapShape } from '../../src/protocol/inspect';
import { base } from '../components/styles';
import type { ImageClient } from '../../src/protocol/imageClient';
import { MAP_PAINTED, markAfterPaint } from '../painted';
import type { Problem } from '../problem';
import { colourOf, cssColour, onThemeChange } from '../theme';
import { cursorAt, neighbour } from './cell-cursor';
import { classAt, drawScene, type Cell } from './draw';
import { FrameProbe } from './frame-probe';
import { recogniseGestures } from './gestures';
import { onMapKey } from './map-keys';
import { makePalette, type Palette } from './palette';
import { TileCache, type TileKey } from './tile-cache';
import { TileLoader } from './tile-loader';
import { MapViewport, type KeptViewport } from './viewport';
import { baseLevel, visibleTiles, wantedTiles } from './wanted-tiles';

/** A cell under the pointer or the cursor. */
export interface CellDetail {
  readonly cell: Cell;
  /** Most of it, as far as known without asking; null otherwise. */
  readonly classIndex: number | null;
  /** Where it is in the window, CSS pixels. */
  readonly clientX: number;
  readonly clientY: number;
}

/** A cluster that a link leads to is shown at least this large, in CSS pixels. */
const REVEALED_SIZE = 10;

/** The picture of a map, with everything that moves in it. It tells its parent by the events `cell-hover`, `cell-cursor`, `cell-pick`, `viewport`. */
export class MapCanvas extends LitElement {
  static override properties = {
    source: { attribute: false },
    request: { attribute: false },
    shape: { attribute: false },
    start: { attribute: false },
    only: { attribute: false },
    name: {},
    summary: {},
  };

  declare source: ImageClient;
  declare request: MapRequest;
  declare shape: MapShape;
  /** What to show of a map that was not on the screen before; null: all of it. */
  declare start: KeptViewport | null;
  /** Ids of the classes to show; empty: all. */
  declare only: ReadonlySet<string>;
  /** Of the map, for those who do not see it; and what is in it. */
  declare name: string;
  declare summary: string;

  private readonly cache = new TileCache();
  private readonly loader = new TileLoader(this.cache, (key, signal) => this.fetchTile(key, signal), {
    arrived: () => this.requestDraw(),
    failed: (problem) => this.dispatchEvent(new CustomEvent<Problem>('tile-problem', { detail: problem })),
  });
  private readonly probe = new FrameProbe();
  private viewport = new MapViewport(1, 1);
  private palette: Palette | null = null;
  private lines = { background: '', line: '', accent: '', foreground: '' };
  private canvas: HTMLCanvasElement | null = null;
  private context: CanvasRenderingContext2D | null = null;
  private drawPending = false;
  private painted = false;
  private hovered: Cell | null = null;
  private cursor: Cell | null = null;
  private selected: Cell | null = null;
  private cleanUp: (() => void)[] = [];

  static override styles = [
    base,
    css`
      :host {
        display: block;
        position: relative;
        min-width: 0;
        min-height: 0;
        overflow: hidden;
      }

      .surface {
        position: absolute;
        inset: 0;
        touch-action: none;
        cursor: crosshair;
      }

      .surface:focus-visible {
        outline: 1px solid var(--vscode-focusBorder);
        outline-offset: -1px;
      }

      canvas {
        display: block;
        width: 100%;
        height: 100%;
      }
    `,
  ];

  constructor() {
    super();
    this.start = null;
    this.only = new Set();
    this.name = '';
    this.summary = '';
  }

  get kept(): KeptViewport | null {
    return this.viewport.isFitted ? null : this.viewport.kept;
  }

  zoom(factor: number): void {
    this.viewport.zoomAtCenter(factor);
    this.moved();
  }

  fit(): void {
    this.viewport.fit();
    this.moved();
  }

  /** Outlines a cell of level 0 and makes it visible. */
  select(cell: { readonly x: number; readonly y: number } | null, reveal: boolean): void {
    this.selected = cell === null ? null : { level: 0, x: cell.x, y: cell.y };
    if (cell !== null && reveal) {
      this.viewport.reveal(cell.x, cell.y, REVEALED_SIZE * window.devicePixelRatio);
      this.cursor = null;
      this.moved();
    }
    this.requestDraw();
  }

  /** Asks for all tiles again. */
  reload(): void {
    this.loader.reset();
    this.cache.clear();
    this.painted = false;
    this.requestDraw();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    globalThis.chainscopeFrames = this.probe;
    this.cleanUp.push(
      onThemeChange(() => {
        this.palette = null;
        this.requestDraw();
      }),
    );
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.loader.reset();
    for (const stop of this.cleanUp.splice(0)) {
      stop();
    }
  }

  protected override firstUpdated(): void {
    const surface = this.renderRoot.querySelector<HTMLElement>('.surface');
    this.canvas = this.renderRoot.querySelector('canvas');
    this.context = this.canvas?.getContext('2d', { alpha: false }) ?? null;
    if (surface === null || this.canvas === null) {
      return;
    }
    const observer = new ResizeObserver(([entry]) => {
      if (entry !== undefined) {
        this.resizeTo(entry);
      }
    });
    observer.observe(this.canvas);
    this.cleanUp.push(() => observer.disconnect());
    this.cleanUp.push(
      recogniseGestures(surface, {
        zoomAt: (x, y, factor) => {
          this.viewport.zoomAt(x, y, factor);
          this.moved();
        },
        panBy: (x, y) => {
          this.viewport.panBy(x, y);
          this.moved();
        },
        hover: (at) => this.hover(at),
        pick: (x, y) => this.pickAt(x, y),
      }),
    );
  }

  private resizeTo(entry: ResizeObserverEntry): void {
    const ratio = window.devicePixelRatio;
    const width = Math.round(entry.contentRect.width * ratio);
    const height = Math.round(entry.contentRect.height * ratio);
    if (this.canvas === null || width === 0 || height === 0) {
      return;
    }
    this.canvas.width = width;
    this.canvas.height = height;
    this.viewport.resize(width, height);
    this.draw(performance.now());
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('shape') || changed.has('request')) {
      const before = changed.get('shape');
      const sameSize = before?.width === this.shape.width && before.height === this.shape.height && !changed.has('request');
      this.loader.reset();
      this.cache.clear();
      this.palette = null;
      this.painted = false;
      this.hovered = null;
      if (!sameSize) {
        this.cursor = null;
        this.selected = null;
        const viewport = new MapViewport(this.shape.width, this.shape.height, window.devicePixelRatio);
        viewport.resize(this.canvas?.width ?? 1, this.canvas?.height ?? 1);
        if (this.start !== null) {
          viewport.restore(this.start);
        }
        this.viewport = viewport;
      }
    }
    if (changed.has('only')) {
      this.palette = null;
    }
  }

  protected override updated(): void {
    this.requestDraw();
  }

  private fetchTile({ level, x, y }: TileKey, signal: AbortSignal) {
    return this.source.call('mapTile', { ...this.request, level, x, y }, { signal });
  }

  private moved(): void {
    this.dispatchEvent(new Event('viewport'));
    this.requestDraw();
  }

  private requestDraw(): void {
    if (!this.drawPending) {
      this.drawPending = true;
      requestAnimationFrame((at) => {
        this.drawPending = false;
        this.draw(at);
      });
    }
  }

  private draw(at: number): void {
    const { context } = this;
    if (context === null || !this.isConnected || context.canvas.width === 0 || context.canvas.clientWidth === 0) {
      return;
    }
    const began = performance.now();
    this.palette ??= this.preparePalette();
    drawScene({
      context,
      viewport: this.viewport,
      cache: this.cache,
      palette: this.palette,
      levels: this.shape.levels,
      baseLevel: baseLevel(this.shape),
      ...this.lines,
      hovered: this.hovered,
      cursor: this.shadowRoot?.activeElement === null ? null : this.cursor,
      selected: this.selected,
    });
    this.loader.want(wantedTiles(this.viewport, this.shape));
    if (!this.painted && visibleTiles(this.viewport, this.shape).every((tile) => this.cache.has(tile))) {
      this.painted = true;
      void markAfterPaint(MAP_PAINTED);
    }
    this.probe.frame(at, performance.now() - began);
  }

  private preparePalette(): Palette {
    this.lines = {
      background: cssColour(colourOf(this, '--vscode-editor-background')),
      line: cssColour(colourOf(this, '--vscode-editor-background')),
      accent: cssColour(colourOf(this, '--vscode-focusBorder')),
      foreground: cssColour(colourOf(this, '--vscode-editor-foreground')),
    };
    return makePalette(this, this.shape, this.only);
  }

  private cellAt(x: number, y: number): Cell | null {
    const level = this.viewport.level(this.shape.levels);
    const cell = this.viewport.cellAt(x, y, level);
    return cell === null || this.isOutside({ level, ...cell }) ? null : { level, ...cell };
  }

  private hover(at: { readonly x: number; readonly y: number } | null): void {
    const cell = at === null ? null : this.cellAt(at.x, at.y);
    if (cell?.level === this.hovered?.level && cell?.x === this.hovered?.x && cell?.y === this.hovered?.y) {
      return;
    }
    this.hovered = cell;
    this.tell('cell-hover', cell);
    this.requestDraw();
  }

  private pickAt(x: number, y: number): void {
    const cell = this.cellAt(x, y);
    if (cell !== null) {
      this.cursor = cell;
      this.tell('cell-pick', cell);
      this.requestDraw();
    }
  }

  private tell(type: 'cell-hover' | 'cell-cursor' | 'cell-pick', cell: Cell | null): void {
    let detail: CellDetail | null = null;
    if (cell !== null) {
      const { right, bottom } = this.viewport.rect(cell.level, cell.x, cell.y, 1, 1);
      const frame = this.getBoundingClientRect();
      const ratio = window.devicePixelRatio;
      detail = {
        cell,
        classIndex: classAt(this.cache, cell),
        clientX: frame.left + right / ratio,
        clientY: frame.top + bottom / ratio,
      };
    }
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    onMapKey(
      event,
      {
        step: (right, down) => this.step(right, down),
        pan: (right, down) => {
          const ratio = window.devicePixelRatio;
          this.viewport.panBy(right * ratio, down * ratio);
          this.moved();
        },
        zoom: (factor) => this.zoomAtCursor(factor),
        fit: () => this.fit(),
        pick: () => this.tell('cell-pick', this.currentCursor()),
      },
      { width: this.clientWidth, height: this.clientHeight },
    );
  };

  private step(right: number, down: number): void {
    const next = neighbour(this.currentCursor(), right, down, this.viewport);
    if (this.isOutside(next)) {
      return;
    }
    const side = 2 ** next.level;
    this.cursor = next;
    this.viewport.keepInside(next.x * side, next.y * side, side);
    this.tell('cell-cursor', next);
    this.moved();
  }

  private zoomAtCursor(factor: number): void {
    const cursor = this.cursor;
    if (cursor === null) {
      this.zoom(factor);
      return;
    }
    const { left, top, right, bottom } = this.viewport.rect(cursor.level, cursor.x, cursor.y, 1, 1);
    this.viewport.zoomAt((left + right) / 2, (top + bottom) / 2, factor);
    this.cursor = this.currentCursor();
    this.tell('cell-cursor', this.cursor);
    this.moved();
  }

  private currentCursor(): Cell {
    return cursorAt(this.cursor, this.viewport.level(this.shape.levels), this.viewport, (cell) => this.isOutside(cell));
  }

  private isOutside(cell: Cell): boolean {
    return classAt(this.cache, cell) === MAP_OUTSIDE;
  }

  private readonly onFocus = (): void => {
    this.cursor = this.currentCursor();
    this.tell('cell-cursor', this.cursor);
    this.requestDraw();
  };

  protected override render(): TemplateResult {
    return html`<div
      class="surface"
      tabindex="0"
      role="application"
      aria-label=${this.name}
      aria-describedby="summary keys"
      @keydown=${this.onKey}
      @focus=${(event: FocusEvent) => {
        if ((event.target as Element).matches(':focus-visible')) {
          this.onFocus();
        }
      }}
      @blur=${() => this.requestDraw()}
    >
      <canvas aria-hidden="true"></canvas>
      <p id="summary" class="hidden-text">${this.summary}</p>
      <p id="keys" class="hidden-text">
        Arrow keys move the cell cursor, with shift the map. Plus and minus zoom, Home shows the whole map, Enter inspects the cell.
      </p>
    </div>`;
  }
}

customElements.define('map-canvas', MapCanvas);
