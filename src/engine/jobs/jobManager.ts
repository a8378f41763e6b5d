import type { JobInfo, JobPreview, JobRequest, JobSettings, JobVerb } from '../../protocol/jobs';
import type { BlockGraph } from '../block/graph/blockGraph';
import type { Layer } from '../chain/layer';
import { invalidRequest } from '../errors';
import type { OpeningGate } from '../gate/gate';
import { ioStallMicroseconds } from '../io/pressure';
import { GuestActivity } from './guestActivity';
import { IdlePacer } from './idlePacer';
import { Job } from './job';
import { prepareJob, previewJob } from './jobTypes';
import type { JobParts, PreparedJob } from './preparedJob';
import { hasEnded, mayBeTold } from './states';

/** A job as it is described to a person; `error` is what was thrown. */
export type JobDescription = Omit<JobInfo, 'error'> & { readonly error: unknown };

/** A job that was started. */
export interface ManagedJob {
  readonly job: Job;
  /** Resolves with what it came to, when its images are closed. */
  readonly ended: Promise<JobDescription>;
}

export interface JobManagerOptions {
  /** The images in use; asked for once for each job or preview. */
  readonly graph: () => BlockGraph;
  readonly gate: OpeningGate;
  readonly currentFolder?: string | undefined;
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** After every change of a job's state. */
  readonly onDidChange?: (() => void) | undefined;
}

export const DEFAULT_SETTINGS: JobSettings = {
  speed: 0,
  onError: 'report',
  autoFinalize: true,
  autoDismiss: true,
  pace: { kind: 'full' },
};

interface Entry {
  readonly job: Job;
  readonly request: JobRequest;
  readonly settings: JobSettings;
}

/** The jobs of one engine, on images that exports may serve at the same time. */
export class JobManager {
  private readonly options: JobManagerOptions;
  private readonly entries = new Map<string, Entry>();
  private readonly running = new Set<Promise<unknown>>();
  private nextId = 0;

  constructor(options: JobManagerOptions) {
    this.options = options;
  }

  get jobs(): readonly JobDescription[] {
    return [...this.entries.values()].map(describe);
  }

  /** One job; null when it is forgotten already. */
  describe(id: string): JobDescription | null {
    const entry = this.entries.get(id);
    return entry ? describe(entry) : null;
  }

  /** Whether some job copies now, so that its progress is news. */
  get isBusy(): boolean {
    return [...this.entries.values()].some(({ job }) => !hasEnded(job.status));
  }

  /**
   * Opens what a job needs, and starts it.
   * @param signal ends the preparation; a job that runs is told `cancel`
   * @throws EngineError as `BlockGraph.open`; `request.invalid`; `file.locked` for what is in another's use
   */
  async start(request: JobRequest, settings: Partial<JobSettings> = {}, signal?: AbortSignal): Promise<ManagedJob> {
    const all: JobSettings = { ...DEFAULT_SETTINGS, ...settings };
    const id = `${request.type}${this.nextId++}`;
    const activity = new GuestActivity();
    const prepared = await prepareJob(request, this.parts(`the job '${id}'`, activity, signal));
    return this.run(id, request, all, prepared, activity);
  }

  /** What a job would do. Opens its images for reading. @throws EngineError as `start` */
  preview(request: JobRequest, signal?: AbortSignal): Promise<JobPreview> {
    return previewJob(request, this.parts('the preview of a job', new GuestActivity(), signal));
  }

  /** @throws EngineError `request.invalid` in QEMU's words */
  tell(id: string, verb: Exclude<JobVerb, 'set-speed'>): void {
    const { job } = this.entry(id);
    switch (verb) {
      case 'cancel': {
        job.cancel();
        return;
      }
      case 'pause': {
        job.pause();
        return;
      }
      case 'resume': {
        job.resume();
        return;
      }
      case 'complete': {
        job.complete();
        return;
      }
      case 'finalize': {
        job.finalize();
        return;
      }
      case 'dismiss': {
        job.dismiss();
        return;
      }
    }
  }

  /** @param speed bytes per second; 0 is no limit @throws EngineError `request.invalid` */
  setSpeed(id: string, speed: number): void {
    this.entry(id).job.setSpeed(speed);
  }

  /** Cancels all jobs and ends when they have closed their images. */
  async close(): Promise<void> {
    for (const { job } of this.entries.values()) {
      if (mayBeTold(job.status, 'cancel')) {
        job.cancel();
      }
    }
    await Promise.allSettled(this.running);
  }

  private parts(user: string, activity: GuestActivity, signal: AbortSignal | undefined): JobParts {
    const { graph, gate, currentFolder, passphraseOf } = this.options;
    return { graph: graph(), gate, currentFolder, passphraseOf, user, activity, signal };
  }

  private run(id: string, request: JobRequest, settings: JobSettings, prepared: PreparedJob, activity: GuestActivity): ManagedJob {
    const { speed, onError, autoFinalize, autoDismiss, pace } = settings;
    const pacer = pace.kind === 'idle' ? pacerOf(pace) : undefined;
    const { image, work } = prepared;
    const watches = [activity, ...(pacer ? [pacer] : [])].map((observer) => image.watchGuests(observer));
    const job = new Job({ id, type: request.type, work, speed, onError, autoFinalize, autoDismiss, pacer, activity });
    const entry = { job, request, settings };
    this.entries.set(id, entry);
    job.onDidChange(({ status }) => {
      if (status === 'null') {
        this.entries.delete(id);
      }
      this.options.onDidChange?.();
    });
    pacer?.start();
    const ended = job.start().then(() => {
      pacer?.stop();
      watches.forEach((stop) => stop());
      return describe(entry);
    });
    this.running.add(ended);
    void ended.finally(() => this.running.delete(ended));
    return { job, ended };
  }

  private entry(id: string): Entry {
    const entry = this.entries.get(id);
    if (!entry) {
      throw invalidRequest(`Job '${id}' not found`);
    }
    return entry;
  }
}

function pacerOf({ graceMs, systemPressure }: Extract<JobSettings['pace'], { kind: 'idle' }>): IdlePacer {
  return new IdlePacer({
    graceMs,
    pressure: systemPressure === null ? undefined : { read: ioStallMicroseconds, threshold: systemPressure },
  });
}

function describe({ job, request, settings }: Entry): JobDescription {
  return { ...job.info, request, settings, remainingMs: job.remainingMs };
}
