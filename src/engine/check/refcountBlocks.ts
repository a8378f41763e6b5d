import type { FindingKind } from '../../protocol/check';
import type { CheckContext } from './context';
import { CONSEQUENCE } from './entryText';
import { hex } from './findings';
import { ROLE, type References } from './references';
import type { Window } from './windowScan';

/**
 * Looks at the refcount table and counts the references to its blocks. Comes after everything else was counted, because a block must be
 * the only user of its cluster: QEMU looks at this moment, block after block.
 */
export function countRefcountBlocks(context: CheckContext, { first, end, isFirst }: Window, refs: References): void {
  const { image, refcounts, findings, owners, tally } = context;
  const { clusterSize, fileClusters, fileLength, refcountMax } = image;
  const { table } = refcounts;
  for (const block of refcounts.blocks) {
    const offset = refcounts.blockOffset(block);
    const place = table.word(block) & ~0x1ffn;
    const cluster = Math.floor(offset / clusterSize);
    const report = (kind: FindingKind, message: () => string, consequence: string): void => {
      findings.add(kind, 'corruption', () => ({
        message: `Refcount table entry ${block} at ${hex(table.entryOffset(block))}: ${message()}`,
        consequence,
        place: { kind: 'tableRow', table: { kind: 'refcountTable' }, row: block },
        cluster: { kind: 'host', hostOffset: Number(place), length: clusterSize },
        guest: null,
      }));
    };
    if ((table.low(block) & 0x1ff) !== 0) {
      if (isFirst) {
        report('reservedBits', () => 'reserved bits are set.', CONSEQUENCE.reserved);
      }
      continue;
    }
    if (refcounts.troubleOf(block) === 'misaligned') {
      if (isFirst) {
        const message = `its refcount block offset ${hex(place)} is not aligned to a cluster.`;
        report('misalignedRefcountBlock', () => message, CONSEQUENCE.noRefcounts);
      }
      continue;
    }
    // Past the end is the first window's business. The cluster right after the last counts as one of the file's where a table reaches
    // into it, which is known in its own window only.
    const here = cluster <= fileClusters ? cluster >= first && cluster < end : isFirst;
    if (!here || offset === 0) {
      continue;
    }
    const outside = cluster > fileClusters || (cluster === fileClusters && !tally.beyondEnd);
    if (outside) {
      const message = `its refcount block at ${hex(place)} lies past the end of the file at ${hex(fileLength)}.`;
      report('refcountBlockPastEnd', () => message, CONSEQUENCE.noRefcounts);
      continue;
    }
    if (cluster === fileClusters) {
      report('referencePastEnd', () => `its refcount block at ${hex(place)} lies past the end of the file.`, CONSEQUENCE.noRefcounts);
    } else {
      refs.add(cluster - first, 1, 0, ROLE.structure);
    }
    if (Math.min(refs.count(cluster - first), refcountMax) !== 1) {
      owners.want(cluster);
      report(
        'refcountBlockShared',
        () => `the cluster of its refcount block at ${hex(place)} has another use${owners.of(cluster, ': it is ')}.`,
        'Refcounts and other data overwrite each other: any write can destroy both.',
      );
    }
  }
}
