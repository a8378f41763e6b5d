import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/errors';
import { Job, type JobOptions } from '../../../src/engine/jobs/job';
import type { JobContext, JobPacer, JobWork } from '../../../src/engine/jobs/jobWork';
import type { JobHold, JobStatus } from '../../../src/protocol/jobs';
import { HandClock, settle } from './clock';

/** Copies `total` bytes in pieces, and remembers what was asked of it. */
class Copying implements JobWork {
  readonly calls: string[] = [];
  copied = 0;
  private readonly total: number;
  private readonly piece: number;
  /** Thrown instead of a piece's copy, once. */
  failure: EngineError | null = null;

  constructor(total: number, piece: number) {
    this.total = total;
    this.piece = piece;
  }

  async run(context: JobContext): Promise<void> {
    context.setTotal(this.total);
    while (this.copied < this.total) {
      await context.checkpoint();
      try {
        if (this.failure !== null) {
          const failure = this.failure;
          this.failure = null;
          throw failure;
        }
      } catch (error) {
        if ((await context.onError(error)) === 'retry') {
          continue;
        }
      }
      this.copied += this.piece;
      context.advance(this.piece);
    }
  }

  finalize(): Promise<void> {
    return this.note('finalize');
  }

  abort(): Promise<void> {
    return this.note('abort');
  }

  release(): Promise<void> {
    return this.note('release');
  }

  private note(call: string): Promise<void> {
    this.calls.push(call);
    return Promise.resolve();
  }
}

function makeJob(work: JobWork, options: Partial<JobOptions> = {}): { job: Job; states: JobStatus[]; clock: HandClock } {
  const clock = new HandClock();
  const job = new Job({ id: 'job0', type: 'stream', work, clock, autoDismiss: false, ...options });
  const states: JobStatus[] = [];
  job.onDidChange(({ status }) => {
    if (states.at(-1) !== status) {
      states.push(status);
    }
  });
  return { job, states, clock };
}

const FULL = new EngineError('file.full', 'No space left.');
const BROKEN = new EngineError('file.io', 'EIO');

