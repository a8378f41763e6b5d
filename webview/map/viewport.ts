/** A rectangle of the canvas in device pixels. */
export interface PixelRect {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Tiles (or cells) from the first up to, not including, the end. */
export interface TileRange {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** What of a viewport is worth keeping: the cell in its middle and how large a cell is. */
export interface KeptViewport {
  readonly centerX: number;
  readonly centerY: number;
  /** Device pixels per cell of level 0. */
  readonly scale: number;
}

/** A cell never grows larger than this, in device pixels times the device's pixel ratio. */
const LARGEST_CELL = 64;

/** Part of the canvas that the whole map fills when it fits. */
const FIT = 0.96;

/**
 * Which part of a map is on a canvas. Positions on the map are in cells of level 0, positions on the canvas in device pixels. Level n has
 * cells of 2^n by 2^n of those.
 */
export class MapViewport {
  /** Size of the map in cells of level 0. */
  readonly width: number;
  readonly height: number;
  private readonly pixelRatio: number;
  private canvasWidth = 1;
  private canvasHeight = 1;
  private left = 0;
  private top = 0;
  private pixelsPerCell = 1;
  private fitted = true;

  constructor(width: number, height: number, pixelRatio = 1) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.pixelRatio = pixelRatio;
  }

  /** Device pixels per cell of level 0. */
  get scale(): number {
    return this.pixelsPerCell;
  }

  /** Whether the whole map is shown, so that it goes on fitting when the canvas changes its size. */
  get isFitted(): boolean {
    return this.fitted;
  }

  get kept(): KeptViewport {
    return {
      centerX: this.left + this.canvasWidth / this.pixelsPerCell / 2,
      centerY: this.top + this.canvasHeight / this.pixelsPerCell / 2,
      scale: this.pixelsPerCell,
    };
  }

  restore({ centerX, centerY, scale }: KeptViewport): void {
    this.fitted = false;
    this.pixelsPerCell = this.limited(scale);
    this.centerOn(centerX, centerY);
  }

  resize(canvasWidth: number, canvasHeight: number): void {
    const { centerX, centerY } = this.kept;
    this.canvasWidth = Math.max(1, canvasWidth);
    this.canvasHeight = Math.max(1, canvasHeight);
    if (this.fitted) {
      this.fit();
    } else {
      this.pixelsPerCell = this.limited(this.pixelsPerCell);
      this.centerOn(centerX, centerY);
    }
  }

  /** Shows the whole map. */
  fit(): void {
    this.pixelsPerCell = this.fitScale();
    this.fitted = true;
    this.centerOn(this.width / 2, this.height / 2);
  }

  private fitScale(): number {
    const fitting = Math.min(this.canvasWidth / this.width, this.canvasHeight / this.height) * FIT;
    return Math.min(fitting, LARGEST_CELL * this.pixelRatio);
  }

  private limited(scale: number): number {
    return Math.min(Math.max(scale, this.fitScale()), LARGEST_CELL * this.pixelRatio);
  }

  /** Zooms by a factor; the point of the map under the given pixel stays there. */
  zoomAt(pixelX: number, pixelY: number, factor: number): void {
    const cellX = this.left + pixelX / this.pixelsPerCell;
    const cellY = this.top + pixelY / this.pixelsPerCell;
    const smallest = this.fitScale();
    const scale = this.limited(this.pixelsPerCell * factor);
    if (scale <= smallest) {
      this.fit();
      return;
    }
    this.fitted = false;
    this.pixelsPerCell = scale;
    this.left = cellX - pixelX / scale;
    this.top = cellY - pixelY / scale;
    this.clamp();
  }

  zoomAtCenter(factor: number): void {
    this.zoomAt(this.canvasWidth / 2, this.canvasHeight / 2, factor);
  }

  panBy(pixelsX: number, pixelsY: number): void {
    this.fitted = false;
    this.left += pixelsX / this.pixelsPerCell;
    this.top += pixelsY / this.pixelsPerCell;
    this.clamp();
  }

