import type { MapTile } from '../../protocol/inspect';
import { FULL_DENSITY, presentBit, densityOf, type CellArrays } from './cells';
import { MAP_OUTSIDE, MAP_TILE_SIDE } from './classSource';
import { log2, type MapGeometry } from './geometry';
import { hilbertIndex, hilbertPoint, hilbertTable, type Turn } from './hilbert';
import { mostFrequentInside } from './pyramid';

const TILE_CELLS = MAP_TILE_SIDE * MAP_TILE_SIDE;
const TILE_LEVELS = log2(MAP_TILE_SIDE);

/** Which stored cells a tile shows and where: cell `first + i` (of `count`) lies at `table[i]`, row by row. */
interface CurvePiece {
  readonly first: number;
  readonly count: number;
  readonly table: Uint16Array;
}

/** A tile of the level that `cells` holds whole. */
export function tileOfCells(geometry: MapGeometry, level: number, x: number, y: number, cells: CellArrays): MapTile {
  const tile = emptyTile(level, x, y);
  if (geometry.order === 'hilbert') {
    const piece = curvePiece(geometry, level, x, y);
    placeAlongCurve(tile, piece.table, cells, piece.first, piece.count);
  } else {
    const width = geometry.widthAt(level);
    placeRows(tile, cells, width, x * MAP_TILE_SIDE, y * MAP_TILE_SIDE, width, cells.dominant.length / width);
  }
  return tile;
}

/** A tile from an area's cells alone: the tile's, as far as they lie inside the picture. */
export function tileOfArea(geometry: MapGeometry, level: number, x: number, y: number, cells: CellArrays, across: number): MapTile {
  const tile = emptyTile(level, x, y);
  if (geometry.order === 'hilbert') {
    placeAlongCurve(tile, curvePiece(geometry, level, x, y).table, cells, 0, cells.dominant.length);
  } else {
    placeRows(tile, cells, across, 0, 0, across, cells.dominant.length / across);
  }
  return tile;
}

/** A tile of level 0 or 1 from the classes of all clusters. */
export function tileOfClasses(geometry: MapGeometry, level: 0 | 1, x: number, y: number, values: Uint8Array): MapTile {
  const tile = emptyTile(level, x, y);
  if (geometry.order === 'hilbert') {
    const { first, count, table } = curvePiece(geometry, level, x, y);
    for (let i = 0; i < count; i++) {
      setCell(tile, table[i]!, level, values, (first + i) * 4 ** level, 1, 2, 3);
    }
    return tile;
  }
  const { width } = geometry;
  const scale = 2 ** level;
  const right = Math.min((x + 1) * MAP_TILE_SIDE, geometry.widthAt(level));
  const bottom = Math.min((y + 1) * MAP_TILE_SIDE, geometry.rowsAt(level));
  for (let row = y * MAP_TILE_SIDE; row < bottom; row++) {
    const at = (row % MAP_TILE_SIDE) * MAP_TILE_SIDE - x * MAP_TILE_SIDE;
    for (let column = x * MAP_TILE_SIDE; column < right; column++) {
      setCell(tile, at + column, level, values, row * scale * width + column * scale, 1, width, width + 1);
    }
  }
  return tile;
}

/** Values by class, so that a tile of single clusters is three lookups a cell. */
const PRESENT = Uint16Array.from({ length: 256 }, (_, value) => (value === MAP_OUTSIDE ? 0 : presentBit(value)));
const DENSITY = Uint8Array.from({ length: 256 }, (_, value) => (value === MAP_OUTSIDE || value === 0 ? 0 : FULL_DENSITY));

function setCell(tile: MapTile, at: number, level: 0 | 1, values: Uint8Array, first: number, b: number, c: number, d: number): void {
  const value = values[first]!;
  if (level === 0) {
    tile.dominant[at] = value;
    tile.present[at] = PRESENT[value]!;
    tile.density[at] = DENSITY[value]!;
    return;
  }
  const second = values[first + b]!;
  const third = values[first + c]!;
  const fourth = values[first + d]!;
  tile.dominant[at] = mostFrequentInside(value, second, third, fourth);
  tile.present[at] = PRESENT[value]! | PRESENT[second]! | PRESENT[third]! | PRESENT[fourth]!;
  const inside = (value < 255 ? 1 : 0) + (second < 255 ? 1 : 0) + (third < 255 ? 1 : 0) + (fourth < 255 ? 1 : 0);
  tile.density[at] = densityOf(DENSITY[value]! + DENSITY[second]! + DENSITY[third]! + DENSITY[fourth]!, inside * FULL_DENSITY);
}

export function emptyTile(level: number, x: number, y: number): MapTile {
  return {
    level,
    x,
    y,
    dominant: new Uint8Array(TILE_CELLS).fill(MAP_OUTSIDE),
    present: new Uint16Array(TILE_CELLS),
    density: new Uint8Array(TILE_CELLS),
  };
}

const tables = new Map<Turn, Uint16Array>();

function curvePiece(geometry: MapGeometry, level: number, x: number, y: number): CurvePiece {
  const cells = geometry.cellsAt(level);
  const levels = geometry.levels - level;
  if (levels <= TILE_LEVELS) {
    return { first: 0, count: x === 0 && y === 0 ? cells : 0, table: hilbertTable(levels, 0, MAP_TILE_SIDE) };
  }
  const square = hilbertIndex(x, y, levels - TILE_LEVELS);
  const { turn } = hilbertPoint(square, levels - TILE_LEVELS);
  const table = tables.get(turn) ?? hilbertTable(TILE_LEVELS, turn, MAP_TILE_SIDE);
  tables.set(turn, table);
  const inside = x < 2 ** (levels - TILE_LEVELS) && y < 2 ** (levels - TILE_LEVELS);
  const first = square * TILE_CELLS;
  return { first, count: inside ? Math.max(0, Math.min(TILE_CELLS, cells - first)) : 0, table };
}

function placeAlongCurve(tile: MapTile, table: Uint16Array, cells: CellArrays, first: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const at = table[i]!;
    tile.dominant[at] = cells.dominant[first + i]!;
    tile.present[at] = cells.present[first + i]!;
    tile.density[at] = cells.density[first + i]!;
  }
}

/** Copies what lies inside from a picture of `width` cells a row to the tile's upper left corner on. */
function placeRows(tile: MapTile, cells: CellArrays, stride: number, left: number, top: number, width: number, height: number): void {
  const across = Math.min(MAP_TILE_SIDE, width - left);
  const down = Math.min(MAP_TILE_SIDE, height - top);
  for (let row = 0; row < down && across > 0; row++) {
    const from = (top + row) * stride + left;
    tile.dominant.set(cells.dominant.subarray(from, from + across), row * MAP_TILE_SIDE);
    tile.present.set(cells.present.subarray(from, from + across), row * MAP_TILE_SIDE);
    tile.density.set(cells.density.subarray(from, from + across), row * MAP_TILE_SIDE);
  }
}
