import { describe, expect, it } from 'vitest';

import { layerStatus } from '../../../src/engine/chain/layerStatus';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { Inspector } from '../../../src/engine/inspect/inspector';
import { traceLayer } from '../../../src/engine/inspect/trace';
import type { Region } from '../../../src/protocol/inspect';
import { Random, testSeed } from '../../interop/random';
import { bigEndian, chainOf, inspect, sourceOf, SparseSource } from './memory';

const ACTIVE = { kind: 'active' } as const;
const CLUSTER = 4096;

function pattern(seed: number): Uint8Array {
  return Uint8Array.from({ length: CLUSTER }, (_, index) => (index * seed) & 0xff);
}

/** A raw base, a middle image and an active one, each with something of its own. */
function threeDeep(): Inspector {
  const base = new SparseSource([{ hostOffset: 0, bytes: pattern(3) }], 2 ** 19);
  const middle = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 })
    .write(1, pattern(5))
    .writeCompressed(2, new Uint8Array(CLUSTER).fill(9));
  const active = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).write(3, pattern(7)).zero(4);
  return new Inspector(chainOf([sourceOf(active.build()), sourceOf(middle.build()), base], ['qcow2', 'qcow2', 'raw']));
}

describe('locating a guest offset', () => {
  const inspector = threeDeep();
  const classes = async (address: string) =>
    (await inspector.locate(address, 'guest')).layers.map((layer) => `${layer.class}${layer.supplies ? '!' : ''}`);

  it('translates it down the chain', async () => {
    expect(await classes('c:0')).toEqual(['unallocated', 'unallocated', 'data!']);
    expect(await classes('c:1')).toEqual(['unallocated', 'data!', 'zero']);
    expect(await classes('c:2')).toEqual(['unallocated', 'compressed!', 'zero']);
    expect(await classes('c:3')).toEqual(['data!', 'unallocated', 'zero']);
    expect(await classes('c:4')).toEqual(['zero!', 'unallocated', 'zero']);
    // The base is half as long: past its end nobody supplies anything.
    expect(await classes('768K')).toEqual(['unallocated', 'unallocated', 'unallocated']);
  });

  it('gives host offsets of the very byte', async () => {
    const [first] = inspector.tablePage({ table: { kind: 'l2', view: ACTIVE }, first: 3, count: 1 }).rows;
    const { layers, region, understood, guestOffsets } = await inspector.locate('c:3+5', 'guest');
    expect(understood).toBe('guest cluster 3: guest offset 12293 bytes (0x3005)');
    expect(guestOffsets).toEqual([12293]);
    expect(layers[0]?.hostOffset).toBe((first?.targetOffset ?? 0) + 5);
    expect(region).toMatchObject({ class: 'data' });
  });

  it('goes back from the file to the disk', async () => {
    const { layers } = await inspector.locate('c:3+5', 'guest');
    const back = await inspector.locate(`h:${layers[0]?.hostOffset}`, 'guest');
    expect(back).toMatchObject({ space: 'host', guestOffsets: [12293], region: { class: 'data', label: 'data of guest offset 0x3000' } });
    expect(back.layers[0]).toMatchObject({ class: 'data', supplies: true });
    expect((await inspector.locate('hc:0', 'guest')).region?.label).toBe('header and header extensions');
  });

  it('refuses what lies outside in one sentence', async () => {
    await expect(inspector.locate('2M', 'guest')).rejects.toMatchObject({
      code: 'address.invalid',
      message: 'Guest offset 2 MiB (0x200000) is past the end of the disk, which has 1048576 bytes (0x100000).',
    });
    await expect(inspector.locate('h:1G', 'guest')).rejects.toMatchObject({
      message: expect.stringMatching(/^Host offset 1 GiB \(0x40000000\) is past the end of the file/) as string,
    });
  });

  it('refuses numbers that are no offsets', async () => {
    for (const offset of [NaN, -1, Infinity, 0.5]) {
      await expect(inspector.inspectCluster({ space: 'guest', offset, view: ACTIVE })).rejects.toMatchObject({ code: 'address.invalid' });
      await expect(inspector.hex(offset, 16)).rejects.toMatchObject({ code: 'request.invalid' });
    }
  });

  it('finds a shared cluster in every place that shares it', async () => {
    const builder = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 })
      .write(7, pattern(1))
      .snapshot({ id: '1', name: 'one', dateSec: 0, uptimeSec: 0 })
      .write(8, pattern(2));
    const shared = inspect(sourceOf(builder.build()));
    const { layers } = await shared.locate('c:7', 'guest');
    const cluster = await shared.inspectCluster({ space: 'host', offset: layers[0]?.hostOffset ?? 0, view: ACTIVE });
    expect(cluster).toMatchObject({ refcount: 2, references: { count: 2 }, class: 'data' });
    expect(cluster.references?.places.map(({ label }) => label)).toEqual([
      'guest cluster 7 (0x7000)',
      'guest cluster 7 (0x7000) of snapshot 0',
    ]);
  });
});

