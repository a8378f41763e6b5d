import { describe, expect, test } from 'vitest';
import { openReader, type ChainReader } from '../../../src/engine/chain/chainReader';
import { layerStatus } from '../../../src/engine/chain/layerStatus';
import { Qcow2Builder, type BuilderOptions } from '../../../src/engine/formats/qcow2/builder';
import { MemorySource } from '../io/memorySource';
import { memoryChain, memoryImage } from './memoryChain';

const CLUSTER = 65536;
const filled = (value: number, length = CLUSTER): Buffer => Buffer.alloc(length, value);
const build = (options: Partial<BuilderOptions> = {}): Qcow2Builder => new Qcow2Builder({ size: 10 * CLUSTER, ...options });

/** First byte of each cluster, `?` where they are not all alike. */
function glance(reader: ChainReader, unit = CLUSTER): string {
  const marks: string[] = [];
  for (let offset = 0; offset < reader.size; offset += unit) {
    const bytes = Buffer.alloc(Math.min(unit, reader.size - offset), 0xee);
    reader.read(offset, bytes);
    marks.push(bytes.every((byte) => byte === bytes[0]) ? `${bytes[0]}` : '?');
  }
  return marks.join(' ');
}

function extents(reader: ChainReader): string[] {
  const found: string[] = [];
  for (let offset = 0; offset < reader.size;) {
    const { class: kind, length, depth } = reader.blockStatus(offset, reader.size - offset);
    found.push(`${offset / CLUSTER}+${length / CLUSTER} ${kind}${depth === null ? '' : `@${depth}`}`);
    offset += length;
  }
  return found;
}

describe('one image', () => {
  test('data, zeroes with and without a cluster, compressed clusters, and nothing', () => {
    const image = memoryImage(
      build()
        .write(0, filled(1))
        .write(1, filled(2))
        .zero(2)
        .zero(3, true)
        .writeCompressed(4, filled(3))
        .writeCompressed(5, filled(4))
        .build(),
    );
    const reader = openReader(memoryChain([image]));
    expect(glance(reader)).toBe('1 2 0 0 3 4 0 0 0 0');
    expect(extents(reader)).toEqual(['0+2 data@0', '2+1 zero@0', '3+1 zero@0', '4+1 compressed@0', '5+1 compressed@0', '6+4 unallocated']);
  });

  test('subclusters, each for itself', () => {
    const contents = Buffer.concat(Array.from({ length: 32 }, (_, index) => filled(index + 1, CLUSTER / 32)));
    const image = memoryImage(build({ extendedL2: true }).writeSubclusters(1, contents, 0b0011, 0b1100).build());
    const base = new MemorySource(filled(9, 10 * CLUSTER));
    const reader = openReader(memoryChain([image, base]));
    const cluster = Buffer.alloc(CLUSTER);
    reader.read(CLUSTER, cluster);
    const firsts = Array.from({ length: 6 }, (_, index) => cluster[(index * CLUSTER) / 32]);
    expect(firsts).toEqual([1, 2, 0, 0, 9, 9]);
  });

  test('a snapshot as it was', () => {
    const builder = build().write(0, filled(1)).write(1, filled(2)).writeCompressed(2, filled(3));
    builder.snapshot({ id: '1', name: 'then', dateSec: 0, uptimeSec: 0 });
    const chain = memoryChain([memoryImage(builder.write(0, filled(7)).discard(1).zero(2).build())]);
    expect(glance(openReader(chain))).toBe('7 0 0 0 0 0 0 0 0 0');
    expect(glance(openReader(chain, { view: { kind: 'snapshot', index: 0 } }))).toBe('1 2 3 0 0 0 0 0 0 0');
    expect(() => openReader(chain, { view: { kind: 'snapshot', index: 1 } })).toThrow(expect.objectContaining({ code: 'request.invalid' }));
  });

  test('reads any range, and none outside', () => {
    const reader = openReader(memoryChain([memoryImage(build().write(0, filled(1)).write(1, filled(2)).build())]));
    const bytes = Buffer.alloc(20);
    reader.read(CLUSTER - 10, bytes);
    expect([...bytes]).toEqual([...filled(1, 10), ...filled(2, 10)]);
    expect(() => reader.read(reader.size - 10, bytes)).toThrow(expect.objectContaining({ code: 'request.invalid' }));
    expect(() => reader.read(-1, bytes)).toThrow(expect.objectContaining({ code: 'request.invalid' }));
    expect(() => reader.read(Number.NaN, bytes)).toThrow(expect.objectContaining({ code: 'request.invalid' }));
    reader.read(reader.size, new Uint8Array(0));
  });
});

