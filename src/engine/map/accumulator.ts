import { densityOf, FULL_DENSITY, newCells, presentBit, type CellArrays } from './cells';
import type { ClassSink } from './classSource';
import type { MapGeometry } from './geometry';

/** A rectangle of cells; along a curve a square as `MapGeometry.spansOf` wants it. */
export interface CellArea {
  readonly x: number;
  readonly y: number;
  readonly across: number;
  readonly down: number;
}

/** Is told the exact counts of every cell that is complete, by its number in the area. */
export interface CountListener {
  /** One cell: `counts[at + class]` clusters of each class. */
  cell(cell: number, counts: Uint32Array, at: number): void;
  /** `count` cells from `first` on, each with `clusters` clusters of one class. */
  cells(first: number, count: number, value: number, clusters: number): void;
}

/**
 * Aggregates classes into the cells of one level, without keeping the classes: for maps that are too large for a byte a cluster. Clusters
 * must come in address order; between those of the area there may be gaps.
 */
export abstract class CellAccumulator implements ClassSink {
  readonly cells: CellArrays;
  protected readonly classCount: number;
  private readonly listener: CountListener | null;

  protected constructor(cells: number, classCount: number, listener: CountListener | null) {
    this.cells = newCells(cells);
    this.classCount = classCount;
    this.listener = listener;
  }

  abstract classes(first: number, values: Uint8Array, count: number): void;
  abstract fill(first: number, count: number, value: number): void;
  /** Completes the cells that are still being counted. */
  abstract finish(): void;

  /** Aggregates one cell's counts and clears them. */
  protected complete(cell: number, counts: Uint32Array, at: number): void {
    let total = 0;
    let most = 0;
    let mask = 0;
    for (let value = 0; value < this.classCount; value++) {
      const count = counts[at + value]!;
      if (count > 0) {
        total += count;
        mask |= presentBit(value);
        most = count > counts[at + most]! ? value : most;
      }
    }
    if (total > 0) {
      this.cells.dominant[cell] = most;
      this.cells.density[cell] = densityOf(total - counts[at]!, total);
      this.cells.present[cell] = mask;
      this.listener?.cell(cell, counts, at);
      counts.fill(0, at, at + this.classCount);
    }
  }

  /** Sets whole cells of one class. */
  protected set(first: number, count: number, value: number, clusters: number): void {
    this.cells.dominant.fill(value, first, first + count);
    this.cells.density.fill(value === 0 ? 0 : FULL_DENSITY, first, first + count);
    this.cells.present.fill(presentBit(value), first, first + count);
    this.listener?.cells(first, count, value, clusters);
  }
}

export function newAccumulator(
  geometry: MapGeometry,
  level: number,
  area: CellArea,
  classCount: number,
  listener: CountListener | null = null,
): CellAccumulator {
  return geometry.order === 'hilbert'
    ? new CurveAccumulator(geometry, level, area, classCount, listener)
    : new RowAccumulator(geometry, level, area, classCount, listener);
}

/** The whole of a level. */
export function wholeLevel(geometry: MapGeometry, level: number): CellArea {
  return { x: 0, y: 0, across: geometry.widthAt(level), down: geometry.rowsAt(level) };
}

/** Along the curve a cell's clusters follow each other: one cell is counted at a time. */
class CurveAccumulator extends CellAccumulator {
  private readonly perCell: number;
  private readonly firstCell: number;
  private readonly counts: Uint32Array;
  private current = -1;

  constructor(geometry: MapGeometry, level: number, area: CellArea, classCount: number, listener: CountListener | null) {
    const [span] = geometry.spansOf(level, area.x, area.y, area.across, area.down);
    const perCell = 4 ** level;
    super(span ? Math.ceil(span.count / perCell) : 0, classCount, listener);
    this.perCell = perCell;
    this.firstCell = span ? span.first / perCell : 0;
    this.counts = new Uint32Array(classCount);
  }

  classes(first: number, values: Uint8Array, count: number): void {
    const { counts } = this;
    for (let i = 0; i < count;) {
      const end = Math.min(count, i + this.enter(first + i));
      for (; i < end; i++) {
        counts[values[i]!]!++;
      }
    }
  }

  fill(first: number, count: number, value: number): void {
    const { perCell } = this;
    for (let at = first, left = count; left > 0;) {
      if (at % perCell === 0 && left >= perCell) {
        this.finish();
        const whole = Math.floor(left / perCell);
        this.set(at / perCell - this.firstCell, whole, value, perCell);
        at += whole * perCell;
        left -= whole * perCell;
      } else {
        const piece = Math.min(left, this.enter(at));
        this.counts[value]! += piece;
        at += piece;
        left -= piece;
      }
    }
  }

  finish(): void {
    if (this.current >= 0) {
      this.complete(this.current - this.firstCell, this.counts, 0);
      this.current = -1;
    }
  }

  /** Turns to a cluster's cell and returns how many clusters of it are left from there on. */
  private enter(cluster: number): number {
    const cell = Math.floor(cluster / this.perCell);
    if (cell !== this.current) {
      this.finish();
      this.current = cell;
    }
    return (cell + 1) * this.perCell - cluster;
  }
}

/** Row by row a cell's clusters lie in 2^level rows: one row of cells is counted at a time. */
class RowAccumulator extends CellAccumulator {
  private readonly width: number;
  private readonly level: number;
  private readonly area: CellArea;
  private readonly counts: Uint32Array;
  private currentRow = -1;

  constructor(geometry: MapGeometry, level: number, area: CellArea, classCount: number, listener: CountListener | null) {
    super(area.across * area.down, classCount, listener);
    this.width = geometry.width;
    this.level = level;
    this.area = area;
    this.counts = new Uint32Array(area.across * classCount);
  }

  classes(first: number, values: Uint8Array, count: number): void {
    const { counts, classCount, level } = this;
    const { x: left } = this.area;
    for (let i = 0; i < count;) {
      const column = (first + i) % this.width;
      const end = Math.min(count, i + this.width - column);
      this.enter((first + i - column) / this.width);
      for (let x = column; i < end; i++, x++) {
        counts[((x >>> level) - left) * classCount + values[i]!]!++;
      }
    }
  }

  fill(first: number, count: number, value: number): void {
    const { counts, classCount, level, width, area } = this;
    const scale = 2 ** level;
    for (let at = first, rest = count; rest > 0;) {
      const column = at % width;
      const row = (at - column) / width;
      if (column === 0 && row % scale === 0 && rest >= width * scale && area.across * scale === width) {
        this.finish();
        const whole = Math.floor(rest / (width * scale));
        this.set((row / scale - area.y) * area.across, whole * area.across, value, scale * scale);
        at += whole * width * scale;
        rest -= whole * width * scale;
        continue;
      }
      this.enter(row);
      const end = Math.min(width, column + rest);
      for (let x = column; x < end;) {
        const cell = x >>> level;
        const stop = Math.min(end, (cell + 1) * scale);
        counts[(cell - area.x) * classCount + value]! += stop - x;
        x = stop;
      }
      at += end - column;
      rest -= end - column;
    }
  }

  finish(): void {
    if (this.currentRow >= 0) {
      const first = (this.currentRow - this.area.y) * this.area.across;
      for (let x = 0; x < this.area.across; x++) {
        this.complete(first + x, this.counts, x * this.classCount);
      }
      this.currentRow = -1;
    }
  }

  private enter(row: number): void {
    const cellRow = Math.floor(row / 2 ** this.level);
    if (cellRow !== this.currentRow) {
      this.finish();
      this.currentRow = cellRow;
    }
  }
}