describe('the trace of a guest offset', () => {
  it("agrees with the block layer's status for random images", async () => {
    const random = new Random(testSeed());
    for (let round = 0; round < 20; round++) {
      const clusterBits = random.between(9, 16);
      const extendedL2 = clusterBits >= 14 && random.chance(0.5);
      const size = 60 * 2 ** clusterBits;
      const builder = new Qcow2Builder({ size, clusterBits, extendedL2 });
      for (let step = 0; step < 30; step++) {
        const cluster = random.below(60);
        const contents = new Uint8Array(2 ** clusterBits).fill(step);
        const kind = random.below(extendedL2 ? 5 : 4);
        if (kind === 0) {
          builder.write(cluster, contents);
        } else if (kind === 1) {
          builder.writeCompressed(cluster, contents);
        } else if (kind === 2) {
          builder.zero(cluster, random.chance(0.5));
        } else if (kind === 3) {
          builder.discard(cluster);
        } else {
          const allocated = random.bits();
          builder.writeSubclusters(cluster, contents, allocated, (random.bits() & ~allocated) >>> 0);
        }
      }
      const { layers } = inspect(sourceOf(builder.build()));
      const status = layerStatus(layers[0]!.layer);
      for (let probe = 0; probe < 100; probe++) {
        const guestOffset = random.below(size);
        const trace = traceLayer(layers[0]!, guestOffset, ACTIVE);
        const extent = status.blockStatus(guestOffset, 1);
        expect({ class: trace.class, at: guestOffset }, `seed ${random.seed}`).toEqual({ class: extent.class, at: guestOffset });
        if (extent.class === 'data') {
          expect(trace.hostOffset, `seed ${random.seed}`).toBe(extent.hostOffset);
        } else if (extent.compressed) {
          expect(trace.extent, `seed ${random.seed}`).toEqual({
            hostOffset: extent.compressed.hostOffset,
            length: extent.compressed.length,
          });
        }
      }
    }
  });
});

