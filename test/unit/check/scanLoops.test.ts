import { describe, expect, it } from 'vitest';
import { BUFFER_BYTES, makeScanLoops, type ScanLoops, type ScanShape } from '../../../src/engine/check/scanLoops';
import { Random } from '../../interop/random';

const FIRST = 64;
const LENGTH = 4000;
const FILE = 6000;

/** What the loops should have seen, entry by entry. */
interface Expectation {
  readonly allocated: number;
  readonly fragmented: number;
  /** Cluster in the window that the entry marks; -1 when it marks none and is passed over; -2 when it needs a closer look. */
  readonly clusters: readonly number[];
}

function expectation(entries: readonly bigint[], shape: ScanShape): Expectation {
  const { littleEndian, clusterBits } = shape;
  const clusterSize = 1n << BigInt(clusterBits);
  let follows: bigint | null = null;
  let allocated = 0;
  let fragmented = 0;
  const clusters = entries.map((entry) => {
    if (entry <= 1n) {
      return -1;
    }
    const offset = littleEndian ? entry : entry & 0x00fffffffffffe00n;
    if (!littleEndian && ((entry >> 62n) & 1n) === 1n) {
      return -2;
    }
    if (offset === 0n) {
      return -2;
    }
    allocated++;
    if (follows !== null && offset !== follows) {
      fragmented++;
    }
    follows = BigInt.asUintN(64, offset + clusterSize);
    const cluster = offset / clusterSize;
    if (offset % clusterSize !== 0n || (!littleEndian && (entry & 0x3f000000000001fen) !== 0n) || cluster >= BigInt(FILE)) {
      return -2;
    }
    return cluster < FIRST || cluster >= FIRST + LENGTH ? -1 : Number(cluster) - FIRST;
  });
  return { allocated, fragmented, clusters };
}

function bit(loops: ScanLoops, word: 0 | 1, x: number): boolean {
  return (((loops.map[(x >>> 5) * 2 + word] ?? 0) >>> (x & 31)) & 1) !== 0;
}

/** Tables as they come: runs, scattered clusters, zeroes, and every kind of broken entry. */
function randomTable(random: Random, { littleEndian, clusterBits }: ScanShape, length: number): bigint[] {
  const entries: bigint[] = [];
  const shift = BigInt(clusterBits);
  const copied = (): bigint => (littleEndian ? 0n : random.chance(0.7) ? 1n << 63n : 0n);
  const wild = random.chance(0.5) ? 0.02 : 0.3;
  while (entries.length < length) {
    const cluster = BigInt(random.below(random.chance(0.9) ? FILE : FILE * 2));
    const run = Math.min(random.chance(0.3) ? random.between(1, 300) : random.between(1, 4), length - entries.length);
    const flags = copied() | (!littleEndian && random.chance(0.1) ? 1n : 0n);
    if (random.chance(wild)) {
      const nasty = [
        0xffffffffffffffffn,
        1n << 63n,
        1n << 62n,
        (BigInt(random.bits()) << 32n) | BigInt(random.bits()),
        (cluster << shift) + 512n,
        (0x00fffffffffffe00n >> shift) << shift,
        BigInt(random.below(4)),
      ];
      const entry = random.pick(nasty) ?? 0n;
      for (let i = 0; i < run; i++) {
        entries.push(BigInt.asUintN(64, entry));
      }
    } else if (random.chance(0.2)) {
      const entry = random.chance(0.5) ? 0n : 1n;
      for (let i = 0; i < run; i++) {
        entries.push(entry);
      }
    } else {
      for (let i = 0n; i < BigInt(run); i++) {
        entries.push(flags | ((cluster + i) << shift));
      }
    }
  }
  return entries;
}

