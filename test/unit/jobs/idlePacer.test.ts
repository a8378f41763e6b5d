import { describe, expect, test } from 'vitest';
import { IdlePacer, type IdlePacerOptions } from '../../../src/engine/jobs/idlePacer';
import { Job } from '../../../src/engine/jobs/job';
import type { JobWork } from '../../../src/engine/jobs/jobWork';
import { HandClock } from './clock';

const PIECE = 10;

/** Copies a piece a millisecond for ever. */
class Endless implements JobWork {
  copied = 0;
  private readonly clock: HandClock;

  constructor(clock: HandClock) {
    this.clock = clock;
  }

  run = async (context: Parameters<JobWork['run']>[0]): Promise<void> => {
    for (;;) {
      await context.checkpoint();
      await new Promise<void>((resolve) => this.clock.after(1, resolve));
      this.copied += PIECE;
      context.advance(PIECE);
    }
  };
}

function start(options: Partial<IdlePacerOptions>) {
  const clock = new HandClock();
  const pacer = new IdlePacer({ graceMs: 100, clock, ...options });
  const work = new Endless(clock);
  const job = new Job({ id: 'job0', type: 'stream', work, pacer, clock });
  pacer.start();
  const ended = job.start();
  const finish = async () => {
    pacer.stop();
    job.cancel();
    await clock.pass(10);
    expect(await ended).toBe('cancelled');
  };
  return { clock, pacer, work, job, finish };
}

describe('a job that is paced by idleness', () => {
  test('begins when the guest has asked for nothing for the grace time', async () => {
    const { clock, work, job, finish } = start({});
    await clock.pass(99);
    expect(work.copied).toBe(0);
    expect(job.info.hold).toBe('idle');
    await clock.pass(50);
    expect(work.copied).toBeGreaterThan(400);
    expect(job.info.hold).toBeNull();
    await finish();
  });

  test('stops after the piece in flight when the guest comes back, and waits for its last request', async () => {
    const { clock, pacer, work, job, finish } = start({});
    await clock.pass(150);
    const before = work.copied;
    pacer.requestBegan();
    pacer.requestBegan();
    pacer.requestEnded();
    await clock.pass(1000);
    expect(work.copied - before).toBeLessThanOrEqual(PIECE);
    expect(job.info.hold).toBe('idle');
    pacer.requestEnded();
    await clock.pass(90);
    expect(work.copied - before).toBeLessThanOrEqual(PIECE);
    await clock.pass(50);
    expect(work.copied).toBeGreaterThan(before + PIECE);
    await finish();
  });

  test('is held back by a busy neighbour, and not by itself', async () => {
    let neighbour = false;
    let stalled = 0;
    let last = { at: 0, copied: 0 };
    let world: ReturnType<typeof start> | null = null;
    const read = () => {
      // Somebody waits whenever the neighbour or the job itself is at work.
      const now = world?.clock.now() ?? 0;
      const copied = world?.work.copied ?? 0;
      stalled += neighbour || copied > last.copied ? (now - last.at) * 1000 : 0;
      last = { at: now, copied };
      return stalled;
    };
    world = start({ pressure: { read, threshold: 0.2 } });
    const { clock, work, job, finish } = world;
    await clock.pass(10_000);
    expect(work.copied).toBeGreaterThan(50_000);
    neighbour = true;
    await clock.pass(3000);
    const before = work.copied;
    await clock.pass(20_000);
    expect(work.copied).toBe(before);
    expect(job.info.hold).toBe('system');
    neighbour = false;
    await clock.pass(3000);
    expect(work.copied).toBeGreaterThan(before);
    await finish();
  });

  test('is not held by a system that does not tell its pressure', async () => {
    const { clock, work, finish } = start({ pressure: { read: () => null, threshold: 0.2 } });
    await clock.pass(200);
    expect(work.copied).toBeGreaterThan(0);
    await finish();
  });
});
