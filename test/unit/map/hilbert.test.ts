import { describe, expect, it } from 'vitest';

import { hilbertIndex, hilbertPoint, hilbertTable, type Turn } from '../../../src/engine/map/hilbert';
import { Random } from '../../interop/random';

describe('the Hilbert curve', () => {
  it.each([0, 1, 2, 3, 4, 6])('visits every cell of a square of 2^%i a side once, each next to the one before', (levels) => {
    const side = 2 ** levels;
    const seen = new Set<number>();
    let before: { x: number; y: number } | null = null;
    for (let index = 0; index < side * side; index++) {
      const { x, y } = hilbertPoint(index, levels);
      expect(x >= 0 && y >= 0 && x < side && y < side).toBe(true);
      expect(hilbertIndex(x, y, levels)).toBe(index);
      if (before) {
        expect(Math.abs(x - before.x) + Math.abs(y - before.y)).toBe(1);
      }
      seen.add(y * side + x);
      before = { x, y };
    }
    expect(seen.size).toBe(side * side);
  });

  it('has four consecutive cells in each cell of the next coarser square', () => {
    for (let index = 0; index < 4 ** 5; index++) {
      const fine = hilbertPoint(index, 5);
      const coarse = hilbertPoint(Math.floor(index / 4), 4);
      expect([fine.x >> 1, fine.y >> 1]).toEqual([coarse.x, coarse.y]);
    }
  });

  it('finds its way back from positions up to 2^52', () => {
    const random = new Random(5);
    for (let round = 0; round < 500; round++) {
      const index = random.below(4 ** 26);
      const { x, y } = hilbertPoint(index, 26);
      expect(hilbertIndex(x, y, 26)).toBe(index);
    }
  });

  it('gives the squares inside a square by four tables', () => {
    const tables = ([0, 1, 2, 3] satisfies Turn[]).map((turn) => hilbertTable(3, turn, 256));
    for (let square = 0; square < 4 ** 3; square++) {
      const corner = hilbertPoint(square, 3);
      const table = tables[corner.turn]!;
      for (let inside = 0; inside < 64; inside++) {
        const { x, y } = hilbertPoint(square * 64 + inside, 6);
        expect(table[inside]).toBe((y - corner.y * 8) * 256 + x - corner.x * 8);
      }
    }
  });
});
