/*
 * The Hilbert curve, top down: a square is four quadrants in the order of the curve, each of them the same curve turned. A turn is one of
 * four: nothing (0), x and y swapped (1), both counted from the other end (2), or both (3); turning again is exclusive or. Since the
 * description begins with the whole square, four consecutive cells are always the four quarters of one cell of the next coarser picture.
 */

export type Turn = 0 | 1 | 2 | 3;

/** Turn of each quadrant against its square. */
const QUADRANT_TURN = [1, 0, 0, 3] as const;
/** Where the quadrants lie in a square that is not turned. */
const QUADRANT_X = [0, 0, 1, 1] as const;
const QUADRANT_Y = [0, 1, 1, 0] as const;

export interface CurvePoint {
  readonly x: number;
  readonly y: number;
  /** How the cell itself is turned: which way the curve runs inside it. */
  readonly turn: Turn;
}

/** Cell at position `index` (0 to 4^levels - 1, at most 2^52) of the curve through a square of 2^levels cells a side. */
export function hilbertPoint(index: number, levels: number): CurvePoint {
  let turn = 0;
  let x = 0;
  let y = 0;
  for (let level = levels - 1; level >= 0; level--) {
    const quadrant = Math.floor(index / 4 ** level) % 4;
    const flip = turn >>> 1;
    const inX = QUADRANT_X[quadrant]! ^ flip;
    const inY = QUADRANT_Y[quadrant]! ^ flip;
    const swapped = (turn & 1) === 1;
    x = x * 2 + (swapped ? inY : inX);
    y = y * 2 + (swapped ? inX : inY);
    turn ^= QUADRANT_TURN[quadrant]!;
  }
  return { x, y, turn: turn as Turn };
}

/** Position on the curve of a cell, the inverse of `hilbertPoint`. */
export function hilbertIndex(x: number, y: number, levels: number): number {
  let turn = 0;
  let index = 0;
  for (let level = levels - 1; level >= 0; level--) {
    const scale = 2 ** level;
    const flip = turn >>> 1;
    const bitX = (Math.floor(x / scale) % 2) ^ flip;
    const bitY = (Math.floor(y / scale) % 2) ^ flip;
    const swapped = (turn & 1) === 1;
    const inX = swapped ? bitY : bitX;
    const inY = swapped ? bitX : bitY;
    const quadrant = (inX * 3) ^ inY;
    index = index * 4 + quadrant;
    turn ^= QUADRANT_TURN[quadrant]!;
  }
  return index;
}

/**
 * Where the cells of a curve lie in a picture of `stride` cells a row, for a square of 2^levels cells a side (levels up to 8) that is
 * turned so: `table[position on the curve]` is y * stride + x.
 */
export function hilbertTable(levels: number, turn: Turn, stride: number): Uint16Array {
  const table = new Uint16Array(4 ** levels);
  const last = 2 ** levels - 1;
  for (let index = 0; index < table.length; index++) {
    const point = hilbertPoint(index, levels);
    const flipped = turn >>> 1 === 1;
    const x = flipped ? last - point.x : point.x;
    const y = flipped ? last - point.y : point.y;
    table[index] = (turn & 1) === 1 ? x * stride + y : y * stride + x;
  }
  return table;
}
