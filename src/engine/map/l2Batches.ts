import type { ByteSource } from '../io/source';
import type { ByteOrder } from '../layout/fields';
import type { Pace } from '../pace';
import { PagedTable } from './tableAccess';

/** Tables handled at a time; a disk of 512 TiB with 64 KiB clusters has as many. */
const MOST_TABLES = 2 ** 20;

/** L2 tables by their place in the file, each once. */
export interface L2Batch {
  /** Ascending. */
  readonly offsets: Float64Array;
  /** How many L1 entries lead to each. */
  readonly weights: Uint32Array;
  /** Lowest and highest cluster that each table's entries name, once it was read; `lowest` is -1 before. */
  readonly lowest: Float64Array;
  readonly highest: Float64Array;
}

export interface TableLocation {
  readonly hostOffset: number;
  /** Number of 64-bit entries. */
  readonly entries: number;
}

/**
 * The L2 tables that L1 tables lead to, in the order of the file and without repetitions: snapshots share most of theirs, and file order
 * is what a disk likes. Offsets that are not aligned, or past the end, lead nowhere. More tables than fit come in several batches, and
 * then one table may come in more than one.
 * @throws EngineError `cancelled`, `file.io`
 */
export async function* l2Batches(
  source: ByteSource,
  l1Tables: readonly TableLocation[],
  { clusterSize, order }: { readonly clusterSize: number; readonly order: ByteOrder },
  pace: Pace,
): AsyncGenerator<L2Batch> {
  let found = new Float64Array(1024);
  let count = 0;
  let looked = 0;
  for (const { hostOffset, entries } of l1Tables) {
    const l1 = new PagedTable(source, hostOffset, entries, order);
    for (let index = l1.nextUsed(0); index !== Infinity; index = l1.nextUsed(index + 1)) {
      const high = order === 'big' ? l1.high(index) & 0x00ffffff : l1.high(index);
      const low = order === 'big' ? (l1.low(index) & ~0x1ff) >>> 0 : l1.low(index);
      const offset = high * 2 ** 32 + low;
      if (++looked % 4096 === 0 && pace.due()) {
        await pace.turn(0, 1);
      }
      if (offset === 0 || offset >= source.size || offset % clusterSize !== 0) {
        continue;
      }
      if (count === MOST_TABLES) {
        yield batchOf(found);
        count = 0;
      }
      if (count === found.length) {
        const larger = new Float64Array(count * 2);
        larger.set(found);
        found = larger;
      }
      found[count++] = offset;
    }
    // A directory may claim tens of thousands of empty tables.
    if (pace.due()) {
      await pace.turn(0, 1);
    }
  }
  yield batchOf(found.subarray(0, count));
}

function batchOf(found: Float64Array): L2Batch {
  found.sort();
  const offsets = new Float64Array(found.length);
  const weights = new Uint32Array(found.length);
  let count = 0;
  for (let i = 0; i < found.length; i++) {
    if (count === 0 || offsets[count - 1] !== found[i]) {
      offsets[count++] = found[i]!;
    }
    weights[count - 1]!++;
  }
  return {
    offsets: offsets.subarray(0, count),
    weights: weights.subarray(0, count),
    lowest: new Float64Array(count).fill(-1),
    highest: new Float64Array(count).fill(-1),
  };
}
