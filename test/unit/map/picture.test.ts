import { describe, expect, it } from 'vitest';

import type { MapOrder, MapTile } from '../../../src/protocol/inspect';
import { MapGeometry } from '../../../src/engine/map/geometry';
import { ClassTable, LargePicture, type Picture } from '../../../src/engine/map/picture';
import { Pace } from '../../../src/engine/pace';
import { Random, testSeed } from '../../interop/random';
import { ArraySource, NaivePicture, naiveTile, randomClasses } from './naivePicture';

const ORDERS: readonly MapOrder[] = ['hilbert', 'rowMajor'];
const SIZES = [1, 2, 3, 5, 16, 17, 31, 100, 1000, 20_000, 70_000];

describe('the layout of a picture', () => {
  it.each(ORDERS)('%s: powers of two, no larger than needed, every cluster in a cell of its own', (order) => {
    for (const clusters of [0, 1, 2, 3, 4, 5, 63, 64, 65, 1000, 5000]) {
      const geometry = new MapGeometry(order, clusters);
      const { width, height, levels } = geometry;
      expect([Math.log2(width) % 1, Math.log2(height) % 1]).toEqual([0, 0]);
      expect(width >= height && width * height >= clusters && 2 ** levels === width).toBe(true);
      expect(order === 'hilbert' ? width * height < clusters * 4 || clusters === 0 : width * height < clusters * 2 || clusters === 0).toBe(
        true,
      );
      const cells = new Set<string>();
      for (let cluster = 0; cluster < clusters; cluster++) {
        const { x, y } = geometry.positionOf(cluster);
        cells.add(`${x} ${y}`);
        expect(geometry.spansOf(0, x, y)).toEqual([{ first: cluster, count: 1 }]);
      }
      expect(cells.size).toBe(clusters);
    }
  });

  it.each(ORDERS)('%s: the cells of each level divide the clusters among them', (order) => {
    const geometry = new MapGeometry(order, 777);
    for (let level = 0; level <= geometry.levels; level++) {
      const seen = new Uint8Array(777);
      for (let y = 0; y < geometry.heightAt(level); y++) {
        for (let x = 0; x < geometry.widthAt(level); x++) {
          for (const { first, count } of geometry.spansOf(level, x, y)) {
            for (let cluster = first; cluster < first + count; cluster++) {
              seen[cluster]!++;
            }
          }
        }
      }
      expect(seen.every((times) => times === 1)).toBe(true);
    }
  });

  it('holds the largest maps', () => {
    for (const order of ORDERS) {
      const geometry = new MapGeometry(order, 2 ** 44);
      const last = geometry.positionOf(2 ** 44 - 1);
      expect(geometry.spansOf(0, last.x, last.y)).toEqual([{ first: 2 ** 44 - 1, count: 1 }]);
    }
  });
});

async function expectTiles(picture: Picture, naive: NaivePicture, note: string): Promise<void> {
  const { geometry } = picture;
  for (let level = 0; level <= geometry.levels; level++) {
    const across = Math.ceil(geometry.widthAt(level) / 256);
    const down = Math.ceil(geometry.heightAt(level) / 256);
    for (let y = 0; y < down; y++) {
      for (let x = 0; x < across; x++) {
        expectTile(
          await picture.tile(level, x, y, new Pace()),
          naiveTile(naive, level, x, y),
          `${note}, tile ${x}, ${y} of level ${level}`,
        );
      }
    }
  }
}

function expectTile(tile: MapTile, wanted: MapTile, note: string): void {
  for (const field of ['dominant', 'present', 'density'] as const) {
    const first = tile[field].findIndex((value, i) => value !== wanted[field][i]);
    expect(first < 0 ? null : { first, is: tile[field][first], wanted: wanted[field][first] }, `${note}: ${field}`).toBeNull();
  }
  expect([tile.level, tile.x, tile.y, tile.dominant.length]).toEqual([wanted.level, wanted.x, wanted.y, 65_536]);
}

