import { EngineError } from '../../src/engine/errors';
import { checkImage } from '../../src/engine/check/check';
import type { CheckResult, Qcow2CheckOptions } from '../../src/engine/check/qcow2Check';
import type { QedCheckOptions } from '../../src/engine/check/qedCheck';
import { FileSource } from '../../src/engine/io/file';
import { qemuImg } from './tools';

/** How `qemu-img check --output=json` ended. */
export type QemuVerdict =
  | { readonly kind: 'checked'; readonly exitCode: number; readonly counts: Readonly<Record<string, number>> }
  /** It opened the image but could not complete the check; why, in its words. */
  | { readonly kind: 'failed'; readonly why: string }
  /** It did not open the image, or took it for another format. */
  | { readonly kind: 'refused'; readonly why: string };

/** qemu-img's JSON fields (left out when 0) and ours. */
const FIELDS = [
  ['check-errors', 'checkErrors'],
  ['corruptions', 'corruptions'],
  ['leaks', 'leaks'],
  ['image-end-offset', 'imageEndOffset'],
  ['total-clusters', 'totalClusters'],
  ['allocated-clusters', 'allocatedClusters'],
  ['fragmented-clusters', 'fragmentedClusters'],
  ['compressed-clusters', 'compressedClusters'],
] as const;

/** @param image the arguments that name the image to a qemu tool */
export async function qemuVerdict(image: readonly string[]): Promise<QemuVerdict> {
  const { code, signal, stdout, stderr } = await qemuImg(['check', '--output=json', ...image]);
  if (signal !== null) {
    throw new Error(`qemu-img check ended with ${signal}: ${stderr}`);
  }
  if (stdout !== '') {
    const json = JSON.parse(stdout) as Record<string, number | undefined>;
    return { kind: 'checked', exitCode: code ?? -1, counts: Object.fromEntries(FIELDS.map(([theirs]) => [theirs, json[theirs] ?? 0])) };
  }
  const failed = /Check failed: (.*)/.exec(stderr);
  return failed ? { kind: 'failed', why: failed[1] ?? '' } : { kind: 'refused', why: stderr.trim() };
}

/** Our check; null when we refuse the image, with an error that says why. */
export async function ourCheck(
  path: string,
  format: 'qcow2' | 'qed',
  options: Partial<Qcow2CheckOptions & QedCheckOptions> = {},
): Promise<CheckResult | null> {
  const source = FileSource.open(path);
  try {
    return await checkImage(source, format, { deep: false, maxFindings: 5, ...options });
  } catch (error) {
    if (error instanceof EngineError && (error.code === 'format.invalid' || error.code === 'format.unsupported')) {
      return null;
    }
    throw error;
  } finally {
    source.close();
  }
}

/** What differs between the two, one line each; empty where they agree. */
export function differences(qemu: QemuVerdict, ours: CheckResult | null): string[] {
  if (qemu.kind === 'refused') {
    // What QEMU does not open may still be looked at.
    return [];
  }
  if (!ours) {
    return [`we refuse what qemu-img opens (${qemu.kind})`];
  }
  if (qemu.kind === 'failed') {
    return ours.exitCode === 1 && ours.failure === qemu.why
      ? []
      : [`qemu-img failed: ${qemu.why}; we: ${ours.exitCode} ${ours.failure ?? 'completed'}`];
  }
  const wrong: string[] = FIELDS.filter(([theirs, field]) => qemu.counts[theirs] !== ours.counts[field]).map(
    ([theirs, field]) => `${theirs}: qemu-img ${qemu.counts[theirs] ?? 0}, we ${ours.counts[field]}`,
  );
  if (qemu.exitCode !== ours.exitCode) {
    wrong.push(`exit code: qemu-img ${qemu.exitCode}, we ${ours.exitCode}`);
  }
  for (const [category, field] of [
    ['corruption', 'corruptions'],
    ['leak', 'leaks'],
    ['checkError', 'checkErrors'],
  ] as const) {
    const sum = ours.kinds.filter((kind) => kind.category === category).reduce((total, { count }) => total + count, 0);
    if (sum !== ours.counts[field]) {
      wrong.push(`${category}: kinds add up to ${sum}, not ${ours.counts[field]}`);
    }
  }
  return wrong;
}
