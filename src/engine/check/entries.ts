/*
 * L2 entries by their 32-bit halves, for code that meets millions of them; structures.ts declares them for people to look at.
 */

const COPIED = 1 << 31;
const COMPRESSED = 1 << 30;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = ~0x1ff;
const SECTOR = 512;

export function isCopied(high: number): boolean {
  return (high & COPIED) !== 0;
}

export function isCompressed(high: number): boolean {
  return (high & COMPRESSED) !== 0;
}

/** Bits 9 to 55 of an L1, L2 or bitmap table entry. Exact also past 2^53, since it is a multiple of 512. */
export function hostOffsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
}

export function hasReservedL1Bits(high: number, low: number): boolean {
  return (high & 0x7f000000) !== 0 || (low & 0x1ff) !== 0;
}

/** For standard entries; a compressed one has no reserved bits. */
export function hasReservedL2Bits(high: number, low: number): boolean {
  return (high & 0x3f000000) !== 0 || (low & 0x1fe) !== 0;
}

/**
 * Whether a standard entry has a host cluster of its own, as data or as preallocated zeroes. Offset 0 is one in an external data file,
 * where the COPIED flag tells it from an unallocated entry.
 */
export function isAllocated(high: number, low: number, extendedL2: boolean, dataFile: boolean): boolean {
  if (((high & OFFSET_HIGH) | (low & OFFSET_LOW)) !== 0) {
    return true;
  }
  const plainZero = !extendedL2 && (low & 1) !== 0;
  return dataFile && !plainZero && (high & COPIED) !== 0;
}

/** Where compressed data lies: from its first byte to the end of its last sector. Not exact past 2^53, where no file reaches. */
export function compressedExtent(high: number, low: number, clusterBits: number): { readonly hostOffset: number; readonly length: number } {
  const offsetBits = 62 - (clusterBits - 8) - 32;
  const descriptor = high & (COMPRESSED - 1);
  const hostOffset = (descriptor & (2 ** offsetBits - 1)) * 2 ** 32 + (low >>> 0);
  const sectors = (descriptor >>> offsetBits) + 1;
  return { hostOffset, length: sectors * SECTOR - (low & (SECTOR - 1)) };
}

/** An entry as messages show it. */
export function entryHex(high: number, low: number): string {
  return (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0');
}
