import { MAP_TILE_SIDE, type MapShape } from '../../src/protocol/inspect';
import type { TileKey } from './tile-cache';
import type { MapViewport, TileRange } from './viewport';

/* Which tiles a picture of a map needs, and in which order. */

type Levels = Pick<MapShape, 'width' | 'height' | 'levels'>;

/** Tiles that are not seen come after all that are, however far out these lie. */
const UNSEEN = 1000;

/** The finest level at which the whole map is one tile. */
export function baseLevel({ width, height, levels }: Levels): number {
  const side = Math.max(width, height);
  return Math.min(levels - 1, Math.max(0, Math.ceil(Math.log2(side / MAP_TILE_SIDE))));
}

/** The tiles that are on the canvas, row by row. */
export function visibleTiles(viewport: MapViewport, { levels }: Levels): readonly TileKey[] {
  const level = viewport.level(levels);
  return tilesIn(viewport.visible(level, MAP_TILE_SIDE), level);
}

/** The whole map coarsely, then what is visible from the middle outwards, then what a pan or a zoom out would show next. */
export function wantedTiles(viewport: MapViewport, shape: Levels): readonly TileKey[] {
  const level = viewport.level(shape.levels);
  const coarsest = baseLevel(shape);
  const visible = viewport.visible(level, MAP_TILE_SIDE);
  return [
    { level: coarsest, x: 0, y: 0 },
    ...fromTheMiddle(tilesIn(withMargin(visible, level, shape), level), visible),
    ...(level < coarsest ? tilesIn(viewport.visible(level + 1, MAP_TILE_SIDE), level + 1) : []),
  ];
}

function tilesIn({ left, top, right, bottom }: TileRange, level: number): readonly TileKey[] {
  const keys: TileKey[] = [];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      keys.push({ level, x, y });
    }
  }
  return keys;
}

/** With the tiles around, as far as the map reaches. */
function withMargin({ left, top, right, bottom }: TileRange, level: number, { width, height }: Levels): TileRange {
  const side = MAP_TILE_SIDE * 2 ** level;
  return {
    left: Math.max(0, left - 1),
    top: Math.max(0, top - 1),
    right: Math.min(Math.ceil(width / side), right + 1),
    bottom: Math.min(Math.ceil(height / side), bottom + 1),
  };
}

function fromTheMiddle(keys: readonly TileKey[], visible: TileRange): readonly TileKey[] {
  const middleX = (visible.left + visible.right - 1) / 2;
  const middleY = (visible.top + visible.bottom - 1) / 2;
  const distance = ({ x, y }: TileKey): number => {
    const isSeen = x >= visible.left && x < visible.right && y >= visible.top && y < visible.bottom;
    return Math.hypot(x - middleX, y - middleY) + (isSeen ? 0 : UNSEEN);
  };
  return keys
    .map((key) => ({ key, distance: distance(key) }))
    .sort((a, b) => a.distance - b.distance)
    .map(({ key }) => key);
}
