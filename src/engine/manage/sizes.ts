/** What a suffix multiplies by; case does not matter, bytes are the default. */
const SUFFIXES: Readonly<Record<string, bigint>> = { k: 1n, m: 2n, g: 3n, t: 4n, p: 5n, e: 6n };

/**
 * Reads a size or offset as qemu-img does: decimal or hexadecimal, with a suffix, perhaps a fraction of one (`1.5G`, `0x1000`, `64k`).
 * Null when it is no such thing; a caller that needs it below 2^63 (every caller of qemu-img does) checks that.
 */
export function parseSize(text: string): bigint | null {
  const match = /^\s*\+?(?:(0x[0-9a-f]+)|(\d+)(?:\.(\d*))?)([bkmgtpe]?)$/i.exec(text);
  if (!match) {
    return null;
  }
  const [, hexadecimal, whole = '', fraction = '', suffix = ''] = match;
  const factor = 1024n ** (SUFFIXES[suffix.toLowerCase()] ?? 0n);
  // A fraction is rounded to a byte; of a byte there is none.
  const part = BigInt(Math.floor(Number(`0.${fraction}0`) * Number(factor) + 0.5));
  if (factor === 1n && /[1-9]/.test(fraction)) {
    return null;
  }
  return BigInt(hexadecimal ?? whole) * factor + part;
}
