import type { CompressedDescriptor } from '../formats/extent';
import type { ByteSource } from '../io/source';
import type { StackExtent } from './readStack';

/** Guest bytes of a window: few enough to be found out quickly when a window is read once, many enough for long reads. */
const LEAST_WINDOW = 64 * 1024;
const MOST_WINDOW = 4 * 1024 * 1024;
/** Allocation units in a window. */
const UNITS = 64;

const KIND = { below: 0, ended: 1, data: 2, zero: 3, compressed: 4 } as const;

/** What a window costs beside its extents, about: the object, its arrays, its entry in the map. */
const WINDOW_BYTES = 512;
const EXTENT_BYTES = 4 + 1 + 4 + 8;
const COMPRESSED_BYTES = 64;

/** The extents of a window, in order; an extent reaches to where the next begins. */
interface ExtentWindow {
  readonly index: number;
  /** From the window's first byte. */
  readonly starts: Uint32Array;
  readonly kinds: Uint8Array;
  readonly depths: Int32Array;
  /** Host offset of an extent's first byte; -1 for none. */
  readonly hosts: Float64Array;
  readonly length: number;
  /** Null when none is compressed. */
  readonly compressed: readonly (CompressedDescriptor | null)[] | null;
  /** Null when all layers have one file. */
  readonly sources: readonly (ByteSource | null)[] | null;
  readonly bytes: number;
  /** Used since it was last considered for being given up. */
  used: boolean;
}

/** The resolved extents of a stack by windows of guest space, as many as a bound allows. */
export class ExtentWindows {
  /** What `findData` found last. */
  readonly found: { depth: number; hostOffset: number; source: ByteSource | null } = { depth: 0, hostOffset: 0, source: null };
  private readonly windowBytes: number;
  private readonly maxBytes: number;
  private readonly windows = new Map<number, ExtentWindow>();
  private last: ExtentWindow | null = null;
  private bytes = 0;

  /** @param unit guest bytes of the smallest allocation unit; Infinity when there is none */
  constructor(unit: number, maxBytes: number) {
    this.windowBytes = Math.min(MOST_WINDOW, Math.max(LEAST_WINDOW, unit * UNITS));
    this.maxBytes = maxBytes;
  }

  around(guestOffset: number): { readonly start: number; readonly end: number } {
    const start = Math.floor(guestOffset / this.windowBytes) * this.windowBytes;
    return { start, end: start + this.windowBytes };
  }

  /** What is kept of the bytes from `guestOffset` on, at most to the end of its window; null when nothing is. */
  extent(guestOffset: number, length: number): StackExtent | null {
    const index = Math.floor(guestOffset / this.windowBytes);
    const window = this.window(index);
    return window && extentAt(window, guestOffset - index * this.windowBytes, length);
  }

  /** Whether all of the range is kept and lies in one extent of data; then `found` tells where. */
  findData(guestOffset: number, length: number): boolean {
    const index = Math.floor(guestOffset / this.windowBytes);
    const window = this.window(index);
    if (!window) {
      return false;
    }
    const offset = guestOffset - index * this.windowBytes;
    const at = extentIndex(window, offset);
    if (window.kinds[at] !== KIND.data || offset + length > extentEnd(window, at)) {
      return false;
    }
    const { found } = this;
    found.depth = window.depths[at]!;
    found.hostOffset = window.hosts[at]! + offset - window.starts[at]!;
    found.source = window.sources === null ? null : window.sources[at]!;
    return true;
  }

  private window(index: number): ExtentWindow | null {
    let window = this.last;
    if (window?.index !== index) {
      window = this.windows.get(index) ?? null;
      if (!window) {
        return null;
      }
      this.last = window;
    }
    window.used = true;
    return window;
  }

  /** @param extents of the whole window, in order and without a gap */
  keep(guestOffset: number, extents: readonly StackExtent[]): void {
    const window = pack(Math.floor(guestOffset / this.windowBytes), extents);
    this.makeRoom(window.bytes);
    this.windows.set(window.index, window);
    this.bytes += window.bytes;
    this.last = window;
  }

  /** Gives up windows in the order in which they were made; what was used since its last turn gets another one. */
  private makeRoom(needed: number): void {
    for (const [index, window] of this.windows) {
      if (this.bytes + needed <= this.maxBytes) {
        return;
      }
      this.windows.delete(index);
      if (window.used) {
        // Goes on at the end of the map, where this very loop finds it again if need be.
        window.used = false;
        this.windows.set(index, window);
      } else {
        this.bytes -= window.bytes;
      }
    }
  }
}

/** Which extent of a window an offset in it lies in. */
function extentIndex({ starts }: ExtentWindow, offset: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (starts[middle]! <= offset) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

function extentEnd({ starts, length }: ExtentWindow, index: number): number {
  return index + 1 < starts.length ? starts[index + 1]! : length;
}

function extentAt(window: ExtentWindow, offset: number, length: number): StackExtent {
  const low = extentIndex(window, offset);
  const within = offset - window.starts[low]!;
  const rest = Math.min(length, extentEnd(window, low) - offset);
  const host = window.hosts[low]!;
  const kind = window.kinds[low]!;
  return {
    class: kind === KIND.data ? 'data' : kind === KIND.compressed ? 'compressed' : kind === KIND.zero ? 'zero' : 'unallocated',
    length: rest,
    depth: kind < KIND.data ? null : window.depths[low]!,
    hostOffset: host < 0 ? null : host + within,
    compressed: window.compressed?.[low] ?? null,
    source: window.sources?.[low] ?? null,
    below: kind === KIND.below,
  };
}

function pack(index: number, extents: readonly StackExtent[]): ExtentWindow {
  const merged: { start: number; end: number; readonly extent: StackExtent }[] = [];
  let at = 0;
  for (const extent of extents) {
    const before = merged.at(-1);
    if (before && continues(before.extent, before.end - before.start, extent)) {
      before.end += extent.length;
    } else {
      merged.push({ start: at, end: at + extent.length, extent });
    }
    at += extent.length;
  }
  const anyCompressed = extents.some(({ compressed }) => compressed !== null);
  const anySource = extents.some(({ source }) => source !== null);
  return {
    index,
    starts: Uint32Array.from(merged, ({ start }) => start),
    kinds: Uint8Array.from(merged, ({ extent }) => kindOf(extent)),
    depths: Int32Array.from(merged, ({ extent }) => extent.depth ?? -1),
    hosts: Float64Array.from(merged, ({ extent }) => extent.hostOffset ?? -1),
    length: at,
    compressed: anyCompressed ? merged.map(({ extent }) => extent.compressed) : null,
    sources: anySource ? merged.map(({ extent }) => extent.source) : null,
    bytes: WINDOW_BYTES + merged.length * (EXTENT_BYTES + (anyCompressed ? COMPRESSED_BYTES : 0) + (anySource ? 8 : 0)),
    used: true,
  };
}

function kindOf({ class: kind, below }: StackExtent): number {
  return kind === 'unallocated' ? (below ? KIND.below : KIND.ended) : KIND[kind];
}

/** Whether an extent goes on where one of `length` bytes ends: read as one then. */
function continues(before: StackExtent, length: number, next: StackExtent): boolean {
  return (
    kindOf(before) === kindOf(next) &&
    before.depth === next.depth &&
    before.source === next.source &&
    before.compressed === null &&
    next.compressed === null &&
    (before.class !== 'data' || before.hostOffset! + length === next.hostOffset)
  );
}
