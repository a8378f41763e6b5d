import kernel from './scan.wat';

/*
 * The inner loops of a check over millions of table entries: a WebAssembly kernel (scan.wat) and, where that cannot run, the same in
 * JavaScript. Both work in one piece of memory: the list of entries that need a closer look, the buffer that tables are read into, and
 * the map of one window of host clusters.
 */

/** Bytes that are read at once; the page cache hands out more slowly in larger pieces. */
export const BUFFER_BYTES = 256 * 1024;

const SLOW_AT = 0;
const BUFFER_AT = (BUFFER_BYTES / 8) * 4;
const MAP_AT = BUFFER_AT + BUFFER_BYTES;

/** Clusters whose state shares a pair of words of the map. */
export const CLUSTERS_PER_PAIR = 32;

/** What the loops need to know of the image. */
export interface ScanShape {
  readonly clusterBits: number;
  /** QED: little-endian entries without flags; otherwise qcow2's standard 8-byte L2 entries. */
  readonly littleEndian: boolean;
  /** Host clusters of the whole file. An entry that points there but not into the window is counted and left alone. */
  readonly fileClusters: number;
  /** Clusters in the largest window that will be looked at, below 2^31. */
  readonly largestWindow: number;
}

export interface ScanLoops {
  readonly kind: 'wasm' | 'js';
  /** Where tables are read into. */
  readonly buffer: Uint8Array;
  /** The same bytes as a view. */
  readonly view: DataView;
  /**
   * Pairs of words, one pair for 32 clusters of the window, cluster 0 in bit 0: the first word has the clusters whose refcount is
   * exactly one on the disk, the second those that something refers to.
   */
  readonly map: Int32Array;
  /** Looks at another window, its first host cluster and its length in clusters, and clears the map as far as that (and 32 clusters). */
  moveTo(firstCluster: number, windowLength: number): void;
  /** Positions of the entries that the last `scan` left for a closer look. */
  readonly slow: Int32Array;
  /** Entries counted by `scan` since the loops were made: those with a host cluster of their own, and those of them that do not follow. */
  readonly allocated: number;
  readonly fragmented: number;
  /** The next entries begin a table: no cluster comes before its first. */
  begin(): void;
  /**
   * Goes over `count` entries (an even number) from byte `at` of the buffer. An ordinary entry, whose cluster nothing referred to so far
   * and whose COPIED flag agrees with the refcount, is marked in the map. Entries 0 (unallocated) and 1 (plain zeroes) are passed over.
   * Everything else goes on the `slow` list, as positions counted from `at`; returns how many.
   */
  scan(at: number, count: number): number;
  /**
   * Turns `bytes` (a multiple of 64) of 16-bit refcounts from byte `at` of the buffer into first words of the map, from pair `pair` on.
   * Returns whether any of them is neither 0 nor 1.
   */
  pack16(at: number, bytes: number, pair: number): boolean;
  /** The first pair of the map from `from` on whose words differ; `to` where none before it does. */
  nextDifference(from: number, to: number): number;
}

/** Makes the loops with memory of their own; they look at nothing before the first `moveTo`. */
export function makeScanLoops(shape: ScanShape, use: 'wasm' | 'js' | 'best' = 'best'): ScanLoops {
  const api = use === 'js' ? undefined : wasmApi();
  return api ? new WasmLoops(api, shape) : new PlainLoops(shape);
}

/** New memory is zero, and stays untouched where the file has nothing. */
function clear(map: Int32Array, windowLength: number, usedBefore: boolean): void {
  if (usedBefore) {
    map.fill(0, 0, (Math.ceil(windowLength / CLUSTERS_PER_PAIR) + 1) * 2);
  }
}

function mapPairs(shape: ScanShape): number {
  return Math.ceil(shape.largestWindow / CLUSTERS_PER_PAIR);
}

/** The part of WebAssembly's API that is used here; the compiler's library has it only together with the whole of the browser's. */
interface WasmApi {
  readonly Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: { check: { memory: object } }) => { readonly exports: KernelExports };
}

interface KernelExports {
  readonly allocated: { readonly value: number };
  readonly fragmented: { readonly value: number };
  configure(map: number, slow: number, bits: number, littleEndian: number, first: number, length: number, clusters: number): void;
  begin(): void;
  scan(at: number, count: number): number;
  pack16(at: number, bytes: number, pair: number): number;
  nextDifference(from: number, to: number): number;
}

function wasmApi(): WasmApi | undefined {
  return (globalThis as { WebAssembly?: WasmApi }).WebAssembly;
}

let compiled: object | undefined;

