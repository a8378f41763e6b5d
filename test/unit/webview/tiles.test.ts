import { describe, expect, it } from 'vitest';
import { MAP_OUTSIDE, MAP_TILE_SIDE, type MapTile } from '../../../src/protocol/inspect';
import { plainError } from '../../../src/protocol/imageClient';
import { paintCells } from '../../../webview/map/paint';
import { presentBit, type Palette } from '../../../webview/map/palette';
import { TileCache, tileName, type TileKey } from '../../../webview/map/tile-cache';
import { TileLoader } from '../../../webview/map/tile-loader';
import type { Problem } from '../../../webview/problem';

const CELLS = MAP_TILE_SIDE * MAP_TILE_SIDE;

function tile({ level, x, y }: TileKey): MapTile {
  return { level, x, y, dominant: new Uint8Array(CELLS), present: new Uint16Array(CELLS), density: new Uint8Array(CELLS) };
}

describe('the cache of tiles', () => {
  it('forgets what was not looked at for longest', () => {
    const cache = new TileCache(2);
    const [a, b, c] = [0, 1, 2].map((x) => ({ level: 0, x, y: 0 })) as [TileKey, TileKey, TileKey];
    cache.put(tile(a));
    cache.put(tile(b));
    cache.get(a);
    cache.put(tile(c));
    expect([cache.has(a), cache.has(b), cache.has(c), cache.size]).toEqual([true, false, true, 2]);
  });
});

/** A loader whose requests the test answers. */
function loading() {
  const cache = new TileCache();
  const asked = new Map<string, { resolve: () => void; reject: (error: Error) => void; signal: AbortSignal }>();
  const order: string[] = [];
  const problems: Problem[] = [];
  const loader = new TileLoader(
    cache,
    (key, signal) =>
      new Promise((resolve, reject) => {
        order.push(tileName(key));
        asked.set(tileName(key), { resolve: () => resolve(tile(key)), reject, signal });
      }),
    { arrived: () => undefined, failed: (problem) => problems.push(problem) },
  );
  const settle = () => new Promise((resolve) => setTimeout(resolve));
  return { cache, asked, order, problems, loader, settle };
}

function row(count: number): TileKey[] {
  return Array.from({ length: count }, (_, x) => ({ level: 0, x, y: 0 }));
}

describe('the loader of tiles', () => {
  it('asks for a few at a time, in the order of want', async () => {
    const { loader, order, asked, settle } = loading();
    loader.want(row(6));
    expect(order).toEqual(['0/0/0', '0/1/0', '0/2/0', '0/3/0']);
    asked.get('0/2/0')?.resolve();
    await settle();
    expect(order.slice(4)).toEqual(['0/4/0']);
  });

  it('gives up what is not wanted any more and never shows it', async () => {
    const { loader, order, asked, cache, settle } = loading();
    loader.want(row(4));
    loader.want([{ level: 3, x: 0, y: 0 }]);
    expect([asked.get('0/1/0')?.signal.aborted, order.at(-1)]).toEqual([true, '3/0/0']);
    asked.get('0/1/0')?.resolve();
    await settle();
    expect(cache.size).toBe(0);
  });

  it('does not ask again and again for a tile that fails', async () => {
    const { loader, order, asked, problems, settle } = loading();
    loader.want(row(1));
    asked.get('0/0/0')?.reject(plainError('file.io', 'The disk is gone.'));
    await settle();
    loader.want(row(1));
    expect([order.length, problems.map(({ message }) => message)]).toEqual([1, ['The disk is gone.']]);
    loader.reset();
    loader.want(row(1));
    expect(order.length).toBe(2);
  });

  it('takes a request that was given up for no failure', async () => {
    const { loader, asked, problems, settle } = loading();
    loader.want(row(1));
    asked.get('0/0/0')?.reject(plainError('cancelled', 'Cancelled.'));
    await settle();
    expect(problems).toEqual([]);
  });
});

/** Colours that tell class and density apart; dimmed ones have the highest bit. */
function palette(classes: number, chosen: number | null): Palette {
  const shaded = Uint32Array.from({ length: classes * 256 }, (_, at) => at + 1);
  return { version: 1, shaded, dimmed: shaded.map((colour) => colour | 0x80000000), chosen, classes, colours: [], marks: [] };
}

function painted(cells: readonly { dominant: number; present?: number; density?: number }[], colours: Palette): number[] {
  const pixels = new Uint32Array(cells.length);
  paintCells(
    {
      level: 0,
      x: 0,
      y: 0,
      dominant: Uint8Array.from(cells, ({ dominant }) => dominant),
      present: Uint16Array.from(cells, ({ dominant, present }) => present ?? presentBit(dominant)),
      density: Uint8Array.from(cells, ({ dominant, density }) => density ?? (dominant === 0 ? 0 : 255)),
    },
    colours,
    pixels,
  );
  return [...pixels];
}

function shade(index: number, density: number): number {
  return index * 256 + density + 1;
}

describe('painting a tile', () => {
  it('colours each cell by class and density', () => {
    const colours = painted([{ dominant: 0 }, { dominant: 2 }, { dominant: 1, density: 100 }], palette(3, null));
    expect(colours).toEqual([shade(0, 0), shade(2, 255), shade(1, 100)]);
  });

  it('leaves what is outside of the map transparent, and any class that the legend does not have', () => {
    expect(painted([{ dominant: MAP_OUTSIDE }, { dominant: 7 }], palette(3, null))).toEqual([0, 0]);
  });

  it('lets a single cluster show in a cell that is empty but for it', () => {
    const [colour] = painted([{ dominant: 0, present: 0b101, density: 1 }], palette(3, null));
    expect(colour).toBe(shade(2, 1));
  });

  it('dims cells without a chosen class and shows the chosen one where it is outnumbered', () => {
    const onlyTwo = palette(3, presentBit(2));
    const colours = painted([{ dominant: 1 }, { dominant: 2 }, { dominant: 1, present: 0b110, density: 200 }], onlyTwo);
    expect(colours).toEqual([(shade(1, 255) | 0x80000000) >>> 0, shade(2, 255), shade(2, 200)]);
  });

  it('takes classes from 15 on for one when they are chosen', () => {
    const deep = palette(20, presentBit(17));
    expect(painted([{ dominant: 18 }, { dominant: 3 }], deep)).toEqual([shade(18, 255), (shade(3, 255) | 0x80000000) >>> 0]);
  });
});
