/* Bytes as text, in both directions. */

/** `00ff10` -> `00 ff 10`. */
export function spacedHex(hex: string): string {
  return hex.replace(/(..)(?=.)/g, '$1 ');
}

/** Bytes as lower-case hexadecimal without spaces. */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    text += hexByte(byte);
  }
  return text;
}

const HEX_BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** Two lower-case digits. */
export function hexByte(byte: number): string {
  return HEX_BYTES[byte] ?? '??';
}

/** Printable ASCII as itself, everything else as a dot. */
export function asciiByte(byte: number): string {
  return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.';
}

export function toAscii(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    text += asciiByte(byte);
  }
  return text;
}

/** `00 ff`, `00ff`, `0x00ff`; null when it is no whole number of hexadecimal bytes. */
export function parseHexBytes(text: string): Uint8Array | null {
  const digits = text.replace(/0x/gi, '').replace(/[\s,:]+/g, '');
  if (digits.length === 0 || digits.length % 2 !== 0 || !/^[0-9a-f]+$/i.test(digits)) {
    return null;
  }
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Rows of offset, hexadecimal and ASCII. */
export function hexDump(bytes: Uint8Array, firstOffset: number, bytesPerRow = 16): string {
  const rows: string[] = [];
  const digits = Math.max(8, (firstOffset + bytes.length).toString(16).length);
  for (let at = 0; at < bytes.length; at += bytesPerRow) {
    const row = bytes.subarray(at, at + bytesPerRow);
    const hex = Array.from(row, hexByte).join(' ');
    rows.push(`${(firstOffset + at).toString(16).padStart(digits, '0')}  ${hex.padEnd(bytesPerRow * 3 - 1)}  ${toAscii(row)}`);
  }
  return rows.join('\n');
}
