import { CacheStorage } from '../../cache/cacheStorage';
import type { CacheStatus } from '../../../protocol/exports';
import { CacheWarming, type WarmingParts } from '../../cache/warming';
import { EngineError } from '../../errors';
import { cacheQuotaOf } from '../../formats/qcow2/cacheQuota';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { FileStorage } from '../../io/fileStorage';
import { acquireLocks, changeLocks, mayLock, takeLocks } from '../../io/imageLocks';
import type { BlockNode } from '../blockNode';
import type { Layer } from '../../chain/layer';
import type { GraphNode } from './graphNode';
import { withFiles } from './layerOpening';

/** The quota of a cache image, in bytes; null for another image. */
export function quotaOf({ detail }: Layer): number | null {
  return detail.format === 'qcow2' ? cacheQuotaOf(detail.metadata) : null;
}

/** How a cache image in use does; null for another image. */
export function cacheStatusOf({ layer, warming, cacheProblem }: GraphNode): CacheStatus | null {
  const quota = quotaOf(layer);
  if (warming || quota === null) {
    return warming?.status() ?? null;
  }
  const { filename, source } = layer;
  return { filename, state: 'reading', quota, used: source.size, hits: 0, misses: 0, copied: 0, problem: cacheProblem };
}

/** Whether a cache image that others did not let be warmed could be now. */
export function mayWarm({ warming, locks: [lock] }: GraphNode): boolean {
  return warming === null && lock?.role === 'cache' && mayLock({ file: lock.file, role: 'cache-warmer' });
}

/** @throws EngineError `file.locked` where other processes read a cache image that is warmed here */
export function requireNobodyBeside({ locks }: GraphNode): void {
  // These are bytes that who warms holds anyway; what is new is that nobody is excused.
  acquireLocks(locks.map(({ file }) => ({ file, role: 'metadata-writer' })));
}

/**
 * Opens a cache image that is read so far to fill it. That somebody else warms or reads it, or that it cannot be written, leaves it as it is.
 * @returns its former driver, to be closed; `locked` where others are in the way; null where it is not to be warmed at all
 */
export async function startWarming(
  node: GraphNode,
  options: { readonly nodeName: string; readonly cacheBytes: number; readonly onProblem: WarmingParts['onProblem'] },
): Promise<BlockNode | 'locked' | null> {
  const { layer, tracked, backing, locks } = node;
  const quota = quotaOf(layer);
  const [lock] = locks;
  if (quota === null || node.warming || !tracked.readOnly || lock?.role !== 'cache' || locks.length > 1) {
    return null;
  }
  if (layer.detail.format === 'qcow2' && layer.detail.metadata.nbSnapshots > 0) {
    // Its entries would not change once only, which those who read beside rely on.
    node.cacheProblem = 'An image with internal snapshots is not warmed.';
    return null;
  }
  let file: FileStorage | null = null;
  try {
    changeLocks(lock.file, 'cache', 'cache-warmer');
    try {
      file = FileStorage.reopen(lock.file, { writable: true });
      const own = { file, role: 'cache-warmer' } as const;
      takeLocks([own]);
      const storage = new CacheStorage(file, quota);
      const { nodeName, cacheBytes, onProblem } = options;
      const image = await Qcow2Node.open({
        storage,
        backing: backing?.tracked ?? null,
        nodeName,
        filename: layer.filename,
        readOnly: false,
        cacheBytes,
      });
      const former = tracked.image;
      tracked.replaceImage(image);
      Object.assign(node, { layer: withFiles(layer, [file]), locks: [own], cacheProblem: null });
      node.warming = new CacheWarming({ tracked, image, storage, quota, onProblem });
      return former;
    } catch (error) {
      file?.close();
      changeLocks(lock.file, 'cache-warmer', 'cache');
      throw error;
    }
  } catch (error) {
    node.cacheProblem = error instanceof Error ? error.message : String(error);
    return error instanceof EngineError && error.code === 'file.locked' ? 'locked' : null;
  }
}
