import type { MapOrder } from '../../protocol/inspect';
import { hilbertIndex, hilbertPoint } from './hilbert';

/** Clusters that follow each other. */
export interface ClusterSpan {
  readonly first: number;
  readonly count: number;
}

/**
 * How the clusters of an address space lie in a picture. At level 0 a cell is a cluster; a cell of level n is 2^n cells a side. Cells of
 * a level are stored by a number: along the curve (hilbert), or row by row (rowMajor), so that only those that hold clusters are stored.
 */
export class MapGeometry {
  readonly order: MapOrder;
  readonly clusters: number;
  /** Cells of level 0, powers of two, width >= height. */
  readonly width: number;
  readonly height: number;
  /** The level at which the picture is one cell. */
  readonly levels: number;

  constructor(order: MapOrder, clusters: number) {
    this.order = order;
    this.clusters = clusters;
    this.levels = Math.ceil(log2(clusters) / 2);
    this.width = 2 ** this.levels;
    this.height = order === 'hilbert' ? this.width : 2 ** log2(Math.ceil(clusters / this.width));
  }

  widthAt(level: number): number {
    return Math.max(1, this.width / 2 ** level);
  }

  heightAt(level: number): number {
    return Math.max(1, this.height / 2 ** level);
  }

  /** Number of stored cells of a level: all that hold clusters; in rowMajor order the last row is filled up. */
  cellsAt(level: number): number {
    return this.order === 'hilbert' ? Math.ceil(this.clusters / 4 ** level) : this.rowsAt(level) * this.widthAt(level);
  }

  /** Rows of a level that hold clusters. */
  rowsAt(level: number): number {
    return this.order === 'hilbert' ? this.heightAt(level) : Math.ceil(this.clusters / this.width / 2 ** level);
  }

  /** Stored number of a cell; -1 when it lies outside the picture or holds nothing. */
  cellAt(level: number, x: number, y: number): number {
    if (x < 0 || y < 0 || x >= this.widthAt(level) || y >= this.heightAt(level)) {
      return -1;
    }
    const cell = this.order === 'hilbert' ? hilbertIndex(x, y, this.levels - level) : y * this.widthAt(level) + x;
    return cell < this.cellsAt(level) ? cell : -1;
  }

  /** Level-0 cell of a cluster. */
  positionOf(cluster: number): { readonly x: number; readonly y: number } {
    if (this.order === 'hilbert') {
      const { x, y } = hilbertPoint(cluster, this.levels);
      return { x, y };
    }
    return { x: cluster % this.width, y: Math.floor(cluster / this.width) };
  }

  /**
   * The clusters of a rectangle of cells, `across` wide and `down` high, in address order: one span along the curve (the rectangle must
   * then be a square whose side is a power of two and divides x and y), one for each row of clusters otherwise.
   */
  spansOf(level: number, x: number, y: number, across = 1, down = 1): ClusterSpan[] {
    const scale = 2 ** level;
    if (this.order === 'hilbert') {
      const levelsInside = log2(across);
      const square = hilbertIndex(x / across, y / across, this.levels - level - levelsInside);
      return this.clip(square * (across * scale) ** 2, (across * scale) ** 2);
    }
    const spans: ClusterSpan[] = [];
    const columns = Math.min(across * scale, this.width - x * scale);
    const lastRow = Math.min((y + down) * scale, Math.ceil(this.clusters / this.width));
    for (let row = y * scale; row < lastRow; row++) {
      spans.push(...this.clip(row * this.width + x * scale, columns));
    }
    return spans;
  }

  private clip(first: number, count: number): ClusterSpan[] {
    const inside = Math.min(count, this.clusters - first);
    return inside > 0 ? [{ first, count: inside }] : [];
  }
}

/** Smallest n with 2^n >= value; 0 for 0 and 1. */
export function log2(value: number): number {
  let bits = 0;
  while (2 ** bits < value) {
    bits++;
  }
  return bits;
}
