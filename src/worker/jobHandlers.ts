import type { CancellationToken, MessageConnection, ResponseError } from 'vscode-jsonrpc';

import type { OpeningGate } from '../engine/gate/gate';
import { JobManager, type JobDescription } from '../engine/jobs/jobManager';
import type { WireError } from '../protocol/engine';
import {
  jobEnded,
  jobsChanged,
  listJobs,
  previewJob,
  setJobSpeed,
  startJob,
  tellJob,
  type JobInfo,
  type JobRequest,
  type StartJobParams,
} from '../protocol/jobs';
import type { ImageUses } from './imageUses';
import { pathsOf, requireLocks } from './manageHandlers';
import type { Passphrases } from './passphrases';
import type { SharedGraph } from './sharedGraph';
import { toWire } from './wire';

/** Runs a handler, with the request's cancellation as a signal, and lets its error cross. */
type Answer = <T>(token: CancellationToken, work: (signal: AbortSignal) => T | Promise<T>) => Promise<T | ResponseError<WireError>>;

/** Progress is told this often while a job runs, in milliseconds. */
const PROGRESS_MS = 250;

export interface ImageJobsOptions {
  readonly gate: OpeningGate;
  readonly uses: ImageUses;
  readonly passphrases: Passphrases;
  /** Also that of the exports. */
  readonly graph: SharedGraph;
  readonly onChange: (jobs: readonly JobInfo[]) => void;
  readonly onEnd: (job: JobInfo) => void;
}

/** The background jobs of the worker. */
export class ImageJobs {
  private readonly options: ImageJobsOptions;
  private readonly manager: JobManager;
  private timer: NodeJS.Timeout | null = null;

  constructor(options: ImageJobsOptions) {
    const { gate, graph, passphrases } = options;
    this.options = options;
    this.manager = new JobManager({ gate, graph: () => graph.acquire(), passphraseOf: passphrases.of, onDidChange: () => this.tell() });
  }

  get jobs(): readonly JobInfo[] {
    return this.manager.jobs.map(infoOf);
  }

  /** @throws EngineError as `JobManager.start` */
  async start({ request, settings, withoutLocks }: StartJobParams, signal: AbortSignal): Promise<JobInfo> {
    requireLocks(withoutLocks);
    const { gate, uses, graph, onEnd } = this.options;
    const paths = await pathsOf(request.image, { gate, signal });
    const made = request.type === 'mirror' ? [request.target] : [];
    // Which of them are written the job itself finds out; what other jobs and exports may do meanwhile, their graph.
    const claims = [...paths, ...made].map((path) => ({ path, writes: true }));
    const opened = uses.claim(claims, 'a job', true);
    try {
      const { job, ended } = await this.manager.start(request, settings, signal);
      void ended.then((description) => {
        graph.release();
        onEnd(infoOf(description));
        this.tell();
      });
      this.tell();
      return infoOf(this.manager.describe(job.id) ?? (await ended));
    } catch (error) {
      graph.release();
      throw error;
    } finally {
      opened();
    }
  }

  async preview(request: JobRequest, signal: AbortSignal): ReturnType<JobManager['preview']> {
    try {
      return await this.manager.preview(request, signal);
    } finally {
      this.options.graph.release();
    }
  }

  /** Registers the requests about jobs. */
  answer(connection: MessageConnection, answer: Answer): void {
    connection.onRequest(startJob, (params, token) => answer(token, (signal) => this.start(params, signal)));
    connection.onRequest(previewJob, ({ request }, token) => answer(token, (signal) => this.preview(request, signal)));
    connection.onRequest(listJobs, (_, token) => answer(token, () => ({ jobs: this.jobs })));
    connection.onRequest(tellJob, ({ id, verb }, token) =>
      answer(token, () => {
        this.manager.tell(id, verb);
        return null;
      }),
    );
    connection.onRequest(setJobSpeed, ({ id, speed }, token) =>
      answer(token, () => {
        this.manager.setSpeed(id, speed);
        return null;
      }),
    );
  }

  private tell(): void {
    const busy = this.manager.isBusy;
    if (busy && this.timer === null) {
      this.timer = setInterval(() => this.tell(), PROGRESS_MS).unref();
    } else if (!busy && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
    this.options.onChange(this.jobs);
  }
}

/** What a connection is told of jobs. */
export function jobListeners(
  connection: MessageConnection,
  send: (sent: Promise<void>) => void,
): Pick<ImageJobsOptions, 'onChange' | 'onEnd'> {
  return {
    onChange: (jobs) => send(connection.sendNotification(jobsChanged, { jobs })),
    onEnd: (job) => send(connection.sendNotification(jobEnded, { job })),
  };
}

function infoOf({ error, ...job }: JobDescription): JobInfo {
  return { ...job, error: error === null ? null : toWire(error) };
}
