import type { Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { BITMAP_OFFSET_MASK } from '../formats/qcow2/structures';
import { safeNumber } from '../layout/codec';
import type { Pace } from '../pace';
import { MAX_BITMAP_TABLE_ENTRIES } from './tables/qcow2BitmapTable';

const CHUNK = 64 * 1024;
/** QEMU accepts 512 MiB of bits in one bitmap; all of an image's together are not read beyond this. */
const MAX_BYTES = 1024 * 1024 * 1024;

/** What may be read for counting, over all bitmaps of an image. */
export class MarkBudget {
  private left = MAX_BYTES;

  get exhausted(): boolean {
    return this.left < 0;
  }

  /** Whether `bytes` more may be read. */
  take(bytes: number): boolean {
    this.left -= bytes;
    return this.left >= 0;
  }
}

/**
 * Guest bytes that a bitmap marks; null where its bits cannot be read: unknown granularity or type, a table that does not cover the
 * disk, an entry that leads nowhere, or a bitmap that is not to be trusted because it was not saved.
 */
export async function countMarked(
  metadata: Qcow2Metadata,
  bitmap: Qcow2Bitmap,
  guestSize: number,
  budget: MarkBudget,
  pace: Pace,
): Promise<number | null> {
  const { clusterSize, source } = metadata;
  const { granularity, tableOffset, tableEntries, inUse } = bitmap;
  if (inUse || !Number.isFinite(granularity) || !Number.isSafeInteger(tableOffset) || bitmap.type !== 1) {
    return null;
  }
  const bits = Math.ceil(guestSize / granularity);
  const bitsPerCluster = clusterSize * 8;
  const needed = Math.ceil(bits / bitsPerCluster);
  if (tableEntries < needed || needed > MAX_BITMAP_TABLE_ENTRIES || tableOffset + needed * 8 > source.size) {
    return null;
  }
  const table = new DataView(new ArrayBuffer(CHUNK));
  const buffer = new Uint8Array(CHUNK);
  let marked = 0;
  let lastMarked = false;
  for (let index = 0; index < needed; index++) {
    const inChunk = index % (CHUNK / 8);
    if (inChunk === 0) {
      if (!budget.take(CHUNK)) {
        return null;
      }
      source.read(new Uint8Array(table.buffer, 0, Math.min(CHUNK, (needed - index) * 8)), tableOffset + index * 8);
    }
    const word = table.getBigUint64(inChunk * 8);
    const inCluster = Math.min(bitsPerCluster, bits - index * bitsPerCluster);
    const hostOffset = safeNumber(word & BITMAP_OFFSET_MASK);
    if (hostOffset === 0) {
      marked += (word & 1n) === 0n ? 0 : inCluster;
      lastMarked = (word & 1n) !== 0n;
    } else {
      if (hostOffset + Math.ceil(inCluster / 8) > source.size || !budget.take(Math.ceil(inCluster / 8))) {
        return null;
      }
      const counted = await countBits(hostOffset, inCluster);
      marked += counted.ones;
      lastMarked = counted.last;
    }
    if (pace.due()) {
      await pace.turn(index, needed);
    }
  }
  // The last bit may stand for less than the others.
  const cut = bits * granularity - guestSize;
  return marked * granularity - (lastMarked ? cut : 0);

  async function countBits(hostOffset: number, count: number): Promise<{ ones: number; last: boolean }> {
    const bytes = Math.ceil(count / 8);
    let ones = 0;
    let last = false;
    for (let done = 0; done < bytes; done += CHUNK) {
      const piece = buffer.subarray(0, Math.min(CHUNK, bytes - done));
      source.read(piece, hostOffset + done);
      const spare = done + piece.length === bytes ? bytes * 8 - count : 0;
      if (spare > 0) {
        // Bits past the end of the disk say nothing. Bit 0 is the least significant.
        piece[piece.length - 1]! &= 0xff >> spare;
      }
      for (let index = 0; index < piece.length; index++) {
        ones += ONES[piece[index]!]!;
      }
      last = ((piece[piece.length - 1]! >> ((count - 1) % 8)) & 1) === 1;
      if (pace.due()) {
        await pace.turn(done, bytes);
      }
    }
    return { ones, last };
  }
}

/** Set bits of each byte value. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);
