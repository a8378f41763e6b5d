import { formatBytesExactly } from './bytes';

const POWERS: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4, p: 5, e: 6 };

/**
 * Reads a size as qemu-img does (`20G`, `1.5T`, `0x1000`, `512`), and as people write it besides (`20 GiB`). Units are powers of 1024. Null
 * when it is no size, or one past 2^53-1 bytes; parts of a byte are rounded.
 */
export function parseBytes(text: string): number | null {
  const match = /^\s*(?:(0x[0-9a-f]+)|(\d+(?:\.\d+)?)\s*([bkmgtpe]?)(?:i?b)?)\s*$/i.exec(text);
  if (match === null) {
    return null;
  }
  const [, hexadecimal, decimal = '', unit = ''] = match;
  const bytes = hexadecimal === undefined ? Math.round(Number(decimal) * 1024 ** (POWERS[unit.toLowerCase()] ?? 0)) : Number(hexadecimal);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** A size, or with `+` or `-` before it a change of `from`; null as for `parseBytes`, or when nothing would be left. */
export function parseNewSize(text: string, from: number): number | null {
  const match = /^\s*([+-]?)(.*)$/.exec(text);
  const [, sign = '', rest = ''] = match ?? [];
  const bytes = parseBytes(rest);
  if (bytes === null) {
    return null;
  }
  const size = sign === '' ? bytes : sign === '+' ? from + bytes : from - bytes;
  return size >= 0 && Number.isSafeInteger(size) ? size : null;
}

/** Bytes in the shortest spelling that qemu-img reads exactly: `20G`, `1536M`, `1000`. */
export function qemuSize(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
  let value = bytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value}${units[unit] ?? ''}`;
}

/** What is said under the field of a size: what was understood, or why it is none. */
export function explainSize(text: string, bytes: number | null): { readonly message: string; readonly isError: boolean } {
  if (bytes !== null) {
    return { message: formatBytesExactly(bytes), isError: false };
  }
  return text.trim() === ''
    ? { message: 'Type a size such as 20G.', isError: true }
    : { message: 'That is no size. Write a number with a unit: 512M, 20G, 1.5T.', isError: true };
}
