import type { ByteSource } from '../io/source';
import type { CheckPace } from './checkPace';
import type { ClusterRanges } from './clusterRanges';
import type { Findings } from './findings';
import type { Leftover } from './leftovers';
import type { L2Walk } from './l2Walk';
import type { CheckedBitmaps } from './bitmapTables';
import type { CheckedImage } from './opening';
import type { Owners } from './owners';
import type { Refcounts } from './refcounts';
import type { ScanLoops } from './scanLoops';
import type { CheckedSnapshots } from './snapshotTable';

/** What adds up over the passes of a check. */
export interface Tally {
  allocated: number;
  fragmented: number;
  compressed: number;
  /** Highest host cluster that has a refcount or a reference. */
  highestCluster: number;
  /** Whether a table reaches into the cluster after the file's last, which QEMU then counts too. */
  beyondEnd: boolean;
  /** Set when QEMU gives up: an errno's text. */
  failure: string | null;
  readonly leaked: ClusterRanges;
  readonly corrupt: ClusterRanges;
  /** Those of the leaked clusters that nothing refers to at all. */
  readonly abandoned: ClusterRanges;
}

/** A qcow2 check under way. */
export interface CheckContext {
  readonly image: CheckedImage;
  readonly snapshots: CheckedSnapshots;
  readonly bitmaps: CheckedBitmaps;
  readonly refcounts: Refcounts;
  readonly loops: ScanLoops;
  readonly walk: L2Walk;
  readonly findings: Findings;
  readonly owners: Owners;
  /** What was found in leaked clusters, by cluster. */
  readonly leftovers: Map<number, Leftover>;
  readonly tally: Tally;
  readonly pace: CheckPace;
  readonly dataFile: ByteSource | null;
}