class WasmLoops implements ScanLoops {
  readonly kind = 'wasm';
  readonly buffer: Uint8Array;
  readonly view: DataView;
  readonly map: Int32Array;
  readonly slow: Int32Array;
  private readonly shape: ScanShape;
  private readonly exports: KernelExports;
  private moved = false;

  constructor(api: WasmApi, shape: ScanShape) {
    const pairs = mapPairs(shape);
    const memory = new api.Memory({ initial: Math.ceil((MAP_AT + pairs * 8) / 65536) });
    compiled ??= new api.Module(kernel);
    this.exports = new api.Instance(compiled, { check: { memory } }).exports;
    this.shape = shape;
    this.buffer = new Uint8Array(memory.buffer, BUFFER_AT, BUFFER_BYTES);
    this.view = new DataView(memory.buffer, BUFFER_AT, BUFFER_BYTES);
    this.map = new Int32Array(memory.buffer, MAP_AT, pairs * 2);
    this.slow = new Int32Array(memory.buffer, SLOW_AT, BUFFER_BYTES / 8);
  }

  moveTo(firstCluster: number, windowLength: number): void {
    const { clusterBits, littleEndian, fileClusters } = this.shape;
    clear(this.map, windowLength, this.moved);
    this.moved = true;
    this.exports.configure(MAP_AT, SLOW_AT, clusterBits, littleEndian ? 1 : 0, firstCluster, windowLength, fileClusters);
  }

  get allocated(): number {
    return this.exports.allocated.value >>> 0;
  }

  get fragmented(): number {
    return this.exports.fragmented.value >>> 0;
  }

  begin(): void {
    this.exports.begin();
  }

  scan(at: number, count: number): number {
    return this.exports.scan(BUFFER_AT + at, count);
  }

  pack16(at: number, bytes: number, pair: number): boolean {
    return this.exports.pack16(BUFFER_AT + at, bytes, pair) !== 0;
  }

  nextDifference(from: number, to: number): number {
    return this.exports.nextDifference(from, to);
  }
}

/** Entry bits by their 32-bit halves. */
interface Masks {
  readonly offsetHigh: number;
  readonly offsetLow: number;
  readonly oddHigh: number;
  readonly oddLow: number;
  readonly compressedHigh: number;
}

class PlainLoops implements ScanLoops {
  readonly kind = 'js';
  readonly buffer: Uint8Array;
  readonly view: DataView;
  readonly map: Int32Array;
  readonly slow: Int32Array;
  allocated = 0;
  fragmented = 0;
  private readonly shape: ScanShape;
  private readonly masks: Masks;
  private readonly words: Int32Array;
  /** Halves of the offset where the table's previous cluster ended. */
  private followsHigh = 0;
  private followsLow = 0;
  private some = false;
  private moved = false;
  private firstCluster = 0;
  private windowLength = 0;

  constructor(shape: ScanShape) {
    this.shape = shape;
    const pairs = mapPairs(shape);
    const memory = new ArrayBuffer(MAP_AT + pairs * 8);
    this.buffer = new Uint8Array(memory, BUFFER_AT, BUFFER_BYTES);
    this.view = new DataView(memory, BUFFER_AT, BUFFER_BYTES);
    this.words = new Int32Array(memory, BUFFER_AT, BUFFER_BYTES / 4);
    this.map = new Int32Array(memory, MAP_AT, pairs * 2);
    this.slow = new Int32Array(memory, SLOW_AT, BUFFER_BYTES / 8);
    const within = 2 ** shape.clusterBits - 1;
    this.masks = shape.littleEndian
      ? { offsetHigh: -1, offsetLow: -1, oddHigh: 0, oddLow: within, compressedHigh: 0 }
      : { offsetHigh: 0x00ffffff, offsetLow: ~0x1ff, oddHigh: 0x3f000000, oddLow: 0x1fe | (within & ~1), compressedHigh: 0x40000000 };
  }

  moveTo(firstCluster: number, windowLength: number): void {
    clear(this.map, windowLength, this.moved);
    this.moved = true;
    this.firstCluster = firstCluster;
    this.windowLength = windowLength;
  }

  begin(): void {
    this.some = false;
  }

