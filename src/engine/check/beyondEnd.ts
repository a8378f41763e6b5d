import type { CheckContext } from './context';
import { hostOffsetOf, isAllocated, isCompressed } from './entries';
import { l2EntryPlace, tableOwner } from './entryText';
import { hex } from './findings';
import { ACTIVE } from './l2Tables';
import type { VisitedTable } from './windowScan';

/* What QEMU does not look for: clusters mapped past the end of the virtual disk, or past the end of the external data file. */

/**
 * Looks for clusters of the active layer past the end of the virtual disk.
 * @param at byte of the buffer where the table's words stand, `count` of them, from its entry `firstEntry` on
 */
export function lookPastSize(context: CheckContext, table: VisitedTable, at: number, count: number, firstEntry: number): void {
  const { image, findings, loops } = context;
  const { metadata, totalClusters, clusterSize } = image;
  const { extendedL2, hasDataFile } = metadata;
  const stride = extendedL2 ? 2 : 1;
  const row = tableOwner(image, table.set, table.index).row + firstEntry;
  if (table.active === 0 || row + count / stride <= totalClusters) {
    return;
  }
  let mapped = 0;
  let first = 0;
  for (let word = Math.max(0, totalClusters - row) * stride; word < count; word += stride) {
    const high = loops.view.getInt32(at + word * 8);
    const low = loops.view.getInt32(at + word * 8 + 4);
    if (isCompressed(high) || isAllocated(high, low, extendedL2, hasDataFile)) {
      first = mapped === 0 ? row + word / stride : first;
      mapped++;
    }
  }
  if (mapped > 0) {
    const size = metadata.header.bigint('size');
    findings.add('mappedPastSize', 'extra', () => ({
      message: `The L2 table at ${hex(table.hostOffset)} maps ${clusters(mapped)} from guest offset ${hex(first * clusterSize)} on, past the end of the virtual disk at ${hex(size)}.`,
      consequence: 'Where the size in the header was lowered by mistake, the guest misses data that is still in the file.',
      place: l2EntryPlace(ACTIVE, first),
      cluster: null,
      guest: { guestOffset: first * clusterSize, length: mapped * clusterSize },
    }));
  }
}

/** Looks for clusters of the active layer whose data should lie past the end of the external data file. Arguments as above. */
export function lookPastDataFile(context: CheckContext, table: VisitedTable, at: number, count: number, firstEntry: number): void {
  const { image, findings, loops, dataFile } = context;
  const { metadata, clusterSize } = image;
  const { extendedL2 } = metadata;
  if (!dataFile || !metadata.hasDataFile || table.active === 0) {
    return;
  }
  const stride = extendedL2 ? 2 : 1;
  const row = tableOwner(image, table.set, table.index).row + firstEntry;
  let missing = 0;
  let first = 0;
  for (let word = 0; word < count; word += stride) {
    const high = loops.view.getInt32(at + word * 8);
    const low = loops.view.getInt32(at + word * 8 + 4);
    if (isCompressed(high) || !isAllocated(high, low, extendedL2, true) || hostOffsetOf(high, low) < dataFile.size) {
      continue;
    }
    const hasData = extendedL2 ? loops.view.getInt32(at + word * 8 + 12) !== 0 : (low & 1) === 0;
    if (hasData) {
      first = missing === 0 ? row + word / stride : first;
      missing++;
    }
  }
  if (missing > 0) {
    const end = dataFile.size;
    findings.add('truncatedDataFile', 'extra', () => ({
      message: `The external data file ends at ${hex(end)}, but the L2 table at ${hex(table.hostOffset)} maps ${clusters(missing)} past that, from guest offset ${hex(first * clusterSize)} on.`,
      consequence: 'What these clusters held is lost: they read as zeroes.',
      place: l2EntryPlace(ACTIVE, first),
      cluster: null,
      guest: { guestOffset: first * clusterSize, length: missing * clusterSize },
    }));
  }
}

function clusters(count: number): string {
  return count === 1 ? '1 cluster' : `${count} clusters`;
}
