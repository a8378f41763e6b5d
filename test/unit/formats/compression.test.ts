import * as zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompressCluster } from '../../../src/engine/formats/qcow2/compression';
import { zstdFrame } from '../../../src/engine/formats/qcow2/zstdFrame';
import { Random, testSeed } from '../../interop/random';

const CLUSTER = 65536;

/** Something between text and noise. */
function contents(length: number, seed = 1): Buffer {
  const random = new Random(seed);
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) {
    const bits = random.bits();
    bytes[index] = bits % 5 === 0 ? bits >>> 8 : 0x41 + (bits & 3);
  }
  return bytes;
}

/** `toEqual` looks at each of two million elements. */
function expectBytes(actual: Uint8Array | null, expected: Buffer): void {
  expect(actual && expected.equals(actual)).toBe(true);
}

const noise = contents(300, 77);
const deflate = (bytes: Uint8Array, windowBits = 12): Buffer => zlib.deflateRawSync(bytes, { windowBits });

describe('deflate', () => {
  test.each([512, 4096, CLUSTER, 2 ** 21])('a cluster of %i bytes, with others behind it', (size) => {
    const bytes = contents(size);
    const input = Buffer.concat([deflate(bytes), noise]);
    expectBytes(decompressCluster('zlib', input, size), bytes);
  });

  test('too little', () => {
    expect(decompressCluster('zlib', deflate(contents(CLUSTER - 1)), CLUSTER)).toBeNull();
    expect(decompressCluster('zlib', deflate(contents(CLUSTER)).subarray(0, 1000), CLUSTER)).toBeNull();
    expect(decompressCluster('zlib', new Uint8Array(0), CLUSTER)).toBeNull();
  });

  test('a stream that goes on is cut at the cluster, however far it would expand', () => {
    const bytes = contents(CLUSTER);
    expectBytes(decompressCluster('zlib', deflate(Buffer.concat([bytes, contents(100_000, 2)])), CLUSTER), bytes);
    const bomb = deflate(Buffer.alloc(512 * 1024 * 1024));
    const before = process.memoryUsage().rss;
    expectBytes(decompressCluster('zlib', bomb, CLUSTER), Buffer.alloc(CLUSTER));
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  });

  test('what breaks behind the cluster does not matter', () => {
    const bytes = contents(CLUSTER);
    // A flushed stream whose next block is of the reserved type.
    const open = Buffer.concat([
      zlib.deflateRawSync(bytes, { windowBits: 12, finishFlush: zlib.constants.Z_FULL_FLUSH }),
      Buffer.from([7, 7, 7]),
    ]);
    expect(() => zlib.inflateRawSync(open)).toThrow();
    expectBytes(decompressCluster('zlib', open, CLUSTER), bytes);
  });

  test('a stream that reaches further back than QEMU’s writer does is followed, as by QEMU’s reader', () => {
    const wide = Buffer.concat([contents(8192, 3), contents(8192, 3), Buffer.alloc(CLUSTER - 16_384)]);
    expectBytes(decompressCluster('zlib', deflate(wide, 15), CLUSTER), wide);
  });
});

describe('zstd', () => {
  const compress = (bytes: Uint8Array, params: Record<number, number> = {}): Buffer => zlib.zstdCompressSync(bytes, { params });

  test.each([512, 4096, CLUSTER, 2 ** 21])('a cluster of %i bytes, with others behind it', (size) => {
    const bytes = contents(size);
    const frame = compress(bytes);
    const input = Buffer.concat([frame, noise]);
    expect(zstdFrame(input)?.length).toBe(frame.length);
    expectBytes(decompressCluster('zstd', input, size), bytes);
  });

  test('runs, raw blocks, checksums', () => {
    const { ZSTD_c_checksumFlag, ZSTD_c_contentSizeFlag } = zlib.constants;
    const random = Buffer.from(Array.from({ length: CLUSTER }, (_, index) => (index * 2654435761) >>> 13).map((value) => value & 0xff));
    for (const bytes of [Buffer.alloc(CLUSTER), Buffer.alloc(CLUSTER, 7), random, contents(CLUSTER)]) {
      for (const params of [{}, { [ZSTD_c_checksumFlag]: 1 }, { [ZSTD_c_contentSizeFlag]: 0 }]) {
        expectBytes(decompressCluster('zstd', Buffer.concat([compress(bytes, params), noise]), CLUSTER), bytes);
      }
    }
  });

  test('frame after frame', () => {
    const bytes = contents(CLUSTER);
    const frames = [bytes.subarray(0, 10_000), bytes.subarray(10_000)].map((part) => compress(part));
    expectBytes(decompressCluster('zstd', Buffer.concat([...frames, noise]), CLUSTER), bytes);
  });

  test('too little, too much, cut, and none', () => {
    expect(decompressCluster('zstd', compress(contents(CLUSTER - 1)), CLUSTER)).toBeNull();
    expect(decompressCluster('zstd', compress(contents(CLUSTER + 1)), CLUSTER)).toBeNull();
    const frame = compress(contents(CLUSTER));
    expect(decompressCluster('zstd', frame.subarray(0, frame.length - 1), CLUSTER)).toBeNull();
    expect(decompressCluster('zstd', noise, CLUSTER)).toBeNull();
    expect(decompressCluster('zstd', new Uint8Array(0), CLUSTER)).toBeNull();
  });

  test('a window of gigabytes is not allocated', () => {
    const bytes = contents(CLUSTER);
    const frame = compress(bytes, { [zlib.constants.ZSTD_c_contentSizeFlag]: 0 });
    const { windowByte = -1 } = zstdFrame(frame) ?? {};
    expect(windowByte).toBeGreaterThan(0);
    frame[windowByte] = 0xff;
    expectBytes(decompressCluster('zstd', frame, CLUSTER), bytes);
  });
});

test('random bytes and random damage decode to nothing or to a cluster', () => {
  const seed = testSeed();
  const random = new Random(seed);
  for (let round = 0; round < 3000; round++) {
    const compression = random.chance(0.5) ? 'zlib' : 'zstd';
    const bytes = contents(4096, random.bits());
    const input = compression === 'zlib' ? deflate(bytes) : Buffer.from(zlib.zstdCompressSync(bytes));
    for (let count = random.between(1, 20); count > 0; count--) {
      input[random.below(random.chance(0.5) ? 20 : input.length)] = random.below(256);
    }
    const output = decompressCluster(compression, input, 4096);
    expect(output === null || output.length === 4096, `seed ${seed}, round ${round}`).toBe(true);
  }
});

test('an unknown method says so', () => {
  expect(() => decompressCluster('unknown', noise, CLUSTER)).toThrow(expect.objectContaining({ code: 'format.unsupported' }));
});
