import { Comparison } from './comparison';
import type { CheckContext } from './context';
import { DenseReferences, SparseReferences, type References } from './references';
import { countRefcountBlocks } from './refcountBlocks';
import { CLUSTERS_PER_PAIR, type ScanLoops } from './scanLoops';
import { eachStructure } from './structures';
import { WindowScan, type Window } from './windowScan';

/** How references are kept, from the smallest to the one that takes anything. */
type Density = 'sparse' | 'compact' | 'wide';

/**
 * Host clusters that are checked at a time. The memory of a check is bounded by these, whatever the image; a larger file is gone over in
 * several windows. Multiples of 32.
 */
export interface WindowSizes extends Readonly<Record<Density, number>> {
  /** Three bits a cluster: nearly all have no reference or one. */
  readonly sparse: number;
  /** Two bytes and two bits. */
  readonly compact: number;
  /** Five bytes and two bits. */
  readonly wide: number;
}

/** Sparse windows take 18 MiB; the others fit the part of it that is no longer needed then. */
export const WINDOW_SIZES: WindowSizes = { sparse: 3 * 2 ** 24, compact: 5 * 2 ** 20, wide: 2 ** 21 };

const DENSER: Readonly<Record<Density, Density>> = { sparse: 'compact', compact: 'wide', wide: 'wide' };

/** Shared clusters are the rule in an image with snapshots. */
function startsAs({ snapshots }: Pick<CheckContext, 'snapshots'>): Density {
  return snapshots.snapshots.some(({ l1Size }) => l1Size > 0) ? 'compact' : 'sparse';
}

/** The largest window that the loops will have to look at. */
export function largestWindow(fileClusters: number, snapshots: CheckContext['snapshots'], sizes: WindowSizes): number {
  const smallest = Math.max(sizes.compact, sizes.wide);
  return Math.min(fileClusters + 1, startsAs({ snapshots }) === 'sparse' ? Math.max(sizes.sparse, smallest) : smallest);
}

/** Scans the image window by window and compares refcounts with references. */
export async function checkWindows(context: CheckContext, sizes: WindowSizes): Promise<void> {
  const { image, pace } = context;
  // Tables may reach into the cluster after the file's last.
  const slots = image.fileClusters + 1;
  const memory = new Memory(context.loops);
  let density = startsAs(context);
  let first = 0;
  while (first < slots) {
    const size = Math.min(sizes[density], slots);
    const window = { first, end: Math.min(first + size, slots), isFirst: first === 0 };
    pace.expectPasses(Math.ceil(slots / size));
    const before = mark(context);
    if (await checkWindow(context, window, memory.references(density, size), size < slots)) {
      first = window.end;
    } else {
      rollBack(context, before);
      if (window.isFirst) {
        // What was found in L1 entries is forgotten too.
        context.walk.startOver();
      }
      density = DENSER[density];
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
    return !exceeded(refs);
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

/**
 * The arrays behind the references; made when first needed and used again for every window. Where the loops' map was made for large sparse
 * windows, dense arrays lie in its part that is not used any more.
 */
class Memory {
  private readonly loops: ScanLoops;
  private bits: Int32Array | undefined;
  private counts: Uint8Array | Uint32Array | undefined;
  private roles: Uint8Array | undefined;

  constructor(loops: ScanLoops) {
    this.loops = loops;
  }

  references(density: Density, length: number): References {
    if (density === 'sparse') {
      this.bits = this.bits?.fill(0) ?? new Int32Array(pairsOf(length));
      return new SparseReferences(this.loops, this.bits);
    }
    this.bits = undefined;
    const width = density === 'wide' ? 4 : 1;
    if (this.counts?.BYTES_PER_ELEMENT !== width || !this.roles) {
      const { map } = this.loops;
      const used = pairsOf(length) * 8;
      const spare = map.byteLength - used >= length * (width + 1);
      const buffer = spare ? map.buffer : new ArrayBuffer(length * (width + 1));
      const at = spare ? map.byteOffset + used : 0;
      this.counts = width === 4 ? new Uint32Array(buffer, at, length) : new Uint8Array(buffer, at, length);
      this.roles = new Uint8Array(buffer, at + length * width, length);
    }
    return new DenseReferences(this.counts.fill(0), this.roles.fill(0));
  }
}

function pairsOf(clusters: number): number {
  return Math.ceil(clusters / CLUSTERS_PER_PAIR);
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
