/*
 * A window is a stretch of the guest disk cut into equal units, small enough to stay in the processor's cache while every layer's table
 * entries are laid over it from the active layer down. Who got a unit first keeps it, as the guest reads it.
 */

/** What a unit of the guest disk is in the layer that supplies it. Numbers, since windows hold millions of them. */
export const UNIT = {
  /** Data with a host offset. */
  data: 0,
  /** Reads as zeroes, no host cluster. */
  zero: 1,
  /** Reads as zeroes, although a host cluster is mapped. */
  zeroAllocated: 2,
  compressed: 3,
  /** Encrypted data: its host offset says nothing about guest bytes, and QEMU reports none. */
  encrypted: 4,
  /** Allocated nowhere: reads as zeroes. */
  absent: 5,
  /** The same, yet the layer holds a host cluster whose other subclusters may be in use (extended L2). */
  absentAllocated: 6,
  /** The bytes of a raw file: the file system knows which are holes. */
  file: 7,
  /** Allocated in no layer that is open, and the chain goes on below them. */
  missing: 8,
  /** The table entry contradicts the format; a driver stops here. */
  invalid: 9,
  /** Not uniform within the unit: looked at again in finer units. Never seen by a visitor. */
  split: 10,
} as const;

export type UnitKind = (typeof UNIT)[keyof typeof UNIT];

/** Units in a window: a 64 KiB cluster's L2 table has as many entries, and 100 KiB of arrays stay in the second-level cache. */
export const WINDOW_UNITS = 8192;

/** Value of `Window.owner` for a unit that no layer supplies yet; layers count from 1 there. */
export const UNOWNED = 0;

export class Window {
  /** Depth + 1 of the layer that supplies a unit, UNOWNED before one does. */
  readonly owner = new Uint16Array(WINDOW_UNITS);
  /** UNIT value; meaningless while unowned. */
  readonly kind = new Uint8Array(WINDOW_UNITS);
  /** Host offset of the unit's first byte, for the kinds that have one. */
  readonly host = new Float64Array(WINDOW_UNITS);
  /** Bytes of a unit, a power of two. */
  unit = 0;
  /** Guest offset of unit 0, a multiple of `unit`. */
  base = 0;
  count = 0;
  /** Guest range asked for; it may begin inside the first unit and end inside the last. */
  start = 0;
  end = 0;

  /** Lays an empty window over [start, end), which must not hold more than WINDOW_UNITS units. */
  reset(start: number, end: number, unit: number): void {
    this.unit = unit;
    this.start = start;
    this.end = end;
    this.base = start - (start % unit);
    this.count = Math.ceil((end - this.base) / unit);
    this.owner.fill(UNOWNED, 0, this.count);
  }

  /** Guest offset at which a unit begins within the window's range. */
  unitStart(index: number): number {
    return Math.max(this.start, this.base + index * this.unit);
  }

  /** Guest offset at which the unit before `index` ends within the window's range. */
  unitEnd(index: number): number {
    return Math.min(this.end, this.base + index * this.unit);
  }
}