describe('a job', () => {
  test('runs to its end through the states that QEMU has', async () => {
    const work = new Copying(100, 10);
    const { job, states } = makeJob(work, { autoDismiss: true });
    expect(await job.start()).toBe('completed');
    expect(states).toEqual(['running', 'waiting', 'pending', 'concluded', 'null']);
    expect(work.calls).toEqual(['finalize', 'release']);
    expect(job.info).toMatchObject({ currentProgress: 100, totalProgress: 100, outcome: 'completed', error: null });
  });

  test('waits to be finalized and dismissed when it was started so', async () => {
    const work = new Copying(10, 10);
    const { job } = makeJob(work, { autoFinalize: false });
    const ended = job.start();
    await settle();
    expect(job.status).toBe('pending');
    expect(work.calls).toEqual([]);
    expect(() => job.dismiss()).toThrow("Job 'job0' in state 'pending' cannot accept command verb 'dismiss'");
    job.finalize();
    expect(await ended).toBe('completed');
    expect(job.status).toBe('concluded');
    job.dismiss();
    expect(job.status).toBe('null');
  });

  test('stops between two pieces while it is paused', async () => {
    const work = new Copying(100, 10);
    const { job, states, clock } = makeJob(work, { speed: 100 });
    const ended = job.start();
    await settle();
    job.pause();
    await settle();
    const before = work.copied;
    expect(job.status).toBe('paused');
    await clock.pass(10_000);
    expect(work.copied).toBe(before);
    job.resume();
    await clock.pass(10_000);
    expect(await ended).toBe('completed');
    expect(states).toEqual(['running', 'paused', 'running', 'waiting', 'pending', 'concluded']);
  });

  test.each(['running', 'paused', 'pending'] as const)('is cancelled while it is %s', async (when) => {
    const work = new Copying(100, 10);
    const { job, clock } = makeJob(work, { speed: 100, autoFinalize: false });
    const ended = job.start();
    await clock.pass(when === 'pending' ? 10_000 : 150);
    if (when === 'paused') {
      job.pause();
      await settle();
    }
    expect(job.status).toBe(when);
    job.cancel();
    expect(await ended).toBe('cancelled');
    expect(work.calls).toEqual(['abort', 'release']);
    expect(job.info).toMatchObject({ status: 'concluded', outcome: 'cancelled', error: null });
  });

  test('keeps its speed, and takes another at once', async () => {
    const work = new Copying(10_000, 10);
    const { job, clock } = makeJob(work, { speed: 1000 });
    void job.start();
    await clock.pass(2000);
    expect(work.copied).toBeGreaterThanOrEqual(1900);
    expect(work.copied).toBeLessThanOrEqual(2200);
    expect(Math.round(job.info.rate / 100)).toBe(10);
    job.setSpeed(0);
    await clock.pass(0);
    expect(work.copied).toBe(10_000);
  });

  test('tells the rate of what it copies, and the time that all of it takes', async () => {
    // Every other piece is there already.
    let at = 0;
    const work: JobWork = {
      async run(context) {
        context.setTotal(10_000);
        for (; at < 10_000; at += 10) {
          await context.checkpoint();
          context.advance(10, at % 20 === 0 ? 10 : 0);
        }
      },
    };
    const { job, clock } = makeJob(work, { speed: 1000 });
    void job.start();
    await clock.pass(2000);
    expect(Math.round(job.info.rate / 100)).toBe(10);
    // Twice as much a second is done.
    const pace = ((10_000 - at) * 1000) / (job.remainingMs ?? 0);
    expect(pace).toBeGreaterThan(1900);
    expect(pace).toBeLessThan(2200);
    job.cancel();
  });

  test('is held back while the guest is busy, and says so', async () => {
    let held: JobHold | null = 'idle';
    let changed: (() => void) | null = null;
    const pacer: JobPacer = {
      hold: () => held,
      onChange: (listener) => {
        changed = listener;
        return () => (changed = null);
      },
    };
    const work = new Copying(100, 10);
    const { job, clock } = makeJob(work, { pacer });
    const ended = job.start();
    await clock.pass(60_000);
    expect(work.copied).toBe(0);
    expect(job.info.hold).toBe('idle');
    held = null;
    changed!();
    expect(await ended).toBe('completed');
    expect(job.info.hold).toBeNull();
  });

  test('ends with the error when that is to be reported', async () => {
    const work = new Copying(100, 10);
    work.failure = BROKEN;
    const { job, states } = makeJob(work);
    expect(await job.start()).toBe('failed');
    expect(job.info.error).toBe(BROKEN);
    expect(states).toEqual(['running', 'aborting', 'concluded']);
    expect(work.calls).toEqual(['abort', 'release']);
  });

  test('goes on after an error that is to be ignored, ends as failed, and changes nothing more', async () => {
    const work = new Copying(100, 10);
    work.failure = BROKEN;
    const { job } = makeJob(work, { onError: 'ignore' });
    expect(await job.start()).toBe('failed');
    expect(work.copied).toBe(100);
    expect(job.info.error).toBe(BROKEN);
    expect(work.calls).not.toContain('finalize');
  });

  test.each([
    ['stop', BROKEN, true],
    ['enospc', FULL, true],
    ['enospc', BROKEN, false],
  ] as const)('with the policy %s on %s', async (onError, failure, pauses) => {
    const work = new Copying(100, 10);
    work.failure = failure;
    const { job } = makeJob(work, { onError });
    const ended = job.start();
    await settle();
    expect(job.status).toBe(pauses ? 'paused' : 'concluded');
    expect(job.info.error).toBe(failure);
    if (pauses) {
      job.resume();
      expect(await ended).toBe('completed');
      expect(work.copied).toBe(100);
      expect(job.info.error).toBeNull();
    }
  });

  test('that is ready stays so until it is completed, also after a pause', async () => {
    const work: JobWork = {
      run: async (context) => {
        context.becomeReady();
        while (!context.isCompleting) {
          await context.checkpoint();
          await context.idle(100);
        }
      },
    };
    const { job, states, clock } = makeJob(work);
    expect(() => job.complete()).toThrow("state 'created'");
    const ended = job.start();
    await clock.pass(1000);
    expect(job.status).toBe('ready');
    job.pause();
    await clock.pass(1000);
    expect(job.status).toBe('standby');
    job.resume();
    await clock.pass(1000);
    job.complete();
    expect(await ended).toBe('completed');
    expect(states).toEqual(['running', 'ready', 'standby', 'ready', 'waiting', 'pending', 'concluded']);
  });
});
