import { Comparison } from './comparison';
import type { CheckContext } from './context';
import { DenseReferences, SparseReferences, type References } from './references';
import { countRefcountBlocks } from './refcountBlocks';
import { CLUSTERS_PER_PAIR } from './scanLoops';
import { eachStructure } from './structures';
import { WindowScan, type Window } from './windowScan';

/**
 * Host clusters that are checked at a time. The memory of a check is bounded by these, whatever the image: three bits a cluster where
 * references are sparse (24 MiB), and five bytes where they are not (20 MiB more). A larger file is gone over in several windows.
 */
export const SPARSE_WINDOW = 2 ** 26;
export const DENSE_WINDOW = 2 ** 22;

/** Sizes of windows; tests make them small. */
export interface WindowSizes {
  /** Multiples of 32 clusters. */
  readonly sparse: number;
  readonly dense: number;
}

export const WINDOW_SIZES: WindowSizes = { sparse: SPARSE_WINDOW, dense: DENSE_WINDOW };

/** Whether references are kept densely from the start: shared clusters are the rule in an image with snapshots. */
export function startsDense({ snapshots }: Pick<CheckContext, 'snapshots'>): boolean {
  return snapshots.snapshots.some(({ l1Size }) => l1Size > 0);
}

/** The largest window that the loops will have to look at. */
export function largestWindow(fileClusters: number, dense: boolean, sizes: WindowSizes): number {
  return Math.min(fileClusters + 1, dense ? sizes.dense : Math.max(sizes.sparse, sizes.dense));
}

/** Scans the image window by window and compares refcounts with references. */
export async function checkWindows(context: CheckContext, sizes: WindowSizes): Promise<void> {
  const { image, pace } = context;
  // Tables may reach into the cluster after the file's last.
  const slots = image.fileClusters + 1;
  const memory = new Memory(slots, sizes);
  let dense = startsDense(context);
  let first = 0;
  while (first < slots) {
    const size = dense ? sizes.dense : sizes.sparse;
    const window = { first, end: Math.min(first + size, slots), isFirst: first === 0 };
    pace.expectPasses(Math.ceil(slots / size));
    const before = mark(context);
    const refs = dense ? memory.dense() : new SparseReferences(context.loops, memory.metadata());
    if (await checkWindow(context, window, refs, size < slots)) {
      first = window.end;
    } else {
      rollBack(context, before);
      if (window.isFirst) {
        // What was found in L1 entries is forgotten too.
        context.walk.startOver();
      }
      dense = true;
    }
  }
}

/** @returns false when the references turned out too many or too mixed for the representation; what was found is of no use then */
async function checkWindow(context: CheckContext, window: Window, refs: References, severalWindows: boolean): Promise<boolean> {
  const { image, loops, refcounts, walk, pace } = context;
  const { first, end } = window;
  loops.moveTo(first, Math.min(end, image.fileClusters) - first);
  const different = new Set<number>();
  refcounts.load(loops, first, end - first, (block) => different.add(block));
  const scan = new WindowScan(context, window, refs, { looped: refs instanceof SparseReferences, severalWindows });
  await eachStructure(image, context.snapshots, context.bitmaps, pace, (structure) => {
    scan.structure(structure);
  });
  await walk.walk(scan);
  if (exceeded(refs)) {
    return false;
  }
  countRefcountBlocks(context, window, refs);
  if (!(refs instanceof SparseReferences)) {
    new Comparison(context, window, refs, () => true).run();
    return true;
  }
  for (const x of refs.extra.keys()) {
    different.add(refcounts.blockOf(first + x));
  }
  new Comparison(context, window, refs, (block) => different.has(block)).run();
  return !exceeded(refs);
}

/** A function, since the scan changes it behind the compiler's back. */
function exceeded(refs: References): boolean {
  return refs.exceeded;
}

/** The arrays behind the references; made when first needed and used again for every window. */
class Memory {
  private readonly slots: number;
  private readonly sizes: WindowSizes;
  private bits: Int32Array | undefined;
  private counts: Uint32Array | undefined;
  private roles: Uint8Array | undefined;

  constructor(slots: number, sizes: WindowSizes) {
    this.slots = slots;
    this.sizes = sizes;
  }

  metadata(): Int32Array {
    this.bits = this.bits?.fill(0) ?? new Int32Array(Math.ceil(Math.min(this.slots, this.sizes.sparse) / CLUSTERS_PER_PAIR));
    return this.bits;
  }

  dense(): DenseReferences {
    const length = Math.min(this.slots, this.sizes.dense);
    this.bits = undefined;
    this.counts = this.counts?.fill(0) ?? new Uint32Array(length);
    this.roles = this.roles?.fill(0) ?? new Uint8Array(length);
    return new DenseReferences(this.counts, this.roles);
  }
}

function mark({ tally, findings }: CheckContext) {
  const { allocated, fragmented, compressed, highestCluster, beyondEnd, failure } = tally;
  return {
    numbers: { allocated, fragmented, compressed, highestCluster, beyondEnd, failure },
    abandoned: tally.abandoned.mark(),
    leaked: tally.leaked.mark(),
    corrupt: tally.corrupt.mark(),
    findings: findings.mark(),
  };
}

function rollBack({ tally, findings }: CheckContext, before: ReturnType<typeof mark>): void {
  Object.assign(tally, before.numbers);
  tally.abandoned.rollBack(before.abandoned);
  tally.leaked.rollBack(before.leaked);
  tally.corrupt.rollBack(before.corrupt);
  findings.rollBack(before.findings);
}
