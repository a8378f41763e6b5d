import type { JobHold, JobOutcome, JobState, JobStatus, JobType, JobVerb, OnError } from '../../protocol/jobs';
import { cancelled, EngineError, invalidRequest, isCancelled } from '../errors';
import { SpeedLimit } from '../speedLimit';
import { SYSTEM_CLOCK, type JobClock } from './clock';
import type { JobContext, JobPacer, JobWork } from './jobWork';
import { Rate } from './rate';
import { hasEnded, mayBeTold, mayFollow } from './states';

/** A job as it is now; `error` is what was thrown. */
export type JobView = Omit<JobState, 'error'> & { readonly error: unknown };

export interface JobOptions {
  readonly id: string;
  readonly type: JobType;
  readonly work: JobWork;
  /** Bytes per second; 0, the default, is no limit. */
  readonly speed?: number | undefined;
  readonly onError?: OnError | undefined;
  /** Default true: what the job prepared takes effect without being told. */
  readonly autoFinalize?: boolean | undefined;
  /** Default true: the job is forgotten as soon as it has concluded. */
  readonly autoDismiss?: boolean | undefined;
  readonly pacer?: JobPacer | undefined;
  /** Lets a guest that uses the disk at the moment go first. */
  readonly activity?: { giveWay(): Promise<void> } | undefined;
  readonly clock?: JobClock | undefined;
}

/** Others have their turn after this many milliseconds at the latest. */
const TURN_MS = 1;

/** A long operation on block nodes, with QEMU's states and verbs (qapi/job.json). Created, then `start`ed once. */
export class Job {
  readonly id: string;
  readonly type: JobType;
  private readonly options: JobOptions;
  private readonly clock: JobClock;
  private readonly limit: SpeedLimit;
  /** Of what is copied, and of what is done, which is more where something was there already. */
  private readonly rate = new Rate();
  private readonly progressRate = new Rate();
  private readonly abort = new AbortController();
  private readonly listeners = new Set<(job: JobView) => void>();
  private readonly waiters = new Set<() => void>();
  private state: JobStatus = 'created';
  private done = 0;
  private copied = 0;
  private total = 0;
  private hold: JobHold | null = null;
  private error: unknown = null;
  private outcome: JobOutcome | null = null;
  /** Told by a person, or by an error under the policy `stop`. */
  private pauseWanted = false;
  private completing = false;
  /** Something was copied since others had their turn. */
  private turnDue = false;
  private lastTurn = 0;
  private finalizeWanted: boolean;
  private ending: Promise<JobOutcome> | null = null;

  constructor(options: JobOptions) {
    this.id = options.id;
    this.type = options.type;
    this.options = options;
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.limit = new SpeedLimit(options.speed ?? 0);
    this.finalizeWanted = options.autoFinalize ?? true;
  }

  get status(): JobStatus {
    return this.state;
  }

  get info(): JobView {
    return {
      id: this.id,
      type: this.type,
      status: this.state,
      currentProgress: this.done,
      totalProgress: Math.max(this.total, this.done),
      rate: this.state === 'running' || this.state === 'ready' ? this.rate.at(this.clock.now(), this.copied) : 0,
      speed: this.limit.speed,
      hold: this.hold,
      error: this.error,
      outcome: this.outcome,
      autoFinalize: this.options.autoFinalize ?? true,
      autoDismiss: this.options.autoDismiss ?? true,
    };
  }

  /** Milliseconds until all is done, at the present pace; null where that cannot be told. */
  get remainingMs(): number | null {
    const pace = this.state === 'running' || this.state === 'ready' ? this.progressRate.at(this.clock.now(), this.done) : 0;
    return pace > 0 ? (Math.max(0, this.total - this.done) / pace) * 1000 : null;
  }

