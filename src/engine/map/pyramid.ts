import { densityOf, FULL_DENSITY, mostFrequent, newCells, type CellArrays } from './cells';
import { MAP_OUTSIDE } from './classSource';
import type { MapGeometry } from './geometry';

/** The finest level that is stored when every cluster's class is in memory; the two below are as fast to make from those as to copy. */
export const FIRST_STORED_LEVEL = 2;

/** Bytes that an array of classes for `reduceClasses` must have: whole blocks of 4 x 4 cells, what is outside the map set to MAP_OUTSIDE. */
export function paddedLength(clusters: number): number {
  // In rowMajor order a block of rows may be cut by the end of the map.
  return Math.ceil(clusters / 16) * 16 + 4 * ROW_LIMIT;
}

/** Width of the largest map whose classes are all in memory. */
const ROW_LIMIT = 8192;

/**
 * Makes the cells of FIRST_STORED_LEVEL from the classes of all clusters: each from 16 of them, in two steps of four. This is the loop
 * that the time to the first picture of a large image is spent in; uniform blocks, the most, cost four comparisons.
 */
export function reduceClasses(values: Uint8Array<ArrayBuffer>, geometry: MapGeometry): CellArrays {
  const cells = newCells(geometry.cellsAt(FIRST_STORED_LEVEL));
  const words = new Int32Array(values.buffer, values.byteOffset, values.length >>> 2);
  const { width } = geometry;
  const hilbert = geometry.order === 'hilbert';
  const across = hilbert ? cells.dominant.length : geometry.widthAt(FIRST_STORED_LEVEL);
  const rows = across === 0 ? 0 : cells.dominant.length / across;
  // Offsets of a block's four words of four neighbours, of its four quarters, and of the four cells of a quarter.
  const [w1, w2, w3] = hilbert ? [1, 2, 3] : [width / 4, width / 2, (3 * width) / 4];
  const [g1, g2, g3] = hilbert ? [4, 8, 12] : [2, 2 * width, 2 * width + 2];
  const [c1, c2, c3] = hilbert ? [1, 2, 3] : [1, width, width + 1];
  const { dominant, density, present } = cells;
  const stride = hilbert ? 16 : 4;
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < across; x++) {
      const at = row * 4 * width * (hilbert ? 0 : 1) + x * stride;
      const cell = row * across + x;
      const word = words[at >>> 2]!;
      const a = values[at]!;
      if (
        word === Math.imul(a, 0x01010101) &&
        word === words[(at >>> 2) + w1]! &&
        word === words[(at >>> 2) + w2]! &&
        word === words[(at >>> 2) + w3]!
      ) {
        if (a !== MAP_OUTSIDE) {
          dominant[cell] = a;
          density[cell] = a === 0 ? 0 : FULL_DENSITY;
          present[cell] = a < 15 ? 1 << a : 0x8000;
        }
        continue;
      }
      let mask = 0;
      let filled = 0;
      let inside = 0;
      for (let i = 0; i < 16; i++) {
        const quarter = i >>> 2;
        const corner = i & 3;
        const value =
          values[
            at +
              (quarter === 0 ? 0 : quarter === 1 ? g1 : quarter === 2 ? g2 : g3) +
              (corner === 0 ? 0 : corner === 1 ? c1 : corner === 2 ? c2 : c3)
          ]!;
        if (value !== MAP_OUTSIDE) {
          inside++;
          filled += value === 0 ? 0 : 1;
          mask |= value < 15 ? 1 << value : 0x8000;
        }
      }
      const first = mostFrequentInside(values[at]!, values[at + c1]!, values[at + c2]!, values[at + c3]!);
      const second = mostFrequentInside(values[at + g1]!, values[at + g1 + c1]!, values[at + g1 + c2]!, values[at + g1 + c3]!);
      const third = mostFrequentInside(values[at + g2]!, values[at + g2 + c1]!, values[at + g2 + c2]!, values[at + g2 + c3]!);
      const fourth = mostFrequentInside(values[at + g3]!, values[at + g3 + c1]!, values[at + g3 + c2]!, values[at + g3 + c3]!);
      dominant[cell] = mostFrequentInside(first, second, third, fourth);
      density[cell] = densityOf(filled, inside);
      present[cell] = mask;
    }
  }
  return cells;
}

/** Like `mostFrequent`, of those that are inside the map. */
export function mostFrequentInside(a: number, b: number, c: number, d: number): number {
  if (a !== MAP_OUTSIDE && b !== MAP_OUTSIDE && c !== MAP_OUTSIDE && d !== MAP_OUTSIDE) {
    return mostFrequent(a, b, c, d);
  }
  const inside = [a, b, c, d].filter((value) => value !== MAP_OUTSIDE);
  const [p = MAP_OUTSIDE, q = p, r = p] = inside;
  return inside.length === 3 && q === r ? q : p;
}

/** Makes the next coarser level: a cell from its four quarters, as far as they hold clusters. */
export function reduceLevel(finer: CellArrays, geometry: MapGeometry, level: number): CellArrays {
  const cells = newCells(geometry.cellsAt(level));
  const count = finer.dominant.length;
  if (geometry.order === 'hilbert') {
    for (let cell = 0; cell < cells.dominant.length; cell++) {
      combine(cells, cell, finer, cell * 4, cell * 4 + 1, cell * 4 + 2, cell * 4 + 3, count);
    }
    return cells;
  }
  const width = geometry.widthAt(level);
  const finerWidth = geometry.widthAt(level - 1);
  for (let cell = 0; cell < cells.dominant.length; cell++) {
    const x = cell % width;
    const first = ((cell - x) / width) * 2 * finerWidth + x * 2;
    combine(cells, cell, finer, first, first + 1, first + finerWidth, first + finerWidth + 1, count);
  }
  return cells;
}

/** Children at or past `count` hold nothing. */
function combine(cells: CellArrays, cell: number, finer: CellArrays, a: number, b: number, c: number, d: number, count: number): void {
  let sum = 0;
  let inside = 0;
  let mask = 0;
  for (let i = 0; i < 4; i++) {
    const child = i === 0 ? a : i === 1 ? b : i === 2 ? c : d;
    if (child < count && finer.dominant[child] !== MAP_OUTSIDE) {
      sum += finer.density[child]!;
      mask |= finer.present[child]!;
      inside++;
    }
  }
  cells.dominant[cell] = mostFrequentInside(
    a < count ? finer.dominant[a]! : MAP_OUTSIDE,
    b < count ? finer.dominant[b]! : MAP_OUTSIDE,
    c < count ? finer.dominant[c]! : MAP_OUTSIDE,
    d < count ? finer.dominant[d]! : MAP_OUTSIDE,
  );
  cells.density[cell] = densityOf(sum, inside * FULL_DENSITY);
  cells.present[cell] = mask;
}
