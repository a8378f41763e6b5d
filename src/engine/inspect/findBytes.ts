import { invalidRequest } from '../errors';
import type { ByteSource } from '../io/source';
import { Pace, type PaceOptions } from '../pace';

const CHUNK = 256 * 1024;
/** A pattern is what a person types or pastes. */
export const MAX_PATTERN = 4096;

/**
 * Finds bytes in a file, from an offset on; null when there is none. Holes hold only zeroes and are not read when the pattern has
 * anything else in it. Progress counts bytes.
 * @throws EngineError `request.invalid` for a pattern that is empty or too long, `cancelled`
 */
export async function findBytes(source: ByteSource, pattern: Uint8Array, from: number, options: PaceOptions): Promise<number | null> {
  if (pattern.length === 0 || pattern.length > MAX_PATTERN) {
    throw invalidRequest(`A search takes 1 to ${MAX_PATTERN} bytes.`);
  }
  const pace = new Pace(options);
  const start = Math.max(0, Math.floor(from));
  const overlap = pattern.length - 1;
  const skipHoles = pattern.some((byte) => byte !== 0);
  const buffer = Buffer.alloc(CHUNK + overlap);
  let at = start;
  while (at + pattern.length <= source.size) {
    const extent = source.extentAt(at);
    if (skipHoles && !extent.data && extent.length > CHUNK) {
      // A match may end in the data behind the hole, but at least its first byte that is not zero lies there.
      at = Math.max(at + 1, at + extent.length - overlap);
      continue;
    }
    const length = source.read(buffer.subarray(0, Math.min(buffer.length, source.size - at)), at);
    const found = buffer.subarray(0, length).indexOf(pattern);
    if (found >= 0) {
      return at + found;
    }
    at += Math.max(1, length - overlap);
    if (pace.due()) {
      await pace.turn(at - start, source.size - start);
    }
  }
  return null;
}