  /** Calls back after every change of state or hold; progress is asked for. The returned function ends that. */
  onDidChange(listener: (job: JobView) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Starts the work. The promise never rejects: how it ended, and `info.error` why. */
  start(): Promise<JobOutcome> {
    this.ending ??= this.live();
    return this.ending;
  }

  pause(): void {
    this.require('pause');
    this.pauseWanted = true;
    this.wake();
  }

  resume(): void {
    this.require('resume');
    this.pauseWanted = false;
    this.wake();
  }

  /** What was copied stays; the image is as if the job had only copied that much. */
  cancel(): void {
    this.require('cancel');
    this.abort.abort();
    this.wake();
  }

  /** Ends a job that is ready, with its result taking effect. */
  complete(): void {
    this.require('complete');
    this.completing = true;
    this.wake();
  }

  finalize(): void {
    this.require('finalize');
    this.finalizeWanted = true;
    this.wake();
  }

  dismiss(): void {
    this.require('dismiss');
    this.become('null');
  }

  /** @param speed bytes per second; 0 for no limit */
  setSpeed(speed: number): void {
    this.require('set-speed');
    if (!Number.isSafeInteger(speed) || speed < 0) {
      throw invalidRequest(`A speed of ${speed} bytes per second makes no sense.`);
    }
    this.limit.set(speed);
    this.wake();
    this.tell();
  }

  private async live(): Promise<JobOutcome> {
    const { work } = this.options;
    const stopListening = this.options.pacer?.onChange(() => this.wake());
    try {
      this.become('running');
      await work.run(this.context());
      this.throwIfCancelled();
      await (this.error === null ? this.takeEffect() : this.fail(this.error));
    } catch (error) {
      await this.fail(error);
    }
    stopListening?.();
    try {
      await work.release?.();
    } catch (error) {
      this.error ??= error;
      this.outcome = 'failed';
    }
    this.become('concluded');
    if (this.options.autoDismiss ?? true) {
      this.become('null');
    }
    return this.outcome ?? 'failed';
  }

  private async takeEffect(): Promise<void> {
    this.become('waiting');
    this.become('pending');
    await this.until(() => this.finalizeWanted);
    await this.options.work.finalize?.();
    this.outcome = 'completed';
  }

  private async fail(error: unknown): Promise<void> {
    const wasCancelled = this.abort.signal.aborted && isCancelled(error);
    this.outcome = wasCancelled ? 'cancelled' : 'failed';
    if (!wasCancelled) {
      this.error = error;
    }
    if (this.state === 'paused' || this.state === 'standby') {
      this.become(this.state === 'paused' ? 'running' : 'ready');
    }
    this.become('aborting');
    try {
      await this.options.work.abort?.();
    } catch (failure) {
      this.error ??= failure;
      this.outcome = 'failed';
    }
  }

  private context(): JobContext {
    const isCompleting = () => this.completing;
    return {
      signal: this.abort.signal,
      checkpoint: () => this.checkpoint(),
      advance: (bytes, copied = bytes) => {
        this.done += bytes;
        this.limit.use(copied);
        this.turnDue ||= copied > 0;
        this.copied += copied;
        const now = this.clock.now();
        this.rate.note(now, this.copied);
        this.progressRate.note(now, this.done);
      },
      setTotal: (bytes) => {
        this.total = bytes;
      },
      onError: (error) => this.decide(error),
      becomeReady: () => {
        if (this.state === 'running') {
          this.become('ready');
        }
      },
      get isCompleting() {
        return isCompleting();
      },
      idle: (ms) => this.sleep(ms),
    };
  }

  private async checkpoint(): Promise<void> {
    // Passing over what is there already takes no time worth telling.
    if (this.turnDue || this.clock.now() - this.lastTurn >= TURN_MS) {
      await this.clock.turn?.();
      await this.options.activity?.giveWay();
      this.turnDue = false;
      this.lastTurn = this.clock.now();
    }
    for (;;) {
      this.throwIfCancelled();
      if (this.pauseWanted) {
        await this.stayPaused();
        continue;
      }
      const hold = this.options.pacer?.hold() ?? null;
      const delay = hold === null ? this.limit.delay(this.clock.now()) : Infinity;
      this.holdBack(hold ?? (delay > 0 ? 'speed' : null));
      if (delay === 0) {
        return;
      }
      await this.sleep(delay);
    }
  }

  private async stayPaused(): Promise<void> {
    const before = this.state;
    this.rate.clear();
    this.progressRate.clear();
    this.become(before === 'ready' ? 'standby' : 'paused');
    await this.until(() => !this.pauseWanted);
    this.become(before);
  }

  private async decide(error: unknown): Promise<'retry' | 'ignore'> {
    if (isCancelled(error)) {
      throw error;
    }
    const policy = this.options.onError ?? 'report';
    const full = error instanceof EngineError && error.code === 'file.full';
    if (policy === 'report' || (policy === 'enospc' && !full)) {
      throw error;
    }
    this.error = error;
    if (policy === 'ignore') {
      this.tell();
      return 'ignore';
    }
    this.pauseWanted = true;
    await this.stayPaused();
    this.error = null;
    return 'retry';
  }

  /** @throws EngineError `cancelled` */
  private async until(condition: () => boolean): Promise<void> {
    for (;;) {
      this.throwIfCancelled();
      if (condition()) {
        return;
      }
      await this.sleep(Infinity);
    }
  }

  private throwIfCancelled(): void {
    if (this.abort.signal.aborted) {
      throw cancelled();
    }
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.waiters.delete(end);
        stop?.();
        resolve();
      };
      const stop = ms === Infinity ? null : this.clock.after(ms, end);
      this.waiters.add(end);
    });
  }

  private wake(): void {
    for (const end of [...this.waiters]) {
      end();
    }
  }

  private holdBack(hold: JobHold | null): void {
    if (this.hold !== hold) {
      this.hold = hold;
      // A speed limit holds many times a second; nobody wants to hear of each.
      if (hold !== 'speed') {
        this.tell();
      }
    }
  }

  private require(verb: JobVerb): void {
    if (!mayBeTold(this.state, verb)) {
      throw invalidRequest(`Job '${this.id}' in state '${this.state}' cannot accept command verb '${verb}'`);
    }
  }

  private become(status: JobStatus): void {
    if (!mayFollow(this.state, status)) {
      throw new RangeError(`job state ${this.state} is not followed by ${status}`);
    }
    this.state = status;
    if (hasEnded(status) || status === 'aborting') {
      this.hold = null;
    }
    this.tell();
  }

  private tell(): void {
    const { info } = this;
    for (const listener of [...this.listeners]) {
      listener(info);
    }
  }
}
