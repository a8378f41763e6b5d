import type { MapOrder, MapTile } from '../../protocol/inspect';
import type { Pace } from '../pace';
import { newAccumulator, wholeLevel, type CountListener } from './accumulator';
import type { CellArrays } from './cells';
import { ClassArray, ClassCounter, MAP_OUTSIDE, MAP_TILE_SIDE, type ClassSource } from './classSource';
import { MapGeometry } from './geometry';
import { FIRST_STORED_LEVEL, paddedLength, reduceClasses, reduceLevel } from './pyramid';
import { tileOfArea, tileOfCells, tileOfClasses } from './tiles';

/** Up to so many clusters are kept as one byte each: a disk of 1 TiB in clusters of 64 KiB, and a file that holds one and its metadata. */
export const MOST_CLUSTERS = 2 ** 24 + 2 ** 22;

/** What a map of more clusters keeps. */
export interface LargeLimits {
  /** Cells at the finest stored level. */
  readonly cells: number;
  /** Numbers in the table of exact counts. */
  readonly counts: number;
}

const LARGE_LIMITS: LargeLimits = { cells: 2 ** 22, counts: 2 ** 20 };

/** A map laid out in one order, ready to be shown. */
export interface Picture {
  readonly geometry: MapGeometry;
  /** Clusters of each class in the whole map. */
  readonly counts: Float64Array;
  tile(level: number, x: number, y: number, pace: Pace): Promise<MapTile>;
  /** Clusters of each class in a cell. */
  cellCounts(level: number, x: number, y: number, pace: Pace): Promise<Float64Array>;
}

/** The classes of all clusters, for maps that are small enough, and the pictures that were made from them. */
export class ClassTable {
  /** One byte a cluster, padded for `reduceClasses`. */
  readonly values: Uint8Array<ArrayBuffer>;
  readonly counts: Float64Array;
  private readonly clusters: number;
  private readonly pictures = new Map<MapOrder, WholePicture>();

  private constructor(values: Uint8Array<ArrayBuffer>, clusters: number) {
    const counter = new ClassCounter();
    counter.classes(0, values, clusters);
    this.values = values;
    this.counts = counter.counts;
    this.clusters = clusters;
  }

  /** @throws EngineError `cancelled`, `file.io` */
  static async read(source: ClassSource, pace: Pace): Promise<ClassTable> {
    const values = new Uint8Array(paddedLength(source.clusters)).fill(MAP_OUTSIDE, source.clusters);
    await source.scan(0, source.clusters, new ClassArray(0, values), pace);
    return new ClassTable(values, source.clusters);
  }

  /** Bytes held in memory, pictures and all. */
  get bytes(): number {
    let sum = this.values.length;
    for (const { ownBytes } of this.pictures.values()) {
      sum += ownBytes;
    }
    return sum;
  }

  /** The picture in an order; the first time it takes some tens of milliseconds. */
  picture(order: MapOrder): WholePicture {
    let picture = this.pictures.get(order);
    if (!picture) {
      picture = new WholePicture(this.values, this.counts, new MapGeometry(order, this.clusters));
      this.pictures.set(order, picture);
    }
    return picture;
  }
}

export class WholePicture implements Picture {
  readonly geometry: MapGeometry;
  readonly counts: Float64Array;
  /** Bytes held in memory besides the classes. */
  readonly ownBytes: number;
  private readonly values: Uint8Array<ArrayBuffer>;
  /** Levels from FIRST_STORED_LEVEL on. */
  private readonly stored: readonly CellArrays[];

  constructor(values: Uint8Array<ArrayBuffer>, counts: Float64Array, geometry: MapGeometry) {
    this.geometry = geometry;
    this.values = values;
    this.counts = counts;
    this.stored = geometry.levels < FIRST_STORED_LEVEL ? [] : coarserLevels(reduceClasses(values, geometry), geometry, FIRST_STORED_LEVEL);
    this.ownBytes = bytesOf(this.stored);
  }

  tile(level: number, x: number, y: number): Promise<MapTile> {
    const cells = this.stored[level - FIRST_STORED_LEVEL];
    return Promise.resolve(
      cells ? tileOfCells(this.geometry, level, x, y, cells) : tileOfClasses(this.geometry, level === 0 ? 0 : 1, x, y, this.values),
    );
  }

  cellCounts(level: number, x: number, y: number): Promise<Float64Array> {
    const counter = new ClassCounter();
    for (const { first, count } of this.geometry.spansOf(level, x, y)) {
      counter.classes(first, this.values.subarray(first, first + count), count);
    }
    return Promise.resolve(counter.counts);
  }
}

/**
 * A map of more clusters than are kept: cells of 4^n clusters are stored, finer ones are made from the tables when they are looked at.
 */
export class LargePicture implements Picture {
  readonly geometry: MapGeometry;
  readonly bytes: number;
  readonly counts: Float64Array;
  private readonly source: ClassSource;
  private readonly firstLevel: number;
  private readonly stored: readonly CellArrays[];
  private readonly exact: ExactCounts;

  private constructor(source: ClassSource, geometry: MapGeometry, firstLevel: number, cells: CellArrays, exact: ExactCounts) {
    this.geometry = geometry;
    this.source = source;
    this.firstLevel = firstLevel;
    this.stored = coarserLevels(cells, geometry, firstLevel);
    this.exact = exact;
    this.counts = exact.total();
    this.bytes = bytesOf(this.stored) + exact.bytes;
  }

