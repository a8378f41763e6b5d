import { describe, expect, it } from 'vitest';

import type { JobInfo } from '../../../src/protocol/jobs';
import { actionsOf, type JobEntry } from '../../../src/shell/jobs/jobEntry';
import { jobRow } from '../../../src/shell/jobs/jobRows';
import { parseSpeed } from '../../../src/shell/jobs/speed';
import { formatDuration } from '../../../src/shell/text/durations';

const GIB = 1024 ** 3;

const RUNNING: JobInfo = {
  id: 'stream0',
  type: 'stream',
  status: 'running',
  currentProgress: GIB,
  totalProgress: 4 * GIB,
  rate: 100 * 1024 ** 2,
  speed: 0,
  hold: null,
  error: null,
  outcome: null,
  autoFinalize: true,
  autoDismiss: false,
  remainingMs: 30_720,
  request: { type: 'stream', image: { path: '/vm/top.qcow2', format: 'qcow2' }, base: '/vm/base.qcow2', bottom: null, range: null },
  settings: { speed: 0, onError: 'enospc', autoFinalize: true, autoDismiss: false, pace: { kind: 'full' } },
};

const FULL: JobInfo['error'] = {
  code: 'file.full',
  message: 'No space is left on the device.',
  file: '/vm/top.qcow2',
  structure: null,
  hostOffset: null,
  remedy: null,
};

function entry(changes: Partial<JobInfo> = {}, lost: string | null = null): JobEntry {
  return { key: 'engine-0-stream0', job: { ...RUNNING, ...changes }, lost };
}

function description(changes: Partial<JobInfo> = {}, lost: string | null = null): string {
  return jobRow(entry(changes, lost)).description;
}

describe("a job's row", () => {
  it('says how far it is, how fast, and how long it will take', () => {
    expect(jobRow(entry()).label).toBe('Stream top.qcow2');
    expect(description()).toBe('25 % · 31 s left · 100 MiB/s · 1 GiB of 4 GiB');
    expect(description({ speed: 50 * 1024 ** 2, hold: 'speed' })).toBe(
      '25 % · 31 s left · 100 MiB/s · 1 GiB of 4 GiB · copies at most 50 MiB/s',
    );
  });

  it('says what it waits for', () => {
    const held = { rate: 0, remainingMs: null };
    expect(description({ ...held, hold: 'idle' })).toBe('waiting for idle · 25 % · 1 GiB of 4 GiB');
    expect(description({ ...held, hold: 'system' })).toBe('held by system pressure · 25 % · 1 GiB of 4 GiB');
    expect(description({ ...held, status: 'paused' })).toBe('paused · 25 % · 1 GiB of 4 GiB');
    expect(description({ ...held, status: 'paused', error: FULL })).toMatch(/^stopped: No space is left on the device\./);
    expect(description({ ...held, status: 'ready', currentProgress: 4 * GIB })).toBe('ready to be completed · 4 GiB of 4 GiB');
  });

  it('says what came of it', () => {
    const ended = { status: 'concluded', rate: 0, remainingMs: null } as const;
    expect(description({ ...ended, outcome: 'completed', currentProgress: 4 * GIB })).toBe('done · 4 GiB');
    expect(description({ ...ended, outcome: 'cancelled' })).toBe('cancelled · 1 GiB of 4 GiB');
    expect(description({ ...ended, outcome: 'failed', error: FULL })).toMatch(/^failed: No space is left/);
    expect(description({}, 'The engine ended.')).toBe('interrupted · 1 GiB of 4 GiB');
  });

  it('is never done before it is', () => {
    expect(description({ currentProgress: 4 * GIB - 1 })).toMatch(/^99 %/);
    expect(description({ currentProgress: 0, totalProgress: 0, rate: 0, remainingMs: null })).toBe('running');
  });

  it('shows a name as it is, and makes no markup of it', () => {
    const image = { path: '/vm/[x](command:y)|\u202e.qcow2', format: 'qcow2' } as const;
    const { label, tooltip } = jobRow(
      entry({ request: { ...RUNNING.request, type: 'stream', image, base: null, bottom: null, range: null } }),
    );
    expect(label).toBe(String.raw`Flatten [x](comma…)|\u{202e}.qcow2`);
    expect(tooltip).not.toContain('](command:');
    expect(tooltip).not.toContain('\u202e');
  });
});

describe('what can be done to a job', () => {
  it('follows its state', () => {
    expect(actionsOf(entry())).toEqual(['pause', 'cancel', 'speed']);
    expect(actionsOf(entry({ status: 'paused' }))).toEqual(['resume', 'cancel', 'speed']);
    expect(actionsOf(entry({ status: 'ready' }))).toEqual(['pause', 'cancel', 'complete', 'speed']);
    expect(actionsOf(entry({ status: 'pending' }))).toEqual(['cancel', 'finalize']);
    expect(actionsOf(entry({ status: 'aborting' }))).toEqual([]);
    expect(actionsOf(entry({ status: 'concluded', outcome: 'completed' }))).toEqual(['dismiss']);
    expect(actionsOf(entry({ status: 'concluded', outcome: 'failed' }))).toEqual(['retry', 'dismiss']);
    expect(actionsOf(entry({}, 'The engine ended.'))).toEqual(['retry', 'dismiss']);
    expect(actionsOf(entry({ status: 'concluded', outcome: 'completed' }, 'The engine ended.'))).toEqual(['dismiss']);
  });
});

describe('speeds and times', () => {
  it('are read and told as people write them', () => {
    expect(['50M', '50 MiB/s', '', ' ', '1.5G/s', 'fast', '-1'].map(parseSpeed)).toEqual([
      50 * 1024 ** 2,
      50 * 1024 ** 2,
      0,
      0,
      1.5 * GIB,
      null,
      null,
    ]);
    expect([0, 400, 9_000, 89_000, 180_000, 7_800_000, 7_200_000, 400_000_000].map(formatDuration)).toEqual([
      'less than 1 s',
      'less than 1 s',
      '9 s',
      '89 s',
      '3 min',
      '2 h 10 min',
      '2 h',
      '5 d',
    ]);
  });
});
