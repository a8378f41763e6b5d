import type { CheckContext } from './context';
import { compressedExtent, hostOffsetOf, isAllocated, isCompressed } from './entries';
import { l2EntryTitle, ofSnapshot, tableOwner } from './entryText';
import { hex } from './findings';
import type { L2TableSet } from './l2Tables';
import { eachStructure } from './structures';

/** Goes over all tables again and notes who uses the clusters that findings are about. */
export async function nameOwners(context: CheckContext): Promise<void> {
  const { image, owners, walk, pace, snapshots, bitmaps, refcounts, loops } = context;
  const { clusterSize, clusterBits, metadata } = image;
  const { extendedL2, hasDataFile } = metadata;
  const note = (hostOffset: number, length: number, user: Parameters<typeof owners.note>[2]): void => {
    if (hostOffset < image.fileLength) {
      owners.note(Math.floor(hostOffset / clusterSize), Math.floor((hostOffset + length - 1) / clusterSize), user);
    }
  };
  await eachStructure(image, snapshots, bitmaps, pace, ({ title, hostOffset, length }) => {
    if (hostOffset < BigInt(image.fileLength) && length < 2n ** 53n) {
      const name = title.charAt(0).toLowerCase() + title.slice(1);
      note(Number(hostOffset), Number(length), () => ({ name, guest: null }));
    }
  });
  for (const block of refcounts.blocks) {
    if (refcounts.blockOffset(block) !== 0) {
      note(refcounts.blockOffset(block), clusterSize, () => ({ name: `refcount block ${block}`, guest: null }));
    }
  }
  const stride = extendedL2 ? 2 : 1;
  await walk.walk({
    tables(set) {
      for (let table = 0; table < set.length; table++) {
        note(set.hostOffset[table] ?? 0, clusterSize, () => tableUser(context, set, table));
      }
    },
    words(set, table, at, count, firstWord) {
      for (let word = 0; word < count && !hasDataFile; word += stride) {
        const high = loops.view.getInt32(at + word * 8);
        const low = loops.view.getInt32(at + word * 8 + 4);
        if ((high | low) === 0) {
          continue;
        }
        const index = (firstWord + word) / stride;
        if (isCompressed(high)) {
          const { hostOffset, length } = compressedExtent(high, low, clusterBits);
          note(hostOffset, length, () => entryUser(context, set, table, index));
        } else if (isAllocated(high, low, extendedL2, hasDataFile)) {
          note(hostOffsetOf(high, low), clusterSize, () => entryUser(context, set, table, index));
        }
      }
    },
    // What could not be read was reported by the scan.
    unreadable: () => undefined,
  });
}

function entryUser(
  { image }: CheckContext,
  set: L2TableSet,
  table: number,
  index: number,
): { name: string; guest: { guestOffset: number; length: number } } {
  const guestOffset = (tableOwner(image, set, table).row + index) * image.clusterSize;
  return { name: l2EntryTitle(image, set, table, index).replace(/,$/, ''), guest: { guestOffset, length: image.clusterSize } };
}

function tableUser({ image }: CheckContext, set: L2TableSet, table: number): { name: string; guest: null } {
  const { snapshot } = tableOwner(image, set, table);
  const references = (set.activeCopied[table] ?? 0) + (set.activePlain[table] ?? 0) + (set.snapshots[table] ?? 0);
  const several = references > 1 ? ` (${references} references)` : '';
  return {
    name: `the L2 table of L1 entry ${set.l1Index[table] ?? 0}${ofSnapshot(snapshot)} at ${hex(set.hostOffset[table] ?? 0)}${several}`,
    guest: null,
  };
}