describe('inspecting a cluster', () => {
  const inspector = threeDeep();

  it('shows every entry on the way, in every file on the way', async () => {
    const cluster = await inspector.inspectCluster({ space: 'guest', offset: CLUSTER + 100, view: ACTIVE });
    expect(cluster.title).toBe('Guest cluster 1 (0x1000)');
    expect(cluster.path.map(({ title, file }) => `${title} in ${file}`)).toEqual([
      'L1 entry 0 in /memory/0.img',
      'L2 entry 1 of table 0 in /memory/0.img',
      'L1 entry 0 in /memory/1.img',
      'L2 entry 1 of table 0 in /memory/1.img',
      'Refcount table entry 0 in /memory/1.img',
      expect.stringMatching(/^Refcount of cluster \d+ in \/memory\/1\.img$/),
    ]);
    expect(cluster).toMatchObject({
      guest: { guestOffset: CLUSTER, length: CLUSTER },
      host: { length: CLUSTER, path: '/memory/1.img' },
      class: 'data',
      refcount: 1,
      references: { count: 1 },
    });
    expect(cluster.bytes).toEqual(pattern(5));
    expect(cluster.path[3]?.decoded).toMatch(/^host_cluster_offset 0x[0-9a-f]+, OFLAG_COPIED$/);
  });

  it('decompresses, and says so', async () => {
    const cluster = await inspector.inspectCluster({ space: 'guest', offset: 2 * CLUSTER, view: ACTIVE });
    expect(cluster).toMatchObject({ class: 'compressed', bytesNote: 'Decompressed (zlib).' });
    expect(cluster.bytes).toEqual(new Uint8Array(CLUSTER).fill(9));
  });

  it('has no bytes where there are only zeroes', async () => {
    const cluster = await inspector.inspectCluster({ space: 'guest', offset: 4 * CLUSTER, view: ACTIVE });
    expect(cluster).toMatchObject({ class: 'zero', bytes: null, bytesNote: 'It reads as zeroes.', host: null, refcount: null });
  });

  it('shows what drivers refuse, and says why they do', async () => {
    const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).write(0, pattern(3)).build();
    const unknownFeature = sourceOf(image, [{ hostOffset: 72, bytes: bigEndian(1n << 50n, 8) }]);
    const cluster = await inspect(unknownFeature).inspectCluster({ space: 'guest', offset: 0, view: ACTIVE });
    expect(cluster.bytes).toEqual(pattern(3));
    expect(cluster.bytesNote).toMatch(/^Read past what drivers refuse: .*Incompatible features are set/);
  });

  it('does not show encrypted bytes', async () => {
    const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).write(0, pattern(3)).build();
    const encrypted = inspect(sourceOf(image, [{ hostOffset: 32, bytes: bigEndian(1, 4) }]));
    const cluster = await encrypted.inspectCluster({ space: 'guest', offset: 0, view: ACTIVE });
    expect(cluster).toMatchObject({ class: 'data', bytes: null, bytesNote: 'The data is encrypted.', refcount: 1 });
  });

  it('puts mixed subclusters together from the whole chain', async () => {
    const size = 2 ** 20;
    const base = new SparseSource([{ hostOffset: 0, bytes: new Uint8Array(16384).fill(1) }], size);
    const active = new Qcow2Builder({ size, clusterBits: 14, extendedL2: true }).writeSubclusters(
      0,
      new Uint8Array(16384).fill(2),
      0b0010,
      0b0100,
    );
    const mixed = new Inspector(chainOf([sourceOf(active.build()), base], ['qcow2', 'raw']));
    const at = (subcluster: number) => mixed.inspectCluster({ space: 'guest', offset: subcluster * 512, view: ACTIVE });
    const { bytes, subclusters, class: found } = await at(1);
    expect({ found, subclusters }).toEqual({ found: 'data', subclusters: { allocated: 2, zero: 4 } });
    expect([0, 511, 512, 1023, 1024, 1535, 1536].map((index) => bytes?.[index])).toEqual([1, 1, 2, 2, 0, 0, 1]);
    expect((await at(2)).class).toBe('zero');
    expect((await at(3)).host?.path).toBe('/memory/1.img');
  });

  it('works from the file, too', async () => {
    const page = await inspector.inspectCluster({ space: 'host', offset: 0, view: ACTIVE });
    expect(page).toMatchObject({ title: 'Host cluster 0 (0x0): header and header extensions', class: 'header', guest: null, refcount: 1 });
    expect(page.bytes?.subarray(0, 4)).toEqual(Uint8Array.of(0x51, 0x46, 0x49, 0xfb));
  });

  it('names the commands that show the same', async () => {
    const { commands } = await inspector.inspectCluster({ space: 'guest', offset: CLUSTER, view: ACTIVE });
    expect(commands).toEqual([
      'qemu-img map --output=json -f qcow2 --start-offset=4096 --max-length=4096 /memory/0.img',
      "qemu-io -r -f qcow2 -c 'read -v 4096 4096' /memory/0.img",
      expect.stringMatching(/^qemu-io -r -f raw -c 'read -v \d+ 4096' \/memory\/1\.img$/),
    ]);
  });
});

