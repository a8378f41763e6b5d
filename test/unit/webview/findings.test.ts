import { describe, expect, it } from 'vitest';
import type { CheckReport, Finding, FindingCategory, FindingKind } from '../../../src/protocol/check';
import { groupsOf, wordsOf } from '../../../webview/check/groups';

function finding(kind: FindingKind, category: FindingCategory, hostOffset: number): Finding {
  return {
    kind,
    category,
    message: `Cluster at 0x${hostOffset.toString(16)} is wrong.`,
    consequence: 'Space is wasted.',
    place: null,
    cluster: { kind: 'host', hostOffset },
    guest: null,
  };
}

const REPORT: CheckReport = {
  path: '/a.qcow2',
  format: 'qcow2',
  counts: {
    checkErrors: 0,
    corruptions: 1,
    leaks: 5000,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
    totalClusters: 0,
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  },
  kinds: [
    { kind: 'lostData', category: 'extra', count: 1 },
    { kind: 'leak', category: 'leak', count: 5000 },
    { kind: 'reservedBits', category: 'corruption', count: 1 },
    { kind: 'copiedFlag', category: 'corruption', count: 0 },
  ],
  findings: [
    finding('leak', 'leak', 0x10000),
    finding('lostData', 'extra', 0x10000),
    finding('leak', 'leak', 0x20000),
    finding('reservedBits', 'corruption', 0x30000),
  ],
  exitCode: 2,
  strictExitCode: 2,
  failure: null,
  deep: false,
  elapsedMs: 1,
};

describe('findings', () => {
  it('are grouped by kind, the gravest first, with all that were counted', () => {
    expect(groupsOf(REPORT, []).map(({ kind, count, findings }) => [kind, count, findings.length])).toEqual([
      ['reservedBits', 1, 1],
      ['leak', 5000, 2],
      ['lostData', 1, 1],
    ]);
  });

  it('are filtered by words that may stand anywhere in them', () => {
    const listed = (filter: string) => groupsOf(REPORT, wordsOf(filter)).map(({ kind, findings }) => [kind, findings.length]);
    expect(listed('0x10000 LEAKED')).toEqual([
      ['reservedBits', 0],
      ['leak', 1],
      ['lostData', 0],
    ]);
    expect(listed('beyond')).toEqual([
      ['reservedBits', 0],
      ['leak', 0],
      ['lostData', 1],
    ]);
  });
});
