import { EngineError } from '../errors';
import type { CheckContext } from './context';
import { compressedExtent, hasReservedL2Bits, hostOffsetOf, isCompressed, isCopied } from './entries';
import { hex } from './findings';
import type { CheckedImage } from './opening';
import { readInto } from './padded';

/** What a leaked cluster seems to have been. */
export interface Leftover {
  /** What to say instead of "no data is known to be lost". */
  readonly consequence: string;
}

/** Leaked clusters that are looked into. */
const MOST_CLUSTERS = 1024;

/** Bytes of a cluster that are looked at. */
const LOOK_BYTES = 64 * 1024;

const LOST_TABLE =
  'It has the content of a table: an entry that led to it seems to be lost, and with it the guest data that it maps. Freeing it would make that final.';
const OLD_COPY = 'It is an old copy of a table; all that it maps is still in use, so that nothing is lost with it.';
const LOST_DATA =
  'It holds data: an interrupted write leaves such a cluster behind, but so does an L2 entry that was wiped, and then this is the guest data that is missing. Freeing it would make that final.';

/**
 * Looks into leaked clusters that nothing refers to: those that were plainly tables, and those that hold anything at all, may be what is
 * left of lost guest data. At most a thousand clusters and 64 MiB are read.
 */
export async function lookIntoLeaks(context: CheckContext): Promise<void> {
  const { image, tally, findings, leftovers, loops, pace } = context;
  for (const cluster of tally.abandoned.first(MOST_CLUSTERS)) {
    const hostOffset = cluster * image.clusterSize;
    const seen = look(context, hostOffset);
    if (seen === 'nothing') {
      continue;
    }
    const about = {
      place: { kind: 'tableRow', table: { kind: 'refcounts' }, row: cluster },
      cluster: { kind: 'host', hostOffset, length: image.clusterSize },
      guest: null,
    } as const;
    if (seen === 'data') {
      leftovers.set(cluster, { consequence: LOST_DATA });
      const message = `Leaked cluster ${cluster} at ${hex(hostOffset)} is not empty.`;
      findings.add('lostData', 'extra', () => ({ message, consequence: LOST_DATA, ...about }));
    } else if (!seen.mapsAbandoned) {
      // A snapshot that could not be completed, or an interrupted copy on write.
      leftovers.set(cluster, { consequence: OLD_COPY });
    } else {
      leftovers.set(cluster, { consequence: LOST_TABLE });
      const title = leadsToTables(context, seen.firstTarget) ? 'an L1 table' : 'an L2 table';
      const message = `Leaked cluster ${cluster} at ${hex(hostOffset)} has the content of ${title} with ${seen.mapped} entries.`;
      findings.add('lostTable', 'extra', () => ({ message, consequence: LOST_TABLE, ...about }));
    }
    if (pace.due()) {
      await pace.turn();
    }
  }
  loops.buffer.fill(0, 0, 8);
}

type Content = 'nothing' | 'data' | TableContent;

interface TableContent {
  readonly mapped: number;
  /** Whether nothing else refers to one of the clusters that it maps. */
  readonly mapsAbandoned: boolean;
  /** Host offset of the first cluster that a standard entry names; -1 when all are compressed. */
  readonly firstTarget: number;
}

function look(context: CheckContext, hostOffset: number): Content {
  const { image, loops } = context;
  const length = Math.min(image.clusterSize, LOOK_BYTES);
  try {
    readInto(image.metadata.source, loops.buffer.subarray(0, length), hostOffset);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'file.io') {
      // What cannot be read cannot be judged; it stays an ordinary leak.
      return 'nothing';
    }
    throw error;
  }
  const { view } = loops;
  let empty = true;
  for (let p = 0; p < length && empty; p += 4) {
    empty = view.getInt32(p) === 0;
  }
  return empty ? 'nothing' : (tableContent(context, view, length) ?? 'data');
}

/** The words as L2 entries, where every one of them could be one of this image and at least one has a flag that data rarely has. */
function tableContent({ image, tally }: CheckContext, view: DataView, length: number): TableContent | null {
  const { clusterBits, clusterSize } = image;
  const { extendedL2, hasDataFile } = image.metadata;
  let mapped = 0;
  let flagged = 0;
  let firstTarget = -1;
  // What an external data file holds has no refcounts to tell.
  let mapsAbandoned = hasDataFile;
  for (let p = 0; p < length; p += extendedL2 ? 16 : 8) {
    const high = view.getInt32(p);
    const low = view.getInt32(p + 4);
    if (extendedL2 && (view.getInt32(p + 8) & view.getInt32(p + 12)) !== 0) {
      return null;
    }
    if ((high | low) === 0) {
      continue;
    }
    if (!plausible(image, high, low)) {
      return null;
    }
    mapped++;
    flagged += isCopied(high) || isCompressed(high) ? 1 : 0;
    const target = isCompressed(high) ? compressedExtent(high, low, clusterBits).hostOffset : hostOffsetOf(high, low);
    mapsAbandoned ||= target !== 0 && tally.abandoned.mayHave(Math.floor(target / clusterSize));
    if (firstTarget < 0 && !isCompressed(high)) {
      firstTarget = target;
    }
  }
  return flagged > 0 ? { mapped, firstTarget, mapsAbandoned } : null;
}

function plausible({ metadata, clusterSize, clusterBits, fileLength }: CheckedImage, high: number, low: number): boolean {
  if (isCompressed(high)) {
    const { hostOffset } = compressedExtent(high, low, clusterBits);
    return !isCopied(high) && hostOffset < fileLength && !metadata.hasDataFile;
  }
  const offset = hostOffsetOf(high, low);
  const inFile = metadata.hasDataFile || offset < fileLength;
  return !hasReservedL2Bits(high, low) && offset % clusterSize === 0 && inFile && (offset !== 0 || low === 1 || metadata.hasDataFile);
}

/** An L1 table has the form of an L2 table; what it leads to tells. */
function leadsToTables(context: CheckContext, target: number): boolean {
  if (target <= 0 || context.image.metadata.hasDataFile) {
    return false;
  }
  const content = look(context, target);
  return typeof content === 'object';
}
