import type { MapTile } from '../../src/protocol/inspect';

export interface TileKey {
  readonly level: number;
  readonly x: number;
  readonly y: number;
}

export function tileName({ level, x, y }: TileKey): string {
  return `${level}/${x}/${y}`;
}

export interface CachedTile {
  readonly tile: MapTile;
  /** The tile in colours, and of which palette; painted when first drawn. */
  picture: OffscreenCanvas | null;
  paletteVersion: number;
}

/** The tiles looked at last; with its picture one takes half a megabyte. */
export class TileCache {
  private readonly tiles = new Map<string, CachedTile>();
  private readonly capacity: number;

  constructor(capacity = 128) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.tiles.size;
  }

  /** A tile, which counts as looked at now. */
  get(key: TileKey): CachedTile | null {
    const name = tileName(key);
    const cached = this.tiles.get(name);
    if (cached === undefined) {
      return null;
    }
    this.tiles.delete(name);
    this.tiles.set(name, cached);
    return cached;
  }

  has(key: TileKey): boolean {
    return this.tiles.has(tileName(key));
  }

  put(tile: MapTile): void {
    const name = tileName(tile);
    this.tiles.delete(name);
    this.tiles.set(name, { tile, picture: null, paletteVersion: -1 });
    for (const oldest of this.tiles.keys()) {
      if (this.tiles.size <= this.capacity) {
        break;
      }
      this.tiles.delete(oldest);
    }
  }

  clear(): void {
    this.tiles.clear();
  }
}
