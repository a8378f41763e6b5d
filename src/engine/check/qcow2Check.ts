import type { CheckOptions, CheckReport } from '../../protocol/check';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import type { ByteSource } from '../io/source';
import type { PaceOptions } from '../pace';
import { readBitmapsForCheck } from './bitmapTables';
import { CheckPace } from './checkPace';
import { ClusterRanges, type ClusterSet } from './clusterRanges';
import type { CheckContext } from './context';
import { decompressAll } from './deepPass';
import { Findings } from './findings';
import { ACTIVE } from './l2Tables';
import { L2Walk, type L1View } from './l2Walk';
import { lookIntoLeaks } from './leftovers';
import { nameOwners } from './naming';
import { MAX_FILE_CLUSTERS, openForCheck, type CheckedImage } from './opening';
import { Owners } from './owners';
import { Refcounts } from './refcounts';
import { reportOf } from './report';
import { makeScanLoops } from './scanLoops';
import { readSnapshotsForCheck, type CheckedSnapshots } from './snapshotTable';
import { checkWindows, largestWindow, WINDOW_SIZES, type WindowSizes } from './windows';

/** The host clusters that a check found leaked and corrupt (with a refcount below their references). */
export interface CheckClusters {
  readonly leaked: ClusterSet;
  readonly corrupt: ClusterSet;
}

export interface CheckResult extends CheckReport {
  readonly clusters: CheckClusters;
}

export interface Qcow2CheckOptions extends CheckOptions, PaceOptions {
  /** The external data file, where the image has one and it could be opened. */
  readonly dataFile?: ByteSource | null | undefined;
  /** The image's chain comes back to this file, as whoever opened it found. */
  readonly chainLoop?: { readonly path: string } | null | undefined;
  /** How the inner loops run, and how much of the file is looked at in one go; for tests. */
  readonly loops?: 'wasm' | 'js' | 'best' | undefined;
  readonly windows?: WindowSizes | undefined;
}

/**
 * Checks a qcow2 image the way qemu-img check does, with the same counts, and beyond it. Only reads.
 * @throws EngineError `format.invalid` or `format.unsupported` where QEMU refuses to open the image, `cancelled`
 */
export async function checkQcow2(metadata: Qcow2Metadata, options: Qcow2CheckOptions): Promise<CheckResult> {
  const started = performance.now();
  const pace = new CheckPace(options);
  const image = openForCheck(metadata);
  const findings = new Findings(options.maxFindings);
  const leaked = new ClusterRanges();
  const corrupt = new ClusterRanges();
  const finish = (tally: Parameters<typeof reportOf>[0]['tally']): CheckResult => ({
    ...reportOf({ path: metadata.source.name, format: 'qcow2', findings, tally, deep: options.deep, started }),
    clusters: { leaked: leaked.taken(), corrupt: corrupt.taken() },
  });
  if (options.chainLoop) {
    reportLoop(findings, options.chainLoop.path);
  }
  const snapshots = readSnapshotsForCheck(image, findings);
  const failure = snapshots.failure ?? tooManyClusters(image, findings);
  const totals = { totalClusters: image.totalClusters, allocated: 0, fragmented: 0, compressed: 0 };
  if (failure !== null) {
    return finish({ ...totals, failure, imageEndOffset: 0 });
  }
  const bitmaps = await readBitmapsForCheck(image, findings, pace);
  const tally: CheckContext['tally'] = {
    allocated: 0,
    fragmented: 0,
    compressed: 0,
    highestCluster: 0,
    beyondEnd: false,
    failure: bitmaps.failure,
    leaked,
    corrupt,
    abandoned: new ClusterRanges(),
  };
  const { clusterBits, fileClusters } = image;
  const sizes = options.windows ?? WINDOW_SIZES;
  const window = largestWindow(fileClusters, snapshots, sizes);
  const loops = makeScanLoops({ clusterBits, littleEndian: false, fileClusters, largestWindow: window }, options.loops);
  const context: CheckContext = {
    image,
    snapshots,
    bitmaps,
    refcounts: new Refcounts(image),
    loops,
    walk: new L2Walk(image, l1Views(image, snapshots), loops.buffer, pace),
    findings,
    owners: new Owners(),
    leftovers: new Map(),
    tally,
    pace,
    dataFile: options.dataFile ?? null,
  };
  await checkWindows(context, sizes);
  if (context.owners.wanted) {
    await nameOwners(context);
  }
  await lookIntoLeaks(context);
  if (options.deep) {
    await decompressAll(context);
  }
  return finish({ ...totals, ...tally, imageEndOffset: (tally.highestCluster + 1) * image.clusterSize });
}

function l1Views({ metadata }: CheckedImage, { snapshots }: CheckedSnapshots): L1View[] {
  return [
    { snapshot: ACTIVE, hostOffset: metadata.l1TableOffset, entries: metadata.l1Size },
    ...snapshots.map(({ index, l1TableOffset, l1Size }) => ({ snapshot: index, hostOffset: Number(l1TableOffset), entries: l1Size })),
  ];
}

function tooManyClusters({ fileClusters }: CheckedImage, findings: Findings): string | null {
  if (fileClusters <= MAX_FILE_CLUSTERS) {
    return null;
  }
  findings.add('unreadable', 'checkError', () => ({
    message: `The file has ${fileClusters} clusters; QEMU checks at most ${MAX_FILE_CLUSTERS}.`,
    consequence: 'The image cannot be checked.',
    place: null,
    cluster: null,
    guest: null,
  }));
  return 'File too large';
}

function reportLoop(findings: Findings, path: string): void {
  findings.add('chainLoop', 'extra', () => ({
    message: `The backing chain comes back to ${path}.`,
    consequence: 'No guest can use the image: QEMU hangs or refuses when it opens the chain.',
    place: { kind: 'file', path },
    cluster: null,
    guest: null,
  }));
}