  centerOn(cellX: number, cellY: number): void {
    this.left = cellX - this.canvasWidth / this.pixelsPerCell / 2;
    this.top = cellY - this.canvasHeight / this.pixelsPerCell / 2;
    this.clamp();
  }

  /** Makes one cell of level 0 visible, at least `smallest` device pixels large, and moves no more than that takes. */
  reveal(cellX: number, cellY: number, smallest: number): void {
    if (this.pixelsPerCell < Math.min(smallest, LARGEST_CELL * this.pixelRatio)) {
      this.fitted = false;
      this.pixelsPerCell = this.limited(smallest);
      this.centerOn(cellX + 0.5, cellY + 0.5);
      return;
    }
    this.keepInside(cellX, cellY, 1);
  }

  /** Scrolls just so far that a cell of some level is wholly inside the canvas. */
  keepInside(cellX: number, cellY: number, side: number): void {
    const spanX = this.canvasWidth / this.pixelsPerCell;
    const spanY = this.canvasHeight / this.pixelsPerCell;
    const left = Math.max(Math.min(this.left, cellX), cellX + side - spanX);
    const top = Math.max(Math.min(this.top, cellY), cellY + side - spanY);
    if (left !== this.left || top !== this.top) {
      this.fitted = false;
      this.left = left;
      this.top = top;
      this.clamp();
    }
  }

  /** Lets no more of the outside in than a map that fits has; smaller maps stay in the middle. */
  private clamp(): void {
    this.left = clampAxis(this.left, this.canvasWidth / this.pixelsPerCell, this.width);
    this.top = clampAxis(this.top, this.canvasHeight / this.pixelsPerCell, this.height);
  }

  /** The level whose cells are at least one device pixel large, and less than two unless it is level 0. */
  level(levels: number): number {
    return this.pixelsPerCell >= 1 ? 0 : Math.min(levels - 1, Math.ceil(-Math.log2(this.pixelsPerCell)));
  }

  /** The cell of a level under a pixel; null outside of the map. */
  cellAt(pixelX: number, pixelY: number, level: number): { readonly x: number; readonly y: number } | null {
    const cellX = this.left + pixelX / this.pixelsPerCell;
    const cellY = this.top + pixelY / this.pixelsPerCell;
    if (cellX < 0 || cellY < 0 || cellX >= this.width || cellY >= this.height) {
      return null;
    }
    const side = 2 ** level;
    return { x: Math.floor(cellX / side), y: Math.floor(cellY / side) };
  }

  /** Where cells of a level lie on the canvas, on whole pixels, so that neighbours meet without a seam. */
  rect(level: number, cellX: number, cellY: number, cellsWide: number, cellsHigh: number): PixelRect {
    const side = 2 ** level;
    return {
      left: Math.round((cellX * side - this.left) * this.pixelsPerCell),
      top: Math.round((cellY * side - this.top) * this.pixelsPerCell),
      right: Math.round(((cellX + cellsWide) * side - this.left) * this.pixelsPerCell),
      bottom: Math.round(((cellY + cellsHigh) * side - this.top) * this.pixelsPerCell),
    };
  }

  /** What of a level is visible, in units of `cells` cells (1: cells, 256: tiles), no further than the map goes. */
  visible(level: number, cells: number): TileRange {
    const side = 2 ** level * cells;
    const right = this.left + this.canvasWidth / this.pixelsPerCell;
    const bottom = this.top + this.canvasHeight / this.pixelsPerCell;
    return {
      left: Math.max(0, Math.floor(this.left / side)),
      top: Math.max(0, Math.floor(this.top / side)),
      right: Math.max(0, Math.ceil(Math.min(right, this.width) / side)),
      bottom: Math.max(0, Math.ceil(Math.min(bottom, this.height) / side)),
    };
  }
}

function clampAxis(start: number, span: number, length: number): number {
  if (span * FIT >= length) {
    return (length - span) / 2;
  }
  const margin = (span * (1 - FIT)) / 2;
  return Math.min(Math.max(start, -margin), length + margin - span);
}