describe('a chain', () => {
  const base = memoryImage(
    build({ size: 6 * CLUSTER })
      .write(0, filled(1))
      .write(1, filled(2))
      .write(5, filled(3))
      .build(),
  );
  const middle = memoryImage(
    build({ clusterBits: 17, size: 4 * CLUSTER })
      .write(1, filled(4, 2 * CLUSTER))
      .build(),
  );
  const top = memoryImage(build().write(0, filled(5)).zero(1).build());

  test('each byte comes from the first layer that has it', () => {
    const reader = openReader(memoryChain([top, middle, base]));
    // The middle image ends before the base's last cluster, which is not seen through it.
    expect(glance(reader)).toBe('5 0 4 4 0 0 0 0 0 0');
    expect(extents(reader)).toEqual(['0+1 data@0', '1+1 zero@0', '2+2 data@1', '4+6 unallocated']);
    expect(glance(openReader(memoryChain([top, base])))).toBe('5 0 0 0 0 3 0 0 0 0');
    expect(glance(openReader(memoryChain([top, middle, base]), { from: 2 }))).toBe('1 2 0 0 0 3');
  });

  test('with hardly any memory reads the same', () => {
    const chain = memoryChain([top, middle, base]);
    expect(glance(openReader(chain, { cacheBytes: 0 }), 4096)).toBe(glance(openReader(chain), 4096));
  });

  test('of thousands of layers', () => {
    const empty = memoryImage(build().build());
    const chain = memoryChain([...Array.from({ length: 5000 }, () => empty), base]);
    const bytes = Buffer.alloc(10);
    openReader(chain).read(0, bytes);
    expect([...bytes]).toEqual([...filled(1, 10)]);
  });
});

describe('lenient status of damaged tables', () => {
  const built = build().write(0, filled(1)).write(1, filled(2)).build();
  const damaged = (change: (view: DataView, l1: number, l2: number) => void) => {
    const image = memoryImage(built);
    change(new DataView(image.bytes.buffer), built.layout.l1TableOffset, built.layout.l2TableOffsets[0]!);
    const [layer] = memoryChain([image]).layers;
    return { status: layerStatus(layer!), reader: openReader(memoryChain([image])) };
  };

  test('names the entry', () => {
    const { status, reader } = damaged((view, _l1, l2) => view.setBigUint64(l2 + 8, 0x8000000000012200n));
    expect(status.blockStatus(0, 10 * CLUSTER)).toMatchObject({ class: 'data', length: CLUSTER });
    const hostOffset = built.layout.l2TableOffsets[0]! + 8;
    expect(status.blockStatus(CLUSTER + 5, 10 * CLUSTER)).toEqual({
      class: 'unknown',
      length: CLUSTER - 5,
      hostOffset: null,
      compressed: null,
      problem: { structure: 'L2 table entry', hostOffset, message: 'Its host cluster offset 0x12200 is not aligned to a cluster.' },
    });
    expect(() => reader.read(CLUSTER, Buffer.alloc(1))).toThrow(
      expect.objectContaining({
        code: 'format.invalid',
        place: expect.objectContaining({ structure: 'L2 table entry', hostOffset }) as unknown,
      }),
    );
  });

  test('a table that lies nowhere', () => {
    const { status } = damaged((view, l1) => view.setBigUint64(l1, 0x8000000000012200n));
    expect(status.blockStatus(0, 100)).toMatchObject({ class: 'unknown', length: 100, problem: { structure: 'L1 table entry' } });
  });

  test('tables past the end of the file are empty, data there is zeroes', () => {
    const past = damaged((view, l1) => view.setBigUint64(l1, 0x00ffffffffff0000n));
    expect(past.status.blockStatus(0, 10 * CLUSTER)).toMatchObject({ class: 'unallocated', length: 10 * CLUSTER });
    const data = damaged((view, _l1, l2) => view.setBigUint64(l2, 0x00ffffffffff0000n));
    expect(glance(data.reader)).toBe('0 2 0 0 0 0 0 0 0 0');
  });

  test('a table that is its own data', () => {
    const self = damaged((view, _l1, l2) => view.setBigUint64(l2, BigInt(l2)));
    expect(glance(self.reader)).toBe('? 2 0 0 0 0 0 0 0 0');
  });
});
