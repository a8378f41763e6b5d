import type { CheckReport, Finding } from '../protocol/check';
import type { JsonValue } from './json';

/** A check's result under QAPI's names (ImageCheck); counts that are zero are left out where qemu-img leaves them out. */
export function checkJson(report: CheckReport, filename: string): Readonly<Record<string, JsonValue | undefined>> {
  const { counts } = report;
  const unlessZero = (count: number) => (count === 0 ? undefined : count);
  const extra = extraGroups(report);
  return {
    filename,
    format: report.format,
    'check-errors': counts.checkErrors,
    'image-end-offset': unlessZero(counts.imageEndOffset),
    corruptions: unlessZero(counts.corruptions),
    leaks: unlessZero(counts.leaks),
    'corruptions-fixed': unlessZero(counts.corruptionsFixed),
    'leaks-fixed': unlessZero(counts.leaksFixed),
    'total-clusters': unlessZero(counts.totalClusters),
    'allocated-clusters': unlessZero(counts.allocatedClusters),
    'fragmented-clusters': unlessZero(counts.fragmentedClusters),
    'compressed-clusters': unlessZero(counts.compressedClusters),
    'extra-findings':
      extra.length === 0 ? undefined : extra.map(({ kind, count, findings }) => ({ kind, count, findings: findings.map(findingJson) })),
  };
}

/** A check's result as qemu-img prints it for people; what it does not look for follows in a paragraph of its own. */
export function checkText(report: CheckReport): string {
  const { checkErrors, corruptions, leaks, totalClusters, allocatedClusters, fragmentedClusters, compressedClusters, imageEndOffset } =
    report.counts;
  let text = '';
  if (corruptions === 0 && leaks === 0 && checkErrors === 0) {
    text += 'No errors were found on the image.\n';
  } else {
    if (corruptions > 0) {
      text += `\n${corruptions} errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n`;
    }
    if (leaks > 0) {
      text += `\n${leaks} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n`;
    }
    if (checkErrors > 0) {
      text += `\n${checkErrors} internal errors have occurred during the check.\n`;
    }
  }
  if (totalClusters > 0 && allocatedClusters > 0) {
    const share = (part: number, whole: number) => ((part * 100) / whole).toFixed(2);
    text +=
      `${allocatedClusters}/${totalClusters} = ${share(allocatedClusters, totalClusters)}% allocated, ` +
      `${share(fragmentedClusters, allocatedClusters)}% fragmented, ${share(compressedClusters, allocatedClusters)}% compressed clusters\n`;
  }
  if (imageEndOffset > 0) {
    text += `Image end offset: ${imageEndOffset}\n`;
  }
  return text + extraParagraph(report);
}

/** One line for each finding that qemu-img has too, for standard error. */
export function findingLines(report: CheckReport): string {
  const lines: string[] = [];
  for (const { kind, category, count } of report.kinds) {
    if (category === 'extra') {
      continue;
    }
    const findings = report.findings.filter((finding) => finding.kind === kind && finding.category === category);
    lines.push(
      ...findings.map(({ message }) => `${category === 'leak' ? 'Leak' : 'ERROR'}: ${message}\n`),
      ...more(count, findings.length, ''),
    );
  }
  return lines.join('');
}

interface ExtraGroup {
  readonly kind: string;
  readonly count: number;
  readonly findings: readonly Finding[];
}

function extraGroups({ kinds, findings }: CheckReport): ExtraGroup[] {
  return kinds
    .filter(({ category }) => category === 'extra')
    .map(({ kind, count }) => ({
      kind,
      count,
      findings: findings.filter((finding) => finding.kind === kind && finding.category === 'extra'),
    }));
}

function extraParagraph(report: CheckReport): string {
  const groups = extraGroups(report);
  if (groups.length === 0) {
    return '';
  }
  const lines = groups.flatMap(({ count, findings }) => [
    ...findings.map(({ message, consequence }) => `  ${message} ${consequence}\n`),
    ...more(count, findings.length, '  '),
  ]);
  return `\nBeyond what qemu-img check looks for:\n${lines.join('')}`;
}

function more(count: number, shown: number, indent: string): string[] {
  return count > shown ? [`${indent}... and ${count - shown} more of this kind\n`] : [];
}

function findingJson({ message, consequence, guest, cluster }: Finding): Readonly<Record<string, JsonValue | undefined>> {
  return {
    message,
    consequence,
    'guest-offset': guest?.guestOffset,
    'guest-length': guest?.length,
    'host-offset': cluster?.kind === 'host' ? cluster.hostOffset : undefined,
  };
}
