import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import type { Pace } from '../pace';
import { RefcountReader } from './refcountReader';

/** Refcounts looked at between two comparisons with the threshold. */
const STEP = 64 * 1024;

/**
 * Whether QEMU takes an image for one whose metadata was preallocated: clearly more clusters are in use (have a refcount) than the file
 * system has given blocks for. Only then does it look for holes inside data clusters. A factor of 10/9, and at least two clusters, allow
 * for what a file system rounds.
 */
export async function seemsPreallocated(metadata: Qcow2Metadata, pace: Pace): Promise<boolean> {
  const { source, clusterSize } = metadata;
  const clusters = Math.ceil(source.size / clusterSize);
  const allocated = Math.floor(source.allocatedBytes / clusterSize);
  const threshold = Math.max(Math.floor((allocated * 10) / 9), allocated + 2);
  if (clusters < threshold) {
    return false;
  }
  const refcounts = new RefcountReader(metadata);
  const perBlock = metadata.refcountBlockEntries;
  const counts = new Uint16Array(Math.min(STEP, clusters));
  let used = 0;
  let cluster = 0;
  while (cluster < clusters && used < threshold) {
    const block = Math.floor(cluster / perBlock);
    const offset = refcounts.blockOffset(block);
    if (offset === 0 || block >= refcounts.blocks) {
      cluster = refcounts.nextBlock(block) * perBlock;
      continue;
    }
    if (offset % clusterSize !== 0 || offset === Infinity) {
      // QEMU gives up counting on an unusable block, and with it the idea.
      return false;
    }
    const count = Math.min(counts.length, clusters - cluster, (block + 1) * perBlock - cluster);
    const piece = counts.subarray(0, count);
    refcounts.read(cluster, piece);
    for (let i = 0; i < count; i++) {
      used += piece[i] === 0 ? 0 : 1;
    }
    cluster += count;
    if (pace.due()) {
      await pace.turn(0, 1);
    }
  }
  return used >= threshold;
}
