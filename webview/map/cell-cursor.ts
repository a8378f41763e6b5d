import type { Cell } from './draw';
import type { MapViewport } from './viewport';

/* The cursor that arrow keys move over a map, cell by cell of the level that is shown. */

/**
 * The cursor at the level that is shown; in the middle of what is seen when there was none.
 * @param isOutside whether a cell lies in the part of the square that the map does not fill
 */
export function cursorAt(cursor: Cell | null, level: number, viewport: MapViewport, isOutside: (cell: Cell) => boolean): Cell {
  if (cursor !== null) {
    const factor = 2 ** (level - cursor.level);
    return { level, x: Math.floor(cursor.x / factor), y: Math.floor(cursor.y / factor) };
  }
  const { centerX, centerY } = viewport.kept;
  const side = 2 ** level;
  const inside = (at: number, length: number): number => Math.floor(Math.min(Math.max(at, 0), length - 1) / side);
  const middle = { level, x: inside(centerX, viewport.width), y: inside(centerY, viewport.height) };
  return isOutside(middle) ? { level, x: 0, y: 0 } : middle;
}

/** The cell that lies so many cells to the right and below, or the last one before the edge of the map. */
export function neighbour({ level, x, y }: Cell, right: number, down: number, { width, height }: MapViewport): Cell {
  const side = 2 ** level;
  return {
    level,
    x: Math.min(Math.ceil(width / side) - 1, Math.max(0, x + right)),
    y: Math.min(Math.ceil(height / side) - 1, Math.max(0, y + down)),
  };
}
