import { MAP_TILE_SIDE } from '../../src/protocol/inspect';
import { pictureOf } from './paint';
import type { Palette } from './palette';
import type { TileCache, TileKey } from './tile-cache';
import type { MapViewport } from './viewport';

/** Cells of level 0 this large, in CSS pixels, are divided by lines. */
const GRID_FROM = 9;
/** Cells this large carry their class's mark. */
const MARKS_FROM = 18;
/** From this cell size on edges are kept sharp; below, neighbouring cells blend, which calms the picture while it is zoomed. */
const SHARP_FROM = 3;

export interface Cell {
  readonly level: number;
  readonly x: number;
  readonly y: number;
}

export interface Scene {
  readonly context: CanvasRenderingContext2D;
  readonly viewport: MapViewport;
  readonly cache: TileCache;
  readonly palette: Palette;
  readonly levels: number;
  /** The level at which the whole map is one tile. */
  readonly baseLevel: number;
  readonly background: string;
  readonly line: string;
  readonly accent: string;
  readonly foreground: string;
  readonly hovered: Cell | null;
  readonly cursor: Cell | null;
  readonly selected: Cell | null;
}

/** Draws one frame: every visible tile, or the best that is there in its place, then lines, marks and outlines. */
export function drawScene(scene: Scene): void {
  const { context, viewport, levels, background } = scene;
  const { width, height } = context.canvas;
  context.fillStyle = background;
  context.fillRect(0, 0, width, height);
  const level = viewport.level(levels);
  const cell = viewport.scale * 2 ** level;
  context.imageSmoothingEnabled = cell < SHARP_FROM;
  const tiles = viewport.visible(level, MAP_TILE_SIDE);
  for (let y = tiles.top; y < tiles.bottom; y++) {
    for (let x = tiles.left; x < tiles.right; x++) {
      drawTile(scene, { level, x, y });
    }
  }
  const ratio = window.devicePixelRatio;
  if (level === 0 && cell >= GRID_FROM * ratio) {
    drawGrid(scene);
    if (cell >= MARKS_FROM * ratio) {
      drawMarks(scene);
    }
  }
  outline(scene, scene.hovered, scene.foreground, 1);
  outline(scene, scene.selected, scene.accent, 2);
  outline(scene, scene.cursor, scene.foreground, 2);
}

function drawTile(scene: Scene, key: TileKey): void {
  const { cache, baseLevel } = scene;
  const own = cache.get(key);
  if (own !== null) {
    blit(scene, key, key, 0);
    return;
  }
  for (let up = 1; key.level + up <= Math.max(baseLevel, key.level); up++) {
    const ancestor = { level: key.level + up, x: key.x >> up, y: key.y >> up };
    if (cache.has(ancestor)) {
      blit(scene, key, ancestor, up);
      break;
    }
  }
  if (key.level > 0) {
    for (let at = 0; at < 4; at++) {
      const child = { level: key.level - 1, x: key.x * 2 + (at & 1), y: key.y * 2 + (at >> 1) };
      if (cache.has(child)) {
        blit(scene, child, child, 0);
      }
    }
  }
}

/** Draws the place of `key` from the tile `from`, which is `up` levels coarser. */
function blit({ context, viewport, cache, palette }: Scene, key: TileKey, from: TileKey, up: number): void {
  const cached = cache.get(from);
  if (cached === null) {
    return;
  }
  const picture = pictureOf(cached, palette);
  const part = 2 ** up;
  const side = MAP_TILE_SIDE / part;
  const { left, top, right, bottom } = viewport.rect(key.level, key.x * MAP_TILE_SIDE, key.y * MAP_TILE_SIDE, MAP_TILE_SIDE, MAP_TILE_SIDE);
  context.drawImage(picture, (key.x % part) * side, (key.y % part) * side, side, side, left, top, right - left, bottom - top);
}

function drawGrid({ context, viewport, line }: Scene): void {
  const cells = viewport.visible(0, 1);
  const area = viewport.rect(0, cells.left, cells.top, cells.right - cells.left, cells.bottom - cells.top);
  context.strokeStyle = line;
  context.lineWidth = 1;
  context.beginPath();
  for (let x = cells.left; x <= cells.right; x++) {
    const { left } = viewport.rect(0, x, cells.top, 1, 1);
    context.moveTo(left + 0.5, area.top);
    context.lineTo(left + 0.5, area.bottom);
  }
  for (let y = cells.top; y <= cells.bottom; y++) {
    const { top } = viewport.rect(0, cells.left, y, 1, 1);
    context.moveTo(area.left, top + 0.5);
    context.lineTo(area.right, top + 0.5);
  }
  context.stroke();
}

function drawMarks({ context, viewport, cache, palette }: Scene): void {
  const cells = viewport.visible(0, 1);
  context.font = `600 ${Math.round(viewport.scale * 0.5)}px monospace`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (let y = cells.top; y < cells.bottom; y++) {
    for (let x = cells.left; x < cells.right; x++) {
      const mark = palette.marks[classAt(cache, { level: 0, x, y }) ?? -1];
      if (mark !== undefined && mark.text !== '') {
        const { left, top, right, bottom } = viewport.rect(0, x, y, 1, 1);
        context.fillStyle = mark.colour;
        context.fillText(mark.text, (left + right) / 2, (top + bottom) / 2 + 1);
      }
    }
  }
}

/** The class that fills most of a cell, when its tile is at hand. */
export function classAt(cache: TileCache, { level, x, y }: Cell): number | null {
  const cached = cache.get({ level, x: Math.floor(x / MAP_TILE_SIDE), y: Math.floor(y / MAP_TILE_SIDE) });
  return cached?.tile.dominant[(y % MAP_TILE_SIDE) * MAP_TILE_SIDE + (x % MAP_TILE_SIDE)] ?? null;
}

/** An outline that shows on every colour: a line of the background's colour on either side. */
function outline({ context, viewport, background }: Scene, cell: Cell | null, colour: string, width: number): void {
  if (cell === null) {
    return;
  }
  const ratio = window.devicePixelRatio;
  const { left, top, right, bottom } = viewport.rect(cell.level, cell.x, cell.y, 1, 1);
  const line = width * ratio;
  const grow = line / 2 + ratio;
  const side = [left - grow, top - grow, right - left + grow * 2, bottom - top + grow * 2] as const;
  context.lineJoin = 'round';
  context.strokeStyle = background;
  context.lineWidth = line + ratio * 2;
  context.strokeRect(...side);
  context.strokeStyle = colour;
  context.lineWidth = line;
  context.strokeRect(...side);
}
