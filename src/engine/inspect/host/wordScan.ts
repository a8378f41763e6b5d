import type { ByteSource } from '../../io/source';
import type { ByteOrder } from '../../layout/fields';
import type { Pace } from '../../pace';

const CHUNK = 64 * 1024;
const HIGH = 2 ** 32;

export interface WordScan {
  readonly source: ByteSource;
  /** Byte offset of the first entry, and how many 64-bit words to look at. */
  readonly hostOffset: number;
  readonly words: number;
  readonly order: ByteOrder;
  /** Bits of the upper half that belong to an offset. */
  readonly highMask: number;
}

/**
 * Finds the words of a table whose offset (bits 9 and up) lies in [low, end). Tables of the first level only: they are small beside what
 * they map, so that naming a few bytes of a terabyte image costs a millisecond.
 */
export async function scanWords(
  { source, hostOffset, words, order, highMask }: WordScan,
  low: number,
  end: number,
  pace: Pace,
  hit: (index: number, target: number) => void,
): Promise<void> {
  if (!Number.isSafeInteger(hostOffset)) {
    return;
  }
  const little = order === 'little';
  const view = new DataView(new ArrayBuffer(CHUNK));
  const bytes = new Uint8Array(view.buffer);
  const present = Math.min(words, Math.max(0, Math.floor((source.size - hostOffset) / 8)));
  for (let first = 0; first < present;) {
    const extent = source.extentAt(hostOffset + first * 8);
    if (!extent.data) {
      first += Math.max(1, Math.floor(extent.length / 8));
      continue;
    }
    const count = Math.min(CHUNK / 8, present - first);
    source.read(count * 8 === CHUNK ? bytes : bytes.subarray(0, count * 8), hostOffset + first * 8);
    for (let index = 0; index < count; index++) {
      const high = view.getUint32(index * 8 + (little ? 4 : 0), little) & highMask;
      const target = (high >>> 0) * HIGH + ((view.getUint32(index * 8 + (little ? 0 : 4), little) & ~0x1ff) >>> 0);
      if (target >= low && target < end && target !== 0) {
        hit(first + index, target);
      }
    }
    first += count;
    if (pace.due()) {
      await pace.turn(first, present);
    }
  }
}