  scan(at: number, count: number): number {
    const { view, map, slow, firstCluster, windowLength } = this;
    const { clusterBits, fileClusters, littleEndian } = this.shape;
    const { offsetHigh, offsetLow, oddHigh, oddLow, compressedHigh } = this.masks;
    const clusterSize = 2 ** clusterBits;
    const highFactor = 2 ** (32 - clusterBits);
    const high = littleEndian ? 4 : 0;
    const low = 4 - high;
    const end = at + count * 8;
    let { followsHigh, followsLow, some } = this;
    let allocated = 0;
    let fragmented = 0;
    let slowCount = 0;
    let p = at;
    while (p < end) {
      const hi = view.getInt32(p + high, littleEndian);
      const lo = view.getInt32(p + low, littleEndian);
      if (hi === 0 && (lo === 0 || lo === 1)) {
        p += 8;
        continue;
      }
      const offHigh = hi & offsetHigh;
      const offLow = lo & offsetLow;
      if ((hi & compressedHigh) !== 0 || (offHigh | offLow) === 0) {
        slow[slowCount++] = (p - at) >>> 3;
        p += 8;
        continue;
      }
      allocated++;
      if (some && (offHigh !== followsHigh || offLow !== followsLow)) {
        fragmented++;
      }
      some = true;
      followsLow = (offLow + clusterSize) | 0;
      followsHigh = carries(offLow, followsLow) ? (offHigh + 1) | 0 : offHigh;
      const cluster = (offHigh >>> 0) * highFactor + (offLow >>> clusterBits);
      const x = cluster - firstCluster;
      if (((hi & oddHigh) | (lo & oddLow)) !== 0 || x < 0 || x >= windowLength) {
        if (((hi & oddHigh) | (lo & oddLow)) !== 0 || cluster >= fileClusters) {
          slow[slowCount++] = (p - at) >>> 3;
        }
        p += 8;
        continue;
      }
      // How many entries follow that name the next clusters with the same flags?
      let q = p + 8;
      let nextLow = (lo + clusterSize) | 0;
      let nextHigh = carries(lo, nextLow) ? (hi + 1) | 0 : hi;
      while (q < end && view.getInt32(q + low, littleEndian) === nextLow && view.getInt32(q + high, littleEndian) === nextHigh) {
        const before = nextLow;
        nextLow = (nextLow + clusterSize) | 0;
        nextHigh = carries(before, nextLow) ? (nextHigh + 1) | 0 : nextHigh;
        q += 8;
      }
      const run = (q - p) >>> 3;
      if (run > 1) {
        allocated += run - 1;
        followsLow = nextLow & offsetLow;
        followsHigh = nextHigh & offsetHigh;
      }
      if (x + run > windowLength || !claimRun(map, x, run, hi < 0 ? -1 : 0)) {
        for (let i = (p - at) >>> 3; i < (q - at) >>> 3; i++) {
          slow[slowCount++] = i;
        }
      }
      p = q;
    }
    this.followsHigh = followsHigh;
    this.followsLow = followsLow;
    this.some = some;
    this.allocated += allocated;
    this.fragmented += fragmented;
    return slowCount;
  }

  pack16(at: number, bytes: number, pair: number): boolean {
    const { words, map } = this;
    let other = 0;
    let to = pair * 2;
    // Big-endian refcounts seen as little-endian halves: one is 0x0100. (Every system that Node runs on is little-endian.)
    for (let i = at >>> 2, end = (at + bytes) >>> 2; i < end; i += 16, to += 2) {
      let bits = 0;
      for (let k = 0; k < 16; k++) {
        const two = words[i + k] ?? 0;
        other |= two & ~0x01000100;
        bits |= (((two & 0xffff) === 0x0100 ? 1 : 0) | (two >>> 16 === 0x0100 ? 2 : 0)) << (k * 2);
      }
      map[to] = bits;
    }
    return other !== 0;
  }

  nextDifference(from: number, to: number): number {
    const { map } = this;
    let pair = from;
    while (pair < to && map[pair * 2] === map[pair * 2 + 1]) {
      pair++;
    }
    return pair;
  }
}

/** Whether adding a cluster to the lower half wrapped it. */
function carries(before: number, after: number): boolean {
  return after >>> 0 < before >>> 0;
}

/** Marks clusters `x` to `x + count - 1` as referred to, if none of them was and the refcount bits of all equal `copied` (-1 or 0). */
function claimRun(map: Int32Array, x: number, count: number, copied: number): boolean {
  let wrong = 0;
  for (let at = x, left = count; left > 0;) {
    const pair = (at >>> 5) << 1;
    const taken = Math.min(32 - (at & 31), left);
    const bits = (-1 >>> (32 - taken)) << (at & 31);
    wrong |= bits & ((map[pair + 1] ?? 0) | ((map[pair] ?? 0) ^ copied));
    at += taken;
    left -= taken;
  }
  if (wrong !== 0) {
    return false;
  }
  for (let at = x, left = count; left > 0;) {
    const pair = (at >>> 5) << 1;
    const taken = Math.min(32 - (at & 31), left);
    map[pair + 1] = (map[pair + 1] ?? 0) | ((-1 >>> (32 - taken)) << (at & 31));
    at += taken;
    left -= taken;
  }
  return true;
}
