import type { MapOrder, MapTile } from '../../../src/protocol/inspect';
import { hilbertIndex } from '../../../src/engine/map/hilbert';
import { MapGeometry } from '../../../src/engine/map/geometry';
import type { ClassSink, ClassSource } from '../../../src/engine/map/classSource';
import type { Random } from '../../interop/random';

/** Outside the map. */
const OUTSIDE = 255;
const SIDE = 256;

export interface NaiveCell {
  readonly dominant: number;
  readonly density: number;
  readonly present: number;
  /** Clusters of each class. */
  readonly counts: ReadonlyMap<number, number>;
}

const NOTHING: NaiveCell = { dominant: OUTSIDE, density: 0, present: 0, counts: new Map() };

/**
 * A picture as its definition says, cell by cell: a cell is made from its four quarters. At `exactLevel` the class is the one of most
 * clusters; up to `exactDensity` densities come from the clusters, not from the quarters' densities.
 */
export class NaivePicture {
  private readonly geometry: MapGeometry;
  private readonly grid: number[][] = [];
  private readonly exactLevel: number;
  private readonly exactDensity: number;
  private readonly known = new Map<number, NaiveCell>();

  constructor(order: MapOrder, classes: Uint8Array, exactLevel: number, exactDensity = exactLevel) {
    this.exactDensity = exactDensity;
    this.geometry = new MapGeometry(order, classes.length);
    this.exactLevel = exactLevel;
    for (let y = 0; y < this.geometry.height; y++) {
      this.grid.push(new Array<number>(this.geometry.width).fill(OUTSIDE));
    }
    for (let cluster = 0; cluster < classes.length; cluster++) {
      const { x, y } = this.geometry.positionOf(cluster);
      this.grid[y]![x] = classes[cluster]!;
    }
  }

  cell(level: number, x: number, y: number): NaiveCell {
    if (x >= this.geometry.widthAt(level) || y >= this.geometry.heightAt(level)) {
      return NOTHING;
    }
    const key = (y * 2 ** 20 + x) * 32 + level;
    const cell = this.known.get(key) ?? this.make(level, x, y);
    this.known.set(key, cell);
    return cell;
  }

  private make(level: number, x: number, y: number): NaiveCell {
    if (level === 0) {
      const value = this.grid[y]?.[x] ?? OUTSIDE;
      return value === OUTSIDE
        ? NOTHING
        : { dominant: value, density: value === 0 ? 0 : 255, present: 1 << Math.min(15, value), counts: new Map([[value, 1]]) };
    }
    const quarters = [
      [2 * x, 2 * y],
      [2 * x + 1, 2 * y],
      [2 * x, 2 * y + 1],
      [2 * x + 1, 2 * y + 1],
    ] as [number, number][];
    if (this.geometry.order === 'hilbert') {
      const position = ([cellX, cellY]: [number, number]) => hilbertIndex(cellX, cellY, this.geometry.levels - level + 1);
      quarters.sort((a, b) => position(a) - position(b));
    }
    const cells = quarters.map(([cellX, cellY]) => this.cell(level - 1, cellX, cellY)).filter(({ dominant }) => dominant !== OUTSIDE);
    if (cells.length === 0) {
      return NOTHING;
    }
    const counts = new Map<number, number>();
    for (const cell of cells) {
      for (const [value, count] of cell.counts) {
        counts.set(value, (counts.get(value) ?? 0) + count);
      }
    }
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const filled = total - (counts.get(0) ?? 0);
    return {
      counts,
      dominant: level === this.exactLevel ? most([...counts].sort(([a], [b]) => a - b)) : most(votes(cells)),
      density:
        level <= this.exactDensity
          ? share(filled, total)
          : share(
              cells.reduce((sum, { density }) => sum + density, 0),
              cells.length * 255,
            ),
      present: cells.reduce((mask, { present }) => mask | present, 0),
    };
  }
}

function votes(cells: readonly NaiveCell[]): [number, number][] {
  const counted = new Map<number, number>();
  for (const { dominant } of cells) {
    counted.set(dominant, (counted.get(dominant) ?? 0) + 1);
  }
  return [...counted];
}

/** The first of those with the highest count. */
function most(counted: readonly (readonly [number, number])[]): number {
  let [best] = counted;
  for (const entry of counted) {
    best = best && entry[1] > best[1] ? entry : best;
  }
  return best?.[0] ?? OUTSIDE;
}

function share(part: number, whole: number): number {
  const rounded = Math.round((part * 255) / whole);
  return part === 0 ? 0 : part === whole ? 255 : Math.min(254, Math.max(1, rounded));
}

/** The tile that holds these cells. */
export function naiveTile(picture: NaivePicture, level: number, tileX: number, tileY: number): MapTile {
  const tile = {
    level,
    x: tileX,
    y: tileY,
    dominant: new Uint8Array(SIDE * SIDE),
    present: new Uint16Array(SIDE * SIDE),
    density: new Uint8Array(SIDE * SIDE),
  };
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const { dominant, present, density } = picture.cell(level, tileX * SIDE + x, tileY * SIDE + y);
      tile.dominant[y * SIDE + x] = dominant;
      tile.present[y * SIDE + x] = present;
      tile.density[y * SIDE + x] = density;
    }
  }
  return tile;
}

/** Classes as maps have them: runs, noise, and both. */
export function randomClasses(random: Random, clusters: number, classCount: number): Uint8Array {
  const classes = new Uint8Array(clusters);
  for (let at = 0; at < clusters;) {
    const length = random.chance(0.5) ? random.between(1, 4) : random.between(1, 3000);
    const value = random.chance(0.4) ? 0 : random.below(classCount);
    classes.fill(value, at, at + length);
    at += length;
  }
  return classes;
}

/** Classes in memory as a source that tells them in pieces of all kinds. */
export class ArraySource implements ClassSource {
  readonly clusters: number;
  readonly clusterSize = 4096;
  readonly length: number;
  readonly classes: ClassSource['classes'];
  private readonly values: Uint8Array;

  constructor(values: Uint8Array, classCount: number) {
    this.values = values;
    this.clusters = values.length;
    this.length = values.length * this.clusterSize;
    this.classes = Array.from({ length: classCount }, (_, i) => ({ id: `c${i}`, label: `class ${i}` }));
  }

  scan(from: number, to: number, sink: ClassSink): Promise<void> {
    for (let at = from; at < to;) {
      const value = this.values[at]!;
      let end = at;
      while (end < to && this.values[end] === value) {
        end++;
      }
      if (end - at > 8) {
        sink.fill(at, end - at, value);
      } else {
        end = Math.min(to, at + 1000);
        sink.classes(at, this.values.subarray(at, end), end - at);
      }
      at = end;
    }
    return Promise.resolve();
  }

  describe(cluster: number): Promise<string> {
    return Promise.resolve(`cluster ${cluster}`);
  }
}
