import type { CheckReport, FindingCategory } from '../../protocol/check';
import { counted } from '../chains/wording';

/** An entry of the Problems panel. */
export interface FindingProblem {
  readonly severity: 'error' | 'warning' | 'information';
  readonly message: string;
  /** The finding's kind. */
  readonly code: string;
}

const SEVERITIES: Readonly<Record<FindingCategory, FindingProblem['severity']>> = {
  corruption: 'error',
  checkError: 'error',
  leak: 'warning',
  extra: 'warning',
};

/** A check's findings for the Problems panel, worst first, and one entry for each kind of which not all are listed. */
export function problemsOf({ findings, kinds, failure }: CheckReport): FindingProblem[] {
  const listed = new Map<string, number>();
  const problems = findings.map((finding): FindingProblem => {
    listed.set(finding.kind, (listed.get(finding.kind) ?? 0) + 1);
    return {
      severity: SEVERITIES[finding.category],
      message: finding.consequence === '' ? finding.message : `${finding.message} ${finding.consequence}`,
      code: finding.kind,
    };
  });
  for (const { kind, category, count } of kinds) {
    const rest = count - (listed.get(kind) ?? 0);
    if (rest > 0) {
      problems.push({ severity: SEVERITIES[category], message: `${counted(rest, 'more finding')} of this kind.`, code: kind });
    }
  }
  if (failure !== null) {
    problems.unshift({ severity: 'error', message: `The check could not be completed: ${failure}.`, code: 'failure' });
  }
  const order = ['error', 'warning', 'information'];
  return problems.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

/** What a check found, in one sentence without the image's name. */
export function summaryOf({ kinds, counts, failure, elapsedMs }: CheckReport): string {
  if (failure !== null) {
    return `the check could not be completed: ${failure}.`;
  }
  const extra = kinds.filter(({ category }) => category === 'extra').reduce((sum, { count }) => sum + count, 0);
  const found = [
    ...(counts.corruptions > 0 ? [counted(counts.corruptions, 'corruption')] : []),
    ...(counts.leaks > 0 ? [counted(counts.leaks, 'leaked cluster')] : []),
    ...(counts.checkErrors > 0 ? [counted(counts.checkErrors, 'check error')] : []),
    ...(extra > 0 ? [`${counted(extra, 'finding')} beyond qemu-img check`] : []),
  ];
  return found.length === 0
    ? `no errors were found in ${counted(counts.totalClusters, 'cluster')} (${Math.round(elapsedMs)} ms).`
    : `${found.join(', ')} found.`;
}
