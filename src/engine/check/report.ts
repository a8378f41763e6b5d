import type { CheckReport, FindingKind } from '../../protocol/check';
import type { Findings } from './findings';

/** Notes about leaks: they add to what is said, not to what is wrong. */
const ABOUT_LEAKS: ReadonlySet<FindingKind> = new Set<FindingKind>(['lostTable', 'lostData']);

/** Exit codes of qemu-img check. */
const EXIT = { consistent: 0, failed: 1, corrupt: 2, leaking: 3 } as const;

export interface Outcome {
  readonly path: string;
  readonly format: CheckReport['format'];
  readonly findings: Findings;
  readonly tally: {
    readonly totalClusters: number;
    readonly allocated: number;
    readonly fragmented: number;
    readonly compressed: number;
    readonly imageEndOffset: number;
    readonly failure: string | null;
  };
  readonly deep: boolean;
  /** `performance.now()` when the check began. */
  readonly started: number;
}

export function reportOf({ path, format, findings, tally, deep, started }: Outcome): CheckReport {
  const checkErrors = findings.total('checkError');
  const corruptions = findings.total('corruption');
  const leaks = findings.total('leak');
  const kinds = findings.kinds();
  const beyond = kinds.some(({ kind, category }) => category === 'extra' && !ABOUT_LEAKS.has(kind));
  const exitCode = exitCodeFor(tally.failure !== null || checkErrors > 0, corruptions > 0, leaks > 0);
  return {
    path,
    format,
    counts: {
      checkErrors,
      corruptions,
      leaks,
      corruptionsFixed: 0,
      leaksFixed: 0,
      imageEndOffset: tally.imageEndOffset,
      totalClusters: tally.totalClusters,
      allocatedClusters: tally.allocated,
      fragmentedClusters: tally.fragmented,
      compressedClusters: tally.compressed,
    },
    kinds,
    findings: findings.written(),
    exitCode,
    strictExitCode: exitCodeFor(exitCode === EXIT.failed, corruptions > 0 || beyond, leaks > 0),
    failure: tally.failure,
    deep,
    elapsedMs: performance.now() - started,
  };
}

function exitCodeFor(failed: boolean, corrupt: boolean, leaking: boolean): number {
  return failed ? EXIT.failed : corrupt ? EXIT.corrupt : leaking ? EXIT.leaking : EXIT.consistent;
}