describe.each(['wasm', 'js'] as const)('the loops in %s', (use) => {
  it.each([
    { clusterBits: 9, littleEndian: false },
    { clusterBits: 16, littleEndian: false },
    { clusterBits: 21, littleEndian: false },
    { clusterBits: 12, littleEndian: true },
    { clusterBits: 26, littleEndian: true },
  ])('mark plain entries and set aside all others ($clusterBits bits, little-endian $littleEndian)', ({ clusterBits, littleEndian }) => {
    const shape = { clusterBits, littleEndian, fileClusters: FILE, largestWindow: LENGTH };
    const loops = makeScanLoops(shape, use);
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      loops.moveTo(FIRST, LENGTH);
      for (let x = 0; x < LENGTH; x++) {
        if (!littleEndian && random.chance(0.7)) {
          loops.map[(x >>> 5) * 2] = (loops.map[(x >>> 5) * 2] ?? 0) | (1 << (x & 31));
        }
      }
      const entries = randomTable(random, shape, 64 * random.between(1, 40));
      const wanted = expectation(entries, shape);
      const { allocated, fragmented } = loops;
      const aside = scanInPieces(loops, random, entries, littleEndian);
      const context = `seed ${seed}`;
      expect({ allocated: loops.allocated - allocated, fragmented: loops.fragmented - fragmented }, context).toEqual({
        allocated: wanted.allocated,
        fragmented: wanted.fragmented,
      });
      const marked = new Set<number>();
      const wrong: string[] = [];
      wanted.clusters.forEach((cluster, index) => {
        if (cluster === -2 && !aside.has(index)) {
          wrong.push(`entry ${index} needs a closer look`);
        } else if (cluster >= 0 && !aside.has(index)) {
          if (marked.has(cluster) || bit(loops, 0, cluster) !== ((entries[index] ?? 0n) >> 63n === 1n)) {
            wrong.push(`entry ${index} should have been set aside`);
          }
          marked.add(cluster);
        }
      });
      for (let x = 0; x < LENGTH; x++) {
        if (bit(loops, 1, x) !== marked.has(x)) {
          wrong.push(`cluster ${x} is ${marked.has(x) ? 'not ' : ''}marked`);
        }
      }
      expect(wrong, context).toEqual([]);
    }
  });

  it('set aside nothing of a table that is in order', () => {
    const loops = makeScanLoops({ clusterBits: 16, littleEndian: false, fileClusters: FILE, largestWindow: FILE }, use);
    loops.moveTo(0, FILE);
    loops.map.fill(-1);
    for (let i = 1; i < loops.map.length; i += 2) {
      loops.map[i] = 0;
    }
    const entries = Array.from({ length: 4096 }, (_, i) => (i % 7 === 3 ? 0n : i % 11 === 5 ? 1n : (1n << 63n) | (BigInt(i + 100) << 16n)));
    put(loops, entries, 0, false);
    loops.begin();
    expect(loops.scan(0, entries.length)).toBe(0);
    expect(loops.allocated).toBe(entries.filter((entry) => entry > 1n).length);
  });

  it('pack refcounts into bits and tell when some are neither 0 nor 1', () => {
    const random = new Random(7);
    const loops = makeScanLoops({ clusterBits: 16, littleEndian: false, fileClusters: FILE, largestWindow: FILE }, use);
    for (const most of [1, 2, 0xffff]) {
      loops.moveTo(0, FILE);
      const refcounts = Array.from({ length: 32 * 50 }, () => (random.chance(0.8) ? random.below(2) : random.below(most + 1)));
      refcounts.forEach((refcount, i) => {
        loops.view.setUint16(128 + i * 2, refcount);
      });
      const different = loops.pack16(128, refcounts.length * 2, 3);
      expect(different).toBe(refcounts.some((refcount) => refcount > 1));
      expect(refcounts.map((_, i) => bit(loops, 0, 96 + i))).toEqual(refcounts.map((refcount) => refcount === 1));
    }
  });
});

function put(loops: ScanLoops, entries: readonly bigint[], at: number, littleEndian: boolean): void {
  entries.forEach((entry, i) => {
    loops.view.setBigUint64(at + i * 8, entry, littleEndian);
  });
}

/** A table in one or several calls, as when it is larger than the buffer. Returns the positions that were set aside. */
function scanInPieces(loops: ScanLoops, random: Random, entries: readonly bigint[], littleEndian: boolean): Set<number> {
  const aside = new Set<number>();
  loops.begin();
  for (let first = 0; first < entries.length;) {
    const count = random.chance(0.5) ? entries.length - first : Math.min(entries.length - first, 2 * random.between(1, 200));
    const at = random.chance(0.5) ? 0 : BUFFER_BYTES - count * 8;
    put(loops, entries.slice(first, first + count), at, littleEndian);
    const slow = loops.scan(at, count);
    for (let i = 0; i < slow; i++) {
      const position = loops.slow[i] ?? 0;
      aside.add(first + position);
    }
    first += count;
  }
  return aside;
}
