/** How numbers, offsets and names read on the screen and on the command line. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB', 'ZiB'] as const;

/** Bytes in qemu-img's words: three significant digits and a binary unit, `1.21 GiB`. */
export function humanSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // As QEMU has it, a unit begins at 1000 of the one below: 1000 KiB already reads as 0.977 MiB.
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${threeDigits(value)} ${UNITS[unit] ?? 'B'}`;
}

/** As C's `%.3g` rounds: what lies in the middle goes to the even digit, 4.125 to 4.12. */
function threeDigits(value: number): number {
  const scale = 10 ** Math.max(0, 2 - Math.floor(Math.log10(Math.max(value, 0.1))));
  const below = Math.floor(value * scale);
  return value * scale - below === 0.5 && below % 2 === 0 ? below / scale : Number(value.toPrecision(3));
}

/** The same with the exact count behind it: `1 GiB (1073741824 bytes)`. */
export function exactSize(bytes: number | bigint): string {
  return bytes < 1000 ? `${bytes} bytes` : `${humanSize(Number(bytes))} (${bytes} bytes)`;
}

/** An offset as it is written everywhere: hexadecimal, no leading zeroes. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Bytes as they stand in the file, lower case, without spaces. */
export function hexBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    text += byte.toString(16).padStart(2, '0');
  }
  return text;
}

/** Seconds since 1970 as UTC; a year that a calendar does not hold reads as the number. */
export function dateText(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `${seconds} s since 1970` : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** Control characters, line separators, and marks that turn the reading direction or take no room. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

/** A name out of an image as one line of plain text: what cannot be seen is spelt out (`\u{1b}`). */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** `1 cluster`, `2 clusters`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
