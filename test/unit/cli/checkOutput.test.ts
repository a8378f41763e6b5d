import { describe, expect, test } from 'vitest';
import { checkJson, checkText, findingLines } from '../../../src/cli/checkOutput';
import type { CheckReport, Finding } from '../../../src/protocol/check';

const CLEAN: CheckReport = {
  path: '/images/disk.qcow2',
  format: 'qcow2',
  counts: {
    checkErrors: 0,
    corruptions: 0,
    leaks: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 393216,
    totalClusters: 16,
    allocatedClusters: 3,
    fragmentedClusters: 1,
    compressedClusters: 0,
  },
  kinds: [],
  findings: [],
  exitCode: 0,
  strictExitCode: 0,
  failure: null,
  deep: false,
  elapsedMs: 1,
};

function finding(kind: Finding['kind'], category: Finding['category'], message: string): Finding {
  return { kind, category, message, consequence: 'So it is.', place: null, cluster: { kind: 'host', hostOffset: 65536 }, guest: null };
}

const BROKEN: CheckReport = {
  ...CLEAN,
  counts: { ...CLEAN.counts, corruptions: 2, leaks: 1, checkErrors: 1, totalClusters: 0 },
  kinds: [
    { kind: 'refcountTooLow', category: 'corruption', count: 2 },
    { kind: 'leak', category: 'leak', count: 1 },
    { kind: 'doublyUsedData', category: 'extra', count: 3 },
  ],
  findings: [
    finding('leak', 'leak', 'Cluster 7 is leaked.'),
    finding('refcountTooLow', 'corruption', 'Cluster 5 has too low a refcount.'),
    finding('doublyUsedData', 'extra', 'Cluster 9 is used twice.'),
  ],
};

describe('a clean image', () => {
  test('as text', () => {
    expect(checkText(CLEAN)).toBe(
      'No errors were found on the image.\n3/16 = 18.75% allocated, 33.33% fragmented, 0.00% compressed clusters\nImage end offset: 393216\n',
    );
  });

  test('as JSON: zero counts are left out, except of errors', () => {
    expect(Object.entries(checkJson(CLEAN, 'disk.qcow2')).filter(([, value]) => value !== undefined)).toEqual(
      Object.entries({
        filename: 'disk.qcow2',
        format: 'qcow2',
        'check-errors': 0,
        'image-end-offset': 393216,
        'total-clusters': 16,
        'allocated-clusters': 3,
        'fragmented-clusters': 1,
      }),
    );
  });
});

describe('a broken image', () => {
  test('as text: counts as qemu-img has them, then what it does not look for', () => {
    expect(checkText(BROKEN)).toBe(
      [
        '',
        '2 errors were found on the image.',
        'Data may be corrupted, or further writes to the image may corrupt it.',
        '',
        '1 leaked clusters were found on the image.',
        'This means waste of disk space, but no harm to data.',
        '',
        '1 internal errors have occurred during the check.',
        'Image end offset: 393216',
        '',
        'Beyond what qemu-img check looks for:',
        '  Cluster 9 is used twice. So it is.',
        '  ... and 2 more of this kind',
        '',
      ].join('\n'),
    );
  });

  test('as JSON', () => {
    expect(checkJson(BROKEN, 'x')).toMatchObject({
      corruptions: 2,
      leaks: 1,
      'check-errors': 1,
      'extra-findings': [
        {
          kind: 'doublyUsedData',
          count: 3,
          findings: [{ message: 'Cluster 9 is used twice.', consequence: 'So it is.', 'host-offset': 65536 }],
        },
      ],
    });
  });

  test('one line for each finding that counts, and how many are not shown', () => {
    expect(findingLines(BROKEN)).toBe(
      'ERROR: Cluster 5 has too low a refcount.\n... and 1 more of this kind\nLeak: Cluster 7 is leaked.\n',
    );
  });
});
