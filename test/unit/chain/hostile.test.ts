import { describe, expect, test } from 'vitest';
import { readDetail, virtualSizeOf } from '../../../src/engine/chain/detail';
import { openReader } from '../../../src/engine/chain/chainReader';
import { layerStatus } from '../../../src/engine/chain/layerStatus';
import { summarizeImage } from '../../../src/engine/chain/summary';
import { EngineError } from '../../../src/engine/errors';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { QCOW2_HEADER } from '../../../src/engine/formats/qcow2/structures';
import { QED_HEADER } from '../../../src/engine/formats/qed/structures';
import { encode } from '../../../src/engine/layout/codec';
import { fieldLength, type Structure } from '../../../src/engine/layout/fields';
import { Random, testSeed } from '../../interop/random';
import { MemorySource } from '../io/memorySource';
import { memoryChain, memoryImage } from './memoryChain';

/* Whatever the bytes, an image is summarised, its allocation is told, and reading it gives bytes or an EngineError. */

const usage = { known: true, inUse: false, writing: false, holders: [] };

/** A moderately rich qcow2 image. */
function qcow2(random: Random): MemorySource {
  const version = random.chance(0.3) ? 2 : 3;
  const clusterBits = random.pick([9, 12, 14, 16]);
  const extendedL2 = version === 3 && clusterBits >= 14 && random.chance(0.4);
  const builder = new Qcow2Builder({
    version,
    clusterBits,
    extendedL2,
    size: 40 * 2 ** clusterBits + 512,
    compression: version === 3 && random.chance(0.5) ? 'zstd' : 'zlib',
    refcountOrder: version === 2 ? 4 : random.between(4, 6),
    ...(random.chance(0.3) ? { backing: { name: 'base', format: 'raw' } } : {}),
  });
  const contents = Buffer.alloc(2 ** clusterBits, 0x61);
  builder.write(0, contents).write(1, contents).write(5, contents).writeCompressed(6, contents).writeCompressed(7, contents);
  if (version === 3) {
    builder.zero(8).zero(9, true);
    builder.bitmap({ name: 'bitmap', granularityBits: 16, flags: 0, dirty: [{ offset: 0, length: 512 }] });
  }
  builder.snapshot({ id: '1', name: 'snapshot', dateSec: 1, uptimeSec: 1 });
  return memoryImage(builder.write(0, contents).build(), 'hostile');
}

function qed(random: Random): MemorySource {
  const cluster = 4096;
  const bytes = new Uint8Array(12 * cluster);
  bytes.set(
    encode(QED_HEADER, {
      magic: 0x00444551,
      cluster_size: cluster,
      table_size: 2,
      header_size: 1,
      features: random.chance(0.3) ? 5n : 0n,
      l1_table_offset: BigInt(cluster),
      image_size: BigInt(20 * cluster),
      backing_filename_offset: 64,
      backing_filename_size: 4,
    }),
  );
  const view = new DataView(bytes.buffer);
  view.setBigUint64(cluster, BigInt(3 * cluster), true);
  [5n * 4096n, 6n * 4096n, 1n, 0n, 7n * 4096n].forEach((entry, index) => view.setBigUint64(3 * cluster + index * 8, entry, true));
  return new MemorySource(bytes, 'hostile');
}

/** Does all that can be done with an image; throws what is no EngineError. Returns how reading ended. */
function exercise(source: MemorySource, format: 'qcow2' | 'qed'): string {
  const detail = readDetail(source, format);
  summarizeImage({ source, detail, usage, readOnly: false, virtualSize: virtualSizeOf(source, detail) });
  const chain = memoryChain([source], format);
  const status = layerStatus(chain.layers[0]!);
  let guestOffset = 0;
  for (let step = 0; step < 300 && guestOffset < status.size; step++) {
    const { length, class: kind, problem } = status.blockStatus(guestOffset, status.size - guestOffset);
    expect(length).toBeGreaterThan(0);
    expect(guestOffset + length).toBeLessThanOrEqual(status.size);
    expect(problem !== null).toBe(kind === 'unknown');
    guestOffset += length;
  }
  try {
    const reader = openReader(chain);
    const bytes = Buffer.alloc(Math.min(reader.size, 128 * 1024));
    reader.read(0, bytes);
    reader.read(reader.size - bytes.length, bytes);
    return 'read';
  } catch (error) {
    if (error instanceof EngineError) {
      expect(error.message.length).toBeGreaterThan(10);
      return error.code;
    }
    throw error;
  }
}

const EXTREMES = [
  0n,
  1n,
  2n,
  7n,
  0x1ffn,
  0x200n,
  0xffffn,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n - 1n,
  2n ** 56n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
];

function withField(source: MemorySource, declared: Structure, name: string, value: bigint): void {
  const field = declared.fields.find((candidate) => candidate.name === name)!;
  const bytes = fieldLength(field);
  const cut = BigInt.asUintN(bytes * 8, value);
  for (let index = 0; index < bytes; index++) {
    const shift = BigInt(8 * (declared.order === 'big' ? bytes - 1 - index : index));
    source.bytes[field.offset + index] = Number((cut >> shift) & 0xffn);
  }
}

describe('every header field at its extremes', () => {
  test.each(QCOW2_HEADER.fields.map(({ name }) => name))('qcow2 %s', (name) => {
    for (const value of EXTREMES) {
      const source = qcow2(new Random(3));
      withField(source, QCOW2_HEADER, name, value);
      exercise(source, 'qcow2');
    }
  });

  test.each(QED_HEADER.fields.map(({ name }) => name))('QED %s', (name) => {
    for (const value of EXTREMES) {
      const source = qed(new Random(3));
      withField(source, QED_HEADER, name, value);
      exercise(source, 'qed');
    }
  });
});

describe('random damage', () => {
  const seed = testSeed();
  test.each([
    ['qcow2', qcow2],
    ['qed', qed],
  ] as const)('%s', (format, make) => {
    const ends = new Map<string, number>();
    for (let round = 0; round < 1500; round++) {
      const random = new Random(seed + round);
      const source = make(random);
      const reach = random.pick([128, 4096, source.size]);
      for (let count = random.between(1, 30); count > 0; count--) {
        source.bytes[random.below(Math.min(reach, source.size))] = random.pick([0, 1, 0x80, 0xff, random.below(256)]);
      }
      const cut = random.chance(0.2) ? random.below(source.size) : source.size;
      try {
        const end = exercise(new MemorySource(source.bytes.slice(0, cut), 'hostile'), format);
        ends.set(end, (ends.get(end) ?? 0) + 1);
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      }
    }
    // The damage is neither harmless nor fatal every time, or this tests little.
    expect(ends.get('read')).toBeGreaterThan(50);
    expect(ends.get('format.invalid')).toBeGreaterThan(50);
  });

  test('noise', () => {
    for (let round = 0; round < 300; round++) {
      const random = new Random(seed + round);
      const bytes = Uint8Array.from({ length: random.below(5000) }, () => random.below(256));
      for (const format of ['qcow2', 'qed'] as const) {
        exercise(new MemorySource(bytes, 'noise'), format);
      }
    }
  });
});

test('a table of the largest size that the file does not hold costs no memory', () => {
  const sources = Array.from({ length: 200 }, () => {
    const source = qcow2(new Random(3));
    withField(source, QCOW2_HEADER, 'l1_size', 4n * 1024n * 1024n);
    return source;
  });
  const before = process.memoryUsage().arrayBuffers;
  const chain = memoryChain(sources);
  openReader(chain).read(20 * 2 ** 9, Buffer.alloc(512));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
});