describe('naming the bytes of the file', () => {
  const builder = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 })
    .write(0, pattern(1))
    .writeCompressed(1, new Uint8Array(CLUSTER).fill(3))
    .snapshot({ id: '1', name: 'snap', dateSec: 0, uptimeSec: 0 })
    .write(0, pattern(2))
    .bitmap({ name: 'bits', granularityBits: 12, flags: 0, dirty: [{ offset: 0, length: 1 }] });
  const leaked = builder.leak(pattern(4));
  const image = builder.build();
  const source = sourceOf(image, [], image.layout.fileSize + CLUSTER);
  const inspector = inspect(source);

  it('leaves nothing without a name', async () => {
    const { bytes, regions } = await inspector.hex(0, image.layout.fileSize + CLUSTER);
    expect(bytes).toHaveLength(image.layout.fileSize + CLUSTER);
    const short = ({ hostOffset, length, class: found, label }: Region) => `${hostOffset / CLUSTER}+${length}: ${found}: ${label}`;
    expect(regions.map(short)).toMatchInlineSnapshot(`
      [
        "0+4096: header: header and header extensions",
        "1+4096: data: data of guest offset 0x0 of snapshot 1 'snap'",
        "2+512: compressed: compressed data of guest offset 0x1000",
        "2.125+3584: compressed: unused rest of a cluster",
        "3+4096: data: data of guest offset 0x0",
        "4+4096: leaked: leaked: refcount 1, nothing refers to it",
        "5+4096: l2: L2 table 0 (of L1 entry 0)",
        "6+4096: l2: L2 table 0 of snapshot 1 'snap' (of L1 entry 0)",
        "7+4096: l1: L1 table",
        "8+4096: l1: L1 table of snapshot 1 'snap'",
        "9+4096: snapshotTable: snapshot table",
        "10+4096: bitmap: bits 0 of bitmap 'bits'",
        "11+4096: bitmap: table of bitmap 'bits'",
        "12+4096: bitmap: bitmap directory",
        "13+4096: refcountTable: refcount table",
        "14+4096: refcountBlock: refcount block 0 (clusters from 0x0)",
        "15+4096: free: free",
      ]
    `);
    expect(regions.find(({ class: found }) => found === 'leaked')?.hostOffset).toBe(leaked);
  });

  it('names metadata without reading an L2 table', async () => {
    const big = new Qcow2Builder({ size: 2 ** 40 });
    for (let table = 0; table < 100; table++) {
      big.write(table * 8192, Uint8Array.of(1));
    }
    const built = big.build();
    const file = sourceOf(built);
    const names = inspect(file);
    file.bytesRead = 0;
    const { regions } = await names.hex(built.layout.l2TableOffsets[50] ?? 0, 65536);
    expect(regions.map(({ label }) => label)).toEqual(['L2 table 50 (of L1 entry 50)']);
    expect(file.bytesRead).toBeLessThan(512 * 1024);
  });

  it('remembers what a pass over all L2 tables found', async () => {
    const { layers } = await inspector.locate('c:0', 'guest');
    await inspector.hex(layers[0]?.hostOffset ?? 0, 16);
    source.bytesRead = 0;
    const { regions } = await inspector.hex((layers[0]?.hostOffset ?? 0) + 16, 16);
    expect(regions[0]?.label).toBe('data of guest offset 0x0');
    // The page, the top tables, and single refcounts: no L2 table.
    expect(source.bytesRead).toBeLessThan(CLUSTER * 6);
  });

  it('finds bytes, over the seams of its own pieces and behind holes', async () => {
    const far = 3 * 256 * 1024 - 2;
    const file = new SparseSource([{ hostOffset: far, bytes: Uint8Array.of(0, 0xca, 0xfe, 0xba, 0xbe) }], 2 ** 42);
    const raw = inspect(file, 'raw');
    expect(await raw.findBytes(Uint8Array.of(0xca, 0xfe, 0xba, 0xbe), 0)).toBe(far + 1);
    expect(await raw.findBytes(Uint8Array.of(0, 0, 0xca, 0xfe), 0)).toBe(far - 1);
    expect(await raw.findBytes(Uint8Array.of(0xca, 0xfe), far + 2)).toBeNull();
    await expect(raw.findBytes(new Uint8Array(0), 0)).rejects.toMatchObject({ code: 'request.invalid' });
    expect(file.bytesRead).toBeLessThan(2 ** 25);
  });
});
