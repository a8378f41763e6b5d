import type { ByteSource } from '../../io/source';
import type { Pace } from '../../pace';

/** Bytes read at first and at most: the next used entry is mostly near, a table may be long. */
const FIRST_CHUNK = 4096;
const MAX_CHUNK = 256 * 1024;

/**
 * Finds the first byte in [start, end) that is not zero, or the last one when `backwards`; -1 when all are zero. What lies past the end of
 * the file is zero; holes are not read.
 */
export async function findNonZero(source: ByteSource, start: number, end: number, backwards: boolean, pace: Pace): Promise<number> {
  const limit = Math.min(end, source.size);
  let chunk = FIRST_CHUNK;
  let low = start;
  let high = limit;
  while (low < high) {
    const from = backwards ? Math.max(low, high - chunk) : low;
    const extent = source.extentAt(from);
    const until = backwards ? high : Math.min(high, from + chunk);
    const hole = extent.data ? 0 : extent.length;
    if (hole < until - from) {
      const found = findIn(source, from, until - from, backwards);
      if (found >= 0) {
        return from + found;
      }
    }
    if (backwards) {
      high = from;
    } else {
      low = Math.max(until, from + hole);
    }
    chunk = Math.min(MAX_CHUNK, chunk * 2);
    if (pace.due()) {
      await pace.turn(backwards ? limit - high : low - start, limit - start);
    }
  }
  return -1;
}

function findIn(source: ByteSource, hostOffset: number, length: number, backwards: boolean): number {
  const memory = new ArrayBuffer(Math.ceil(length / 8) * 8);
  const bytes = new Uint8Array(memory, 0, length);
  source.read(bytes, hostOffset);
  // Eight bytes at a time in the machine's own order: only "is it zero" is asked. Past `length` the memory is zero.
  const words = new Int32Array(memory);
  const step = backwards ? -1 : 1;
  for (let word = backwards ? words.length - 1 : 0; word >= 0 && word < words.length; word += step) {
    if (words[word] !== 0) {
      for (let index = backwards ? 3 : 0; index >= 0 && index < 4; index += step) {
        if (bytes[word * 4 + index]) {
          return word * 4 + index;
        }
      }
    }
  }
  return -1;
}
