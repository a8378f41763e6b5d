/** Recognisable contents for sample clusters, the same on every machine. */

const encoder = new TextEncoder();

/** A small generator of repeatable pseudo-random numbers (xorshift32): samples look scattered, and alike everywhere. */
export class Scatter {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 1;
  }

  /** An integer from 0 up to, not including, `limit`. */
  below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % limit;
  }
}

/** Text that names where it lies, repeated to the length given: what one sees in the hex view. */
export function namedText(image: string, guestOffset: number, length: number): Uint8Array {
  const line = encoder.encode(`${image}: guest offset 0x${guestOffset.toString(16).padStart(10, '0')}\n`);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += line.length) {
    bytes.set(line.subarray(0, Math.min(line.length, length - at)), at);
  }
  return bytes;
}

/** Bytes that do not compress, headed by the same text. */
export function namedNoise(image: string, guestOffset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const scatter = new Scatter(guestOffset / 512 + 7);
  for (let at = 0; at < length; at++) {
    bytes[at] = scatter.below(256);
  }
  bytes.set(namedText(image, guestOffset, 128));
  return bytes;
}
