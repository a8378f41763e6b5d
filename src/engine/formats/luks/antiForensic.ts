import { createHash, randomBytes } from 'node:crypto';

/* LUKS1's splitter: a key is spread over so many bytes that losing any few of them loses it. */

/** Spreads `key` over `stripes` times its length. */
export function splitKey(key: Uint8Array, stripes: number, hash: string): Uint8Array {
  const split = new Uint8Array(key.length * stripes);
  split.set(randomBytes(key.length * (stripes - 1)));
  const block = mixed(split, key.length, stripes, hash);
  const last = split.subarray(key.length * (stripes - 1));
  for (let at = 0; at < key.length; at++) {
    last[at] = block[at]! ^ key[at]!;
  }
  return split;
}

/** The key that was spread. */
export function mergeKey(split: Uint8Array, keyBytes: number, stripes: number, hash: string): Uint8Array {
  const key = mixed(split, keyBytes, stripes, hash);
  const last = split.subarray(keyBytes * (stripes - 1));
  for (let at = 0; at < keyBytes; at++) {
    key[at]! ^= last[at]!;
  }
  return key;
}

function mixed(split: Uint8Array, keyBytes: number, stripes: number, hash: string): Uint8Array {
  let block: Uint8Array = new Uint8Array(keyBytes);
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    for (let at = 0; at < keyBytes; at++) {
      block[at]! ^= split[stripe * keyBytes + at]!;
    }
    block = diffuse(block, hash);
  }
  return block;
}

/** Each piece of a digest's length becomes the digest of its number and itself. */
function diffuse(block: Uint8Array, hash: string): Uint8Array {
  const diffused = new Uint8Array(block.length);
  const number = new Uint8Array(4);
  for (let offset = 0, index = 0; offset < block.length; index++) {
    new DataView(number.buffer).setUint32(0, index);
    const whole = createHash(hash).update(number);
    // The last piece may be shorter, and then takes the beginning of its digest.
    const digest = whole.update(block.subarray(offset, offset + digestLength(hash))).digest();
    const length = Math.min(digest.length, block.length - offset);
    diffused.set(digest.subarray(0, length), offset);
    offset += length;
  }
  return diffused;
}

const lengths = new Map<string, number>();

function digestLength(hash: string): number {
  let length = lengths.get(hash);
  if (length === undefined) {
    length = createHash(hash).digest().length;
    lengths.set(hash, length);
  }
  return length;
}