  /** @throws EngineError `cancelled`, `file.io` */
  static async make(source: ClassSource, geometry: MapGeometry, pace: Pace, limits = LARGE_LIMITS): Promise<LargePicture> {
    const firstLevel = firstLevelOf(geometry, limits.cells);
    const exact = new ExactCounts(geometry, firstLevel, source.classes.length, limits.counts);
    const accumulator = newAccumulator(geometry, firstLevel, wholeLevel(geometry, firstLevel), source.classes.length, exact);
    await source.scan(0, source.clusters, accumulator, pace);
    accumulator.finish();
    return new LargePicture(source, geometry, firstLevel, accumulator.cells, exact);
  }

  async tile(level: number, x: number, y: number, pace: Pace): Promise<MapTile> {
    const { geometry, source } = this;
    const cells = this.stored[level - this.firstLevel];
    if (cells) {
      return tileOfCells(geometry, level, x, y, cells);
    }
    const left = x * MAP_TILE_SIDE;
    const top = y * MAP_TILE_SIDE;
    const across = Math.min(MAP_TILE_SIDE, geometry.widthAt(level) - left);
    const down = Math.min(MAP_TILE_SIDE, geometry.rowsAt(level) - top);
    if (across <= 0 || down <= 0) {
      return tileOfArea(geometry, level, 0, 0, { dominant: new Uint8Array(0), density: new Uint8Array(0), present: new Uint16Array(0) }, 1);
    }
    const area = { x: left, y: top, across, down };
    const accumulator = newAccumulator(geometry, level, area, source.classes.length);
    for (const { first, count } of geometry.spansOf(level, left, top, across, down)) {
      await source.scan(first, first + count, accumulator, pace);
    }
    accumulator.finish();
    return tileOfArea(geometry, level, x, y, accumulator.cells, across);
  }

  async cellCounts(level: number, x: number, y: number, pace: Pace): Promise<Float64Array> {
    if (level >= this.exact.level) {
      return this.exact.of(level, x, y);
    }
    const counter = new ClassCounter();
    for (const { first, count } of this.geometry.spansOf(level, x, y)) {
      await this.source.scan(first, first + count, counter, pace);
    }
    return counter.counts;
  }
}

/** The finest level that a large map stores. */
function firstLevelOf(geometry: MapGeometry, mostCells: number): number {
  let level = 0;
  while (geometry.cellsAt(level) > mostCells) {
    level++;
  }
  return level;
}

/** Exact counts of each class, at the finest level for which they fit. */
class ExactCounts implements CountListener {
  readonly level: number;
  private readonly geometry: MapGeometry;
  private readonly classCount: number;
  private readonly counts: Float64Array;
  private readonly finer: number;
  private readonly finerWidth: number;
  private readonly width: number;

  constructor(geometry: MapGeometry, finerLevel: number, classCount: number, mostCounts: number) {
    let level = finerLevel;
    while (geometry.cellsAt(level) * classCount > mostCounts && level < geometry.levels) {
      level++;
    }
    this.level = level;
    this.geometry = geometry;
    this.classCount = classCount;
    this.counts = new Float64Array(geometry.cellsAt(level) * classCount);
    this.finer = level - finerLevel;
    this.finerWidth = geometry.widthAt(finerLevel);
    this.width = geometry.widthAt(level);
  }

  get bytes(): number {
    return this.counts.byteLength;
  }

  cell(cell: number, counts: Uint32Array, at: number): void {
    const base = this.parent(cell) * this.classCount;
    for (let value = 0; value < this.classCount; value++) {
      this.counts[base + value]! += counts[at + value]!;
    }
  }

  cells(first: number, count: number, value: number, clusters: number): void {
    for (let cell = first; cell < first + count;) {
      // Cells up to the next border of a parent share it.
      const unit = this.geometry.order === 'hilbert' ? 4 ** this.finer : Math.min(2 ** this.finer, this.finerWidth);
      const end = Math.min(first + count, cell - (cell % unit) + unit);
      this.counts[this.parent(cell) * this.classCount + value]! += (end - cell) * clusters;
      cell = end;
    }
  }

  of(level: number, x: number, y: number): Float64Array {
    const result = new Float64Array(MAP_OUTSIDE + 1);
    const scale = 2 ** (level - this.level);
    const right = Math.min((x + 1) * scale, this.width);
    const bottom = Math.min((y + 1) * scale, this.geometry.rowsAt(this.level));
    for (let row = y * scale; row < bottom; row++) {
      for (let column = x * scale; column < right; column++) {
        this.add(result, this.geometry.cellAt(this.level, column, row));
      }
    }
    return result;
  }

  total(): Float64Array {
    const result = new Float64Array(MAP_OUTSIDE + 1);
    for (let cell = 0; cell * this.classCount < this.counts.length; cell++) {
      this.add(result, cell);
    }
    return result;
  }

  private add(result: Float64Array, cell: number): void {
    for (let value = 0; cell >= 0 && value < this.classCount; value++) {
      result[value]! += this.counts[cell * this.classCount + value]!;
    }
  }

  private parent(cell: number): number {
    if (this.geometry.order === 'hilbert') {
      return Math.floor(cell / 4 ** this.finer);
    }
    const x = cell % this.finerWidth;
    const y = (cell - x) / this.finerWidth;
    return Math.floor(y / 2 ** this.finer) * this.width + Math.floor(x / 2 ** this.finer);
  }
}

function coarserLevels(first: CellArrays, geometry: MapGeometry, level: number): CellArrays[] {
  const levels = [first];
  let last = first;
  for (let next = level + 1; next <= geometry.levels; next++) {
    last = reduceLevel(last, geometry, next);
    levels.push(last);
  }
  return levels;
}

function bytesOf(levels: readonly CellArrays[]): number {
  return levels.reduce((sum, { dominant }) => sum + dominant.length * 4, 0);
}
