import { describe, expect, it } from 'vitest';

import type { OpenedChain } from '../../../src/engine/chain/layer';
import { layerStatus } from '../../../src/engine/chain/layerStatus';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { readSnapshotTable } from '../../../src/engine/formats/qcow2/snapshots';
import { ClassArray } from '../../../src/engine/map/classSource';
import { GUEST_CLASS, GuestMap } from '../../../src/engine/map/guestMap';
import { Pace } from '../../../src/engine/pace';
import type { MapMode } from '../../../src/protocol/inspect';
import type { LayerView } from '../../../src/protocol/place';
import { Random, testCases, testSeed } from '../../interop/random';
import { damage, randomImage } from '../check/randomQcow2';
import { bigEndian, chainOf, SparseSource, sourceOf } from '../inspect/memory';

const ACTIVE: LayerView = { kind: 'active' };
const SECTOR = 512;

/** The class that most bytes of each cluster have, asked of each layer on its own, sector by sector. */
function reference(chain: OpenedChain, mode: MapMode, view: LayerView, map: GuestMap): Uint8Array {
  const layers = chain.layers.map((layer, depth) => layerStatus(layer, depth === 0 ? view : ACTIVE));
  const unknown = map.classes.length - 1;
  const classes = new Uint8Array(map.clusters);
  for (let cluster = 0; cluster < map.clusters; cluster++) {
    const bytes = new Map<number, number>();
    const end = Math.min(map.length, (cluster + 1) * map.clusterSize);
    for (let at = cluster * map.clusterSize; at < end; at += SECTOR) {
      let found: number = chain.complete ? 0 : unknown;
      for (const [depth, layer] of layers.entries()) {
        if (at >= layer.size) {
          found = 0;
          break;
        }
        const extent = layer.blockStatus(at, SECTOR);
        if (extent.class === 'unknown') {
          // A map need not know where compressed bytes lie: past 2^53 they are as compressed as elsewhere.
          const far = extent.problem?.message.includes('compressed bytes lie past') ?? false;
          found = mode === 'layer' ? depth + 1 : far ? GUEST_CLASS.compressed : GUEST_CLASS.unknown;
          break;
        }
        if (extent.class !== 'unallocated') {
          found = mode === 'layer' ? depth + 1 : GUEST_CLASS[extent.class];
          break;
        }
      }
      bytes.set(found, (bytes.get(found) ?? 0) + SECTOR);
    }
    let most = 0;
    for (const [value, count] of [...bytes].sort(([a], [b]) => a - b)) {
      most = count > (bytes.get(most) ?? 0) ? value : most;
    }
    classes[cluster] = most;
  }
  return classes;
}

async function classesOf(map: GuestMap, from = 0, to = map.clusters): Promise<Uint8Array> {
  const values = new Uint8Array(to - from).fill(255);
  await map.scan(from, to, new ClassArray(from, values), new Pace());
  return values;
}

/** One to four images of any kind, and sometimes a raw file below them; now and then with damaged tables. */
function randomChain(random: Random): OpenedChain {
  const sources: SparseSource[] = [];
  const formats: ('qcow2' | 'raw')[] = [];
  for (let count = random.between(1, 4); count > 0; count--) {
    const image = randomImage(random);
    const { file } = random.chance(0.3) ? damage(random, image) : image;
    sources.push(new SparseSource([{ hostOffset: 0, bytes: file }], file.length));
    formats.push('qcow2');
  }
  if (random.chance(0.4)) {
    const pieces = Array.from({ length: random.between(0, 5) }, () => ({
      hostOffset: SECTOR * random.below(200),
      bytes: new Uint8Array(SECTOR * random.between(1, 50)).fill(1),
    }));
    sources.push(new SparseSource(pieces, SECTOR * 300));
    formats.push('raw');
  }
  return { ...chainOf(sources, formats), complete: random.chance(0.8) };
}

describe('the guest map against each layer asked on its own', () => {
  const first = testSeed();
  it.each(Array.from({ length: testCases(60) }, (_, i) => first + i))('seed %i', async (seed) => {
    const random = new Random(seed);
    const chain = randomChain(random);
    const detail = chain.layers[0]!.detail;
    // Of a damaged snapshot table fewer may be left than the header says.
    const snapshots = detail.format === 'qcow2' ? readSnapshotTable(detail.metadata).snapshots.length : 0;
    const views: LayerView[] = [ACTIVE, ...(snapshots > 0 ? [{ kind: 'snapshot', index: random.below(snapshots) } as const] : [])];
    for (const mode of ['state', 'layer'] as const) {
      for (const view of views) {
        const map = new GuestMap(chain, mode, view);
        const wanted = reference(chain, mode, view, map);
        expect(await classesOf(map)).toEqual(wanted);
        const from = random.below(map.clusters + 1);
        const to = random.between(from, map.clusters);
        expect(await classesOf(map, from, to)).toEqual(wanted.subarray(from, to));
      }
    }
  });
});

describe('the guest map', () => {
  it('describes a cluster in one sentence', async () => {
    const random = new Random(3);
    const chain = randomChain(random);
    const map = new GuestMap(chain, 'state', ACTIVE);
    for (let cluster = 0; cluster < map.clusters; cluster++) {
      expect(await map.describe(cluster)).toMatch(new RegExp(`^Cluster ${cluster}, guest offset 0x[0-9a-f]+: \\w`));
    }
  });

  it('names the layers in its legend, as many as there are numbers', () => {
    const sources = Array.from({ length: 300 }, () => new SparseSource([], 65_536));
    const chain = chainOf(
      sources,
      sources.map(() => 'raw' as const),
    );
    const { classes } = new GuestMap(chain, 'layer', ACTIVE);
    expect([classes.length, classes[0]?.id, classes[1]?.label, classes.at(-1)?.id]).toEqual([
      255,
      'unallocated',
      '/memory/0.img',
      'unknown',
    ]);
  });

  it.each([
    ['an L2 table', 55n],
    ['an L1 table', 63n],
  ])('finds nothing in %s past 2^53-1', async (what, bit) => {
    const built = new Qcow2Builder({ size: 2 ** 20, clusterBits: 16 }).write(0, Uint8Array.of(1)).build();
    const pointer = what === 'an L1 table' ? 40 : built.layout.l1TableOffset;
    const l1 = { hostOffset: pointer, bytes: bigEndian(1n << bit, 8) };
    const chain = chainOf([sourceOf(built, [l1])], ['qcow2']);
    expect(new Set(await classesOf(new GuestMap(chain, 'state', ACTIVE)))).toEqual(new Set([GUEST_CLASS.unallocated]));
    expect(layerStatus(chain.layers[0]!).blockStatus(0, SECTOR).class).toBe('unallocated');
  });

  it('refuses a snapshot that is not there', () => {
    const chain = chainOf([new SparseSource([], 4096)], ['raw']);
    expect(() => new GuestMap(chain, 'state', { kind: 'snapshot', index: 0 })).toThrow(/snapshot/);
  });
});
