import { MAP_OUTSIDE } from './classSource';

/** Aggregated cells of one level, by their stored number. */
export interface CellArrays {
  /** The class that fills most of the cell. */
  readonly dominant: Uint8Array;
  /** Share of the cell that is not class 0: 0 only when there is none, 255 when there is nothing else. */
  readonly density: Uint8Array;
  /** Bit n: class n occurs (bit 15: class 15 or higher). */
  readonly present: Uint16Array;
}

export const FULL_DENSITY = 255;

export function newCells(count: number): CellArrays {
  return { dominant: new Uint8Array(count).fill(MAP_OUTSIDE), density: new Uint8Array(count), present: new Uint16Array(count) };
}

/** The bit of a class in `present`. */
export function presentBit(value: number): number {
  return 1 << Math.min(value, 15);
}

/** Share `part` of `whole` as a density: rounded, but only nothing is 0 and only everything is 255. */
export function densityOf(part: number, whole: number): number {
  if (part === 0) {
    return 0;
  }
  return part === whole ? FULL_DENSITY : Math.min(FULL_DENSITY - 1, Math.max(1, Math.round((part * FULL_DENSITY) / whole)));
}

/** The value that occurs most among four; of two that occur equally often the one that comes first. */
export function mostFrequent(a: number, b: number, c: number, d: number): number {
  if (a === b || a === c || a === d) {
    return a;
  }
  if (b === c || b === d) {
    return b;
  }
  return c === d ? c : a;
}
