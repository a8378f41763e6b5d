const ZEROES = Buffer.alloc(256 * 1024);

/**
 * Whether all bytes are 0. Comparing with zeroes is a `memcmp`, which no loop here beats.
 * @param start and `end` the part of them that is looked at, in bytes
 */
export function isZero(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  for (let at = start; at < end; at += ZEROES.length) {
    const length = Math.min(ZEROES.length, end - at);
    if (bytes[at] !== 0 || ZEROES.compare(bytes, at, at + length, 0, length) !== 0) {
      return false;
    }
  }
  return true;
}
