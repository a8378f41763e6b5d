import { describe, expect, it } from 'vitest';

import type { CheckReport, Finding } from '../../../src/protocol/check';
import { problemsOf, summaryOf } from '../../../src/shell/problems/findingProblems';

function finding(over: Partial<Finding>): Finding {
  return {
    kind: 'leak',
    category: 'leak',
    message: 'Cluster 5 is leaked.',
    consequence: '',
    place: null,
    cluster: null,
    guest: null,
    ...over,
  };
}

function report(over: Partial<CheckReport>, counts: Partial<CheckReport['counts']> = {}): CheckReport {
  return {
    path: '/w/disk.qcow2',
    format: 'qcow2',
    counts: {
      checkErrors: 0,
      corruptions: 0,
      leaks: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      imageEndOffset: 262_144,
      totalClusters: 1024,
      allocatedClusters: 3,
      fragmentedClusters: 0,
      compressedClusters: 0,
      ...counts,
    },
    kinds: [],
    findings: [],
    exitCode: 0,
    strictExitCode: 0,
    failure: null,
    deep: false,
    elapsedMs: 12.4,
    ...over,
  };
}

describe("a check's findings", () => {
  it('become problems, worst first, with what was counted beyond the list', () => {
    const problems = problemsOf(
      report({
        kinds: [
          { kind: 'leak', category: 'leak', count: 7 },
          { kind: 'refcountTooLow', category: 'corruption', count: 1 },
        ],
        findings: [
          finding({}),
          finding({ kind: 'refcountTooLow', category: 'corruption', message: 'Refcount 0 at 0x20000.', consequence: 'Data may be lost.' }),
        ],
      }),
    );
    expect(problems).toEqual([
      { severity: 'error', message: 'Refcount 0 at 0x20000. Data may be lost.', code: 'refcountTooLow' },
      { severity: 'warning', message: 'Cluster 5 is leaked.', code: 'leak' },
      { severity: 'warning', message: '6 more findings of this kind.', code: 'leak' },
    ]);
  });

  it('say that a check was not completed', () => {
    const broken = report({ failure: 'Invalid argument' });
    expect(problemsOf(broken)).toEqual([
      { severity: 'error', message: 'The check could not be completed: Invalid argument.', code: 'failure' },
    ]);
    expect(summaryOf(broken)).toBe('the check could not be completed: Invalid argument.');
  });

  it('are summed up in a sentence', () => {
    expect(summaryOf(report({}))).toBe('no errors were found in 1024 clusters (12 ms).');
    expect(
      summaryOf(report({ kinds: [{ kind: 'lostData', category: 'extra', count: 2 }] }, { corruptions: 1, leaks: 3, checkErrors: 1 })),
    ).toBe('1 corruption, 3 leaked clusters, 1 check error, 2 findings beyond qemu-img check found.');
  });
});