async function expectCounts(picture: Picture, naive: NaivePicture, random: Random): Promise<void> {
  const { geometry } = picture;
  for (let level = 0; level <= geometry.levels; level++) {
    for (let round = 0; round < 20; round++) {
      const x = random.below(geometry.widthAt(level));
      const y = random.below(geometry.heightAt(level));
      const counts = await picture.cellCounts(level, x, y, new Pace());
      const found = new Map([...counts].flatMap((count, value) => (count > 0 ? [[value, count] as const] : [])));
      expect(found).toEqual(new Map([...naive.cell(level, x, y).counts].sort(([a], [b]) => a - b)));
    }
  }
}

describe('a picture of clusters in memory', () => {
  const seed = testSeed();
  it.each(ORDERS.flatMap((order) => SIZES.map((clusters) => [order, clusters] as const)))(
    `%s, %i clusters, seed ${seed}`,
    async (order, clusters) => {
      const random = new Random(seed + clusters);
      const classCount = random.pick([2, 5, 13, 40]);
      const classes = randomClasses(random, clusters, classCount);
      const table = await ClassTable.read(new ArraySource(classes, classCount), new Pace());
      const picture = table.picture(order);
      const naive = new NaivePicture(order, classes, 0, 2);
      await expectTiles(picture, naive, `seed ${seed}`);
      await expectCounts(picture, naive, random);
    },
  );

  it('shows nothing but outside for no clusters at all', async () => {
    const table = await ClassTable.read(new ArraySource(new Uint8Array(0), 2), new Pace());
    for (const order of ORDERS) {
      const tile = await table.picture(order).tile(0, 0, 0);
      expect(tile.dominant.every((value) => value === 255)).toBe(true);
    }
  });

  it('is empty beyond its edges', async () => {
    const table = await ClassTable.read(new ArraySource(new Uint8Array(100_000).fill(1), 2), new Pace());
    for (const order of ORDERS) {
      for (const [level, x, y] of [
        [0, 7, 0],
        [0, 0, 9],
        [1, 3, 3],
        [3, 1, 0],
      ] as const) {
        const tile = await table.picture(order).tile(level, x, y);
        expect(tile.dominant.every((value) => value === 255) && tile.present.every((value) => value === 0)).toBe(true);
      }
    }
  });
});

describe('a picture of more clusters than are kept', () => {
  const seed = testSeed();
  it.each(ORDERS.flatMap((order) => [1, 100, 5000, 70_000].map((clusters) => [order, clusters] as const)))(
    `%s, %i clusters, seed ${seed}`,
    async (order, clusters) => {
      const random = new Random(seed + clusters);
      const classCount = random.pick([2, 5, 13, 40]);
      const classes = randomClasses(random, clusters, classCount);
      const cells = random.pick([16, 300, 20_000]);
      const geometry = new MapGeometry(order, clusters);
      const picture = await LargePicture.make(new ArraySource(classes, classCount), geometry, new Pace(), {
        cells,
        counts: random.pick([1, 100, 10_000]) * classCount,
      });
      let firstLevel = 0;
      while (geometry.cellsAt(firstLevel) > cells) {
        firstLevel++;
      }
      for (let level = 0; level < firstLevel; level++) {
        // Below what is stored, each level is made from the clusters at once.
        const naive = new NaivePicture(order, classes, level);
        const x = random.below(Math.ceil(geometry.widthAt(level) / 256));
        const y = random.below(Math.ceil(geometry.heightAt(level) / 256));
        expectTile(await picture.tile(level, x, y, new Pace()), naiveTile(naive, level, x, y), `level ${level} of ${firstLevel}`);
      }
      const naive = new NaivePicture(order, classes, firstLevel);
      for (let level = firstLevel; level <= geometry.levels; level++) {
        expectTile(await picture.tile(level, 0, 0, new Pace()), naiveTile(naive, level, 0, 0), `level ${level}, stored from ${firstLevel}`);
      }
      await expectCounts(picture, naive, random);
      const total = await picture.cellCounts(geometry.levels, 0, 0, new Pace());
      expect(picture.counts).toEqual(total);
    },
  );
});
