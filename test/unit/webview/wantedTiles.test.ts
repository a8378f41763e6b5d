import { describe, expect, it } from 'vitest';
import { cursorAt, neighbour } from '../../../webview/map/cell-cursor';
import { MapViewport } from '../../../webview/map/viewport';
import { baseLevel, visibleTiles, wantedTiles } from '../../../webview/map/wanted-tiles';

/** 1 TiB in clusters of 64 KiB, on a canvas of 1000 by 800. */
const SHAPE = { width: 4096, height: 4096, levels: 13 };

function zoomedIn(factor: number): MapViewport {
  const viewport = new MapViewport(SHAPE.width, SHAPE.height);
  viewport.resize(1000, 800);
  viewport.zoomAtCenter(factor);
  return viewport;
}

describe('the tiles that a map wants', () => {
  it('are the whole map coarsely, then what is seen from the middle on, then what is around it, then the level above', () => {
    const viewport = zoomedIn(8);
    const [first, ...others] = wantedTiles(viewport, SHAPE);
    expect([baseLevel(SHAPE), first]).toEqual([4, { level: 4, x: 0, y: 0 }]);
    const seen = visibleTiles(viewport, SHAPE);
    expect(seen).toHaveLength(16);
    // All that is seen comes before anything that is not.
    expect(new Set(others.slice(0, 16).map((tile) => JSON.stringify(tile)))).toEqual(new Set(seen.map((tile) => JSON.stringify(tile))));
    const distances = others.slice(0, 16).map(({ x, y }) => Math.hypot(x - 7.5, y - 7.5));
    expect(distances).toEqual(distances.toSorted((a, b) => a - b));
    expect(others.slice(16, 36).every(({ level }) => level === 0)).toBe(true);
    expect(others.slice(36).map(({ level }) => level)).toEqual(Array.from({ length: others.length - 36 }, () => 1));
  });

  it('stop at the edges of a map, however small it is', () => {
    const viewport = new MapViewport(64, 64);
    viewport.resize(1000, 800);
    const whole = { level: 0, x: 0, y: 0 };
    expect(wantedTiles(viewport, { width: 64, height: 64, levels: 7 })).toEqual([whole, whole]);
  });
});

describe('the cursor of a map', () => {
  const everywhere = (): boolean => false;

  it('begins in the middle of what is seen, or at the first cell where the map does not reach that far', () => {
    expect(cursorAt(null, 0, zoomedIn(8), everywhere)).toEqual({ level: 0, x: 2048, y: 2048 });
    expect(cursorAt(null, 3, zoomedIn(1), everywhere)).toEqual({ level: 3, x: 256, y: 256 });
    expect(cursorAt(null, 3, zoomedIn(1), () => true)).toEqual({ level: 3, x: 0, y: 0 });
  });

  it('stays where it is when the level changes, in cells of the new one', () => {
    expect(cursorAt({ level: 0, x: 100, y: 37 }, 3, zoomedIn(1), everywhere)).toEqual({ level: 3, x: 12, y: 4 });
    expect(cursorAt({ level: 3, x: 12, y: 4 }, 0, zoomedIn(8), everywhere)).toEqual({ level: 0, x: 96, y: 32 });
  });

  it('does not leave the map', () => {
    const viewport = zoomedIn(1);
    expect(neighbour({ level: 3, x: 0, y: 511 }, -1, 1, viewport)).toEqual({ level: 3, x: 0, y: 511 });
    expect(neighbour({ level: 3, x: 5, y: 7 }, 1, -1, viewport)).toEqual({ level: 3, x: 6, y: 6 });
  });
});
