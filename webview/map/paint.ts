import { MAP_OUTSIDE, MAP_TILE_SIDE, type MapTile } from '../../src/protocol/inspect';
import type { CachedTile } from './tile-cache';
import { presentBit, type Palette } from './palette';

/** Colours a tile's cells. `pixels` holds MAP_TILE_SIDE squared canvas pixels. */
export function paintCells({ dominant, present, density }: MapTile, palette: Palette, pixels: Uint32Array): void {
  const { shaded, dimmed, chosen, classes } = palette;
  const count = Math.min(pixels.length, dominant.length);
  for (let at = 0; at < count; at++) {
    const index = dominant[at]!;
    if (index === MAP_OUTSIDE || index >= classes) {
      pixels[at] = 0;
      continue;
    }
    const here = present[at]!;
    const thick = density[at]!;
    // Where most of a cell is empty, what little there is decides the hue.
    const shown = index === 0 && thick > 0 ? lowestClass(here, classes) : index;
    if (chosen === null) {
      pixels[at] = shaded[shown * 256 + thick]!;
    } else if ((here & chosen) === 0) {
      pixels[at] = dimmed[shown * 256 + thick]!;
    } else if ((presentBit(shown) & chosen) !== 0) {
      pixels[at] = shaded[shown * 256 + thick]!;
    } else {
      pixels[at] = shaded[lowestBit(here & chosen, classes) * 256 + thick]!;
    }
  }
}

/** The first class other than 0 that occurs. */
function lowestClass(present: number, classes: number): number {
  return lowestBit(present & ~1, classes);
}

function lowestBit(bits: number, classes: number): number {
  return bits === 0 ? 0 : Math.min(31 - Math.clz32(bits & -bits), classes - 1);
}

/** A tile's picture in this palette, painted now when it is not yet. */
export function pictureOf(cached: CachedTile, palette: Palette): OffscreenCanvas {
  if (cached.picture !== null && cached.paletteVersion === palette.version) {
    return cached.picture;
  }
  const picture = cached.picture ?? new OffscreenCanvas(MAP_TILE_SIDE, MAP_TILE_SIDE);
  const context = picture.getContext('2d');
  if (context === null) {
    throw new Error('The browser offers no 2D canvas.');
  }
  const image = new ImageData(MAP_TILE_SIDE, MAP_TILE_SIDE);
  paintCells(cached.tile, palette, new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
  cached.picture = picture;
  cached.paletteVersion = palette.version;
  return picture;
}
