import { corruptImage } from '../../../errors';
import { Pace, type PaceOptions } from '../../../pace';
import type { WordTable } from '../../../layout/wordTable';
import type { QuietImage } from './quietImage';

/* An L1 table, its L2 tables and what they map: the tree that the guest's view, and each snapshot, is. */

const COPIED_HIGH = 0x80000000;
const COMPRESSED_HIGH = 0x40000000;
const SECTOR = 512;

interface Range {
  readonly hostOffset: number;
  readonly length: number;
}

/** An L1 table as it lies in the file; empty when it has no entries. */
export function readL1(image: QuietImage, hostOffset: number, entries: number): WordTable | null {
  return entries === 0 ? null : image.readTable(hostOffset, entries, 'L1 table');
}

/**
 * Changes by one the refcount of everything that an L1 table leads to. Where that fails what was changed is changed back.
 * @throws EngineError `request.unsupported` where a refcount would not fit, `image.corrupt`, `cancelled`
 */
export async function countTree(image: QuietImage, l1: WordTable | null, delta: 1 | -1, options: PaceOptions = {}): Promise<void> {
  const pace = new Pace(options);
  let done = 0;
  try {
    for (const { hostOffset, length } of ranges(image, l1)) {
      await image.count(hostOffset, length, delta);
      done++;
      if (pace.due()) {
        await pace.turn(done, Infinity);
      }
    }
  } catch (error) {
    for (const { hostOffset, length } of ranges(image, l1)) {
      if (done-- <= 0) {
        break;
      }
      await image.count(hostOffset, length, delta === 1 ? -1 : 1);
    }
    throw error;
  }
}

/**
 * Sets COPIED where a refcount is one and clears it elsewhere, in the L2 tables and in the L1 table at `l1`.
 * @param own whether L1 entries get it too: only the active table's have it
 * @returns how many flags it changed
 */
export async function markCopied(image: QuietImage, l1: WordTable | null, own: boolean, options: PaceOptions = {}): Promise<number> {
  const pace = new Pace(options);
  if (!l1) {
    return 0;
  }
  const { clusterSize, l2EntryBytes, hasDataFile } = image.metadata;
  const step = l2EntryBytes / 8;
  let inL1 = 0;
  let inL2 = 0;
  for (let index = 0; index < l1.length; index++) {
    const l2Offset = l1.hostOffsetAt(index);
    if (l2Offset !== 0) {
      const l2 = image.readTable(l2Offset, clusterSize / 8, 'L2 table');
      let changed = 0;
      for (let entry = 0; entry < l2.length; entry += step) {
        const hostOffset = l2.hostOffsetAt(entry);
        if ((l2.high(entry) & COMPRESSED_HIGH) === 0 && hostOffset !== 0 && !hasDataFile) {
          changed += setCopied(l2, entry, image.refcount(hostOffset) === 1) ? 1 : 0;
        }
      }
      if (changed > 0) {
        inL2 += changed;
        await image.storage.write(l2.bytes, l2Offset);
      }
      inL1 += setCopied(l1, index, own && image.refcount(l2Offset) === 1) ? 1 : 0;
    }
    if (pace.due()) {
      await pace.turn(index, l1.length);
    }
  }
  if (inL1 > 0 && own) {
    await image.storage.write(l1.bytes, l1.hostOffset);
  }
  return inL1 + inL2;
}

/** Clears COPIED in a table that is not in use yet. */
export function clearCopied(l1: WordTable): void {
  for (let index = 0; index < l1.length; index++) {
    setCopied(l1, index, false);
  }
}

function setCopied(table: WordTable, index: number, on: boolean): boolean {
  const high = table.high(index);
  const next = on ? (high | COPIED_HIGH) >>> 0 : high & ~COPIED_HIGH;
  if (next === high) {
    return false;
  }
  new DataView(table.bytes.buffer, table.bytes.byteOffset).setUint32(index * 8, next);
  return true;
}

/** What an L1 table leads to, one reference each: L2 tables, data, compressed data. Neighbours come as one range. */
function* ranges(image: QuietImage, l1: WordTable | null): Generator<Range> {
  const { clusterSize, clusterBits, l2EntryBytes, hasDataFile } = image.metadata;
  const step = l2EntryBytes / 8;
  const sectorShift = BigInt(62 - (clusterBits - 8));
  const offsetMask = (1n << sectorShift) - 1n;
  const sectorMask = (1n << BigInt(clusterBits - 8)) - 1n;
  for (let index = 0; l1 && index < l1.length; index++) {
    const l2Offset = l1.hostOffsetAt(index);
    if (l2Offset === 0) {
      continue;
    }
    const l2 = image.readTable(l2Offset, clusterSize / 8, 'L2 table');
    let start = l2Offset;
    let length = clusterSize;
    for (let entry = 0; entry < l2.length; entry += step) {
      let next: Range;
      if ((l2.high(entry) & COMPRESSED_HIGH) !== 0) {
        const word = l2.word(entry);
        const hostOffset = Number(word & offsetMask);
        const sectors = Number((word >> sectorShift) & sectorMask) + 1;
        const first = Math.floor(hostOffset / SECTOR) * SECTOR;
        // Two of them may share a cluster, and each counts.
        next = { hostOffset: first, length: sectors * SECTOR };
      } else {
        const hostOffset = l2.hostOffsetAt(entry);
        if (hostOffset === 0 || hasDataFile) {
          continue;
        }
        if (hostOffset % clusterSize !== 0) {
          throw corruptImage(image.storage.name, 'L2 table', l2.entryOffset(entry), `The data offset ${hostOffset} is not aligned.`);
        }
        if (hostOffset === start + length && length % clusterSize === 0 && start % clusterSize === 0) {
          length += clusterSize;
          continue;
        }
        next = { hostOffset, length: clusterSize };
      }
      yield { hostOffset: start, length };
      start = next.hostOffset;
      length = next.length;
    }
    yield { hostOffset: start, length };
  }
}
