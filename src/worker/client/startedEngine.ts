import { Emitter, type Event } from 'vscode-jsonrpc/node';

import type { Chain, ImageFormat } from '../../protocol/chain';
import { describeChain, probeFiles, writeSample, type DescribeParams, type OpenParams } from '../../protocol/engine';
import {
  setCopyOnRead,
  startExport,
  stopAllExports,
  stopExport,
  type CacheFailure,
  type ExportInfo,
  type ExportParams,
} from '../../protocol/exports';
import type { CallOptions } from '../../protocol/imageClient';
import {
  previewJob,
  setJobSpeed,
  startJob,
  tellJob,
  type JobInfo,
  type JobPreview,
  type JobRequest,
  type JobVerb,
  type StartJobParams,
} from '../../protocol/jobs';
import { manageCall, type ManageMethod, type ManageRequests } from '../../protocol/manage';
import { givePassphrase } from '../../protocol/passphrases';
import type { EngineClientOptions, ManageOptions } from '../client';
import { ImageSession } from './imageSession';
import { RunningWorker } from './runningWorker';

/** When it died this often in so many milliseconds, images are opened again only when somebody asks for them: one of them may kill it. */
const MAX_DEATHS = 3;
const DEATHS_WITHIN_MS = 60_000;
/** VS Code waits five seconds for its extensions when a window closes. */
const STOP_MS = 3_000;

/** What stands behind an `EngineClient` that was used: the worker of the moment, and the sessions that outlive it. */
export class StartedEngine {
  private readonly options: EngineClientOptions;
  private readonly died = new Emitter<{ readonly reason: string }>();
  /** The worker ended by itself. Its sessions are being opened again. */
  readonly onDidDie: Event<{ readonly reason: string }> = this.died.event;
  private readonly exportsChanged = new Emitter<readonly ExportInfo[]>();
  readonly onDidChangeExports: Event<readonly ExportInfo[]> = this.exportsChanged.event;
  private readonly cacheFailed = new Emitter<CacheFailure>();
  readonly onDidFailCache: Event<CacheFailure> = this.cacheFailed.event;
  private readonly jobsChanged = new Emitter<readonly JobInfo[]>();
  readonly onDidChangeJobs: Event<readonly JobInfo[]> = this.jobsChanged.event;
  private readonly lost = new Emitter<{ readonly reason: string }>();
  /** The worker is gone, by itself or since it was restarted. */
  readonly onDidLoseWorker: Event<{ readonly reason: string }> = this.lost.event;
  private readonly sessions = new Set<ImageSession>();
  /** By file; each new worker is told. */
  private readonly passphrases = new Map<string, string>();
  private running: RunningWorker | null = null;
  /** The worker was asked to serve something. */
  private mayExport = false;
  private deaths: number[] = [];

  constructor(options: EngineClientOptions) {
    this.options = options;
  }

  /** Whether a worker runs at the moment. */
  get isRunning(): boolean {
    return this.running !== null;
  }

  /** Opens an image. @throws CallError when its file does not open */
  async openSession(params: OpenParams, signal?: AbortSignal): Promise<ImageSession> {
    const session = new ImageSession(
      params,
      () => this.worker(),
      (closed) => this.sessions.delete(closed),
    );
    this.sessions.add(session);
    try {
      await session.open(this.worker(), signal);
    } catch (error) {
      session.close();
      throw error;
    }
    return session;
  }

  /** Describes a chain without keeping anything open. @throws CallError */
  async describeChain(params: DescribeParams, options: CallOptions = {}): Promise<Chain> {
    return this.worker().request(describeChain, () => params, options);
  }

  /** Which of these files are images, by their first bytes; null for those that are none, or cannot be read. @throws CallError */
  async probeFiles(paths: readonly string[], options: CallOptions = {}): Promise<readonly (ImageFormat | null)[]> {
    const { formats } = await this.worker().request(probeFiles, () => ({ paths }), options);
    return formats;
  }

  /** Writes the sample images into an empty folder. @throws CallError */
  async writeSample(folder: string, options: CallOptions = {}): Promise<void> {
    await this.worker().request(writeSample, () => ({ folder }), options);
  }

  /** Makes or changes images. @throws CallError */
  async manage<M extends ManageMethod>(
    method: M,
    params: ManageRequests[M]['params'],
    { withoutLocks = false, ...options }: ManageOptions = {},
  ): Promise<ManageRequests[M]['result']> {
    const call = (progressToken: string | null) => ({ method, params, progressToken, withoutLocks });
    const result = await this.worker().request(manageCall, call, { ...options, settle: true });
    // The wire's type is the union over all methods; the worker answers each with its own.
    return result;
  }

  /** Serves an image; it listens when this resolves. @throws CallError */
  async startExport(params: ExportParams, options: CallOptions = {}): Promise<ExportInfo> {
    this.mayExport = true;
    return this.worker().request(startExport, () => params, { ...options, settle: true });
  }

  /** Resolves when all clients are gone and what they wrote is on the disk. @throws CallError */
  async stopExport(id: number): Promise<void> {
    await this.worker().request(stopExport, () => ({ id }));
  }

  /** Switches copy-on-read of an export. @throws CallError */
  async setCopyOnRead(id: number, on: boolean): Promise<void> {
    await this.worker().request(setCopyOnRead, () => ({ id, on }));
  }

  /** Starts a job; it runs when this resolves. @throws CallError */
  async startJob(params: StartJobParams, options: CallOptions = {}): Promise<JobInfo> {
    return this.worker().request(startJob, () => params, { ...options, settle: true });
  }

  /** What a job would do. @throws CallError */
  async previewJob(request: JobRequest, options: CallOptions = {}): Promise<JobPreview> {
    return this.worker().request(previewJob, () => ({ request }), options);
  }

  /** @throws CallError for what the job cannot be told in its state */
  async tellJob(id: string, verb: Exclude<JobVerb, 'set-speed'>): Promise<void> {
    await this.worker().request(tellJob, () => ({ id, verb }));
  }

  /** @param speed bytes per second; 0 is no limit @throws CallError */
  async setJobSpeed(id: string, speed: number): Promise<void> {
    await this.worker().request(setJobSpeed, () => ({ id, speed }));
  }

  givePassphrase(file: string, passphrase: string | null): void {
    if (passphrase === null) {
      this.passphrases.delete(file);
    } else {
      this.passphrases.set(file, passphrase);
    }
    this.running?.notify(givePassphrase, { file, passphrase });
  }

  /** Ends the worker and begins with a new one; sessions are opened again. */
  async restart(): Promise<void> {
    await this.endExports();
    const { running } = this;
    this.running = null;
    await running?.terminate('The engine was restarted.');
    this.lost.fire({ reason: 'The engine was restarted.' });
    this.reopen();
  }

  /** Ends the worker for good. */
  async dispose(): Promise<void> {
    for (const session of [...this.sessions]) {
      session.close();
    }
    this.died.dispose();
    await this.endExports();
    this.exportsChanged.dispose();
    this.cacheFailed.dispose();
    this.jobsChanged.dispose();
    this.lost.dispose();
    const { running } = this;
    this.running = null;
    await running?.terminate('The engine was stopped.');
  }

  /** What clients wrote is on the disk before the worker goes. */
  private async endExports(): Promise<void> {
    const { running } = this;
    if (running !== null && this.mayExport) {
      this.mayExport = false;
      const ended = running.request(stopAllExports, () => null, { signal: AbortSignal.timeout(STOP_MS) });
      // A worker that does not answer is ended all the same; images are safe at any moment.
      await ended.catch(() => undefined);
    }
  }

  private worker(): RunningWorker {
    if (this.running) {
      return this.running;
    }
    const { workerPath, answerGate, onOutput = () => undefined } = this.options;
    const worker = new RunningWorker({
      workerPath,
      answerGate,
      onOutput,
      onImageChanged: ({ session, ...change }) => {
        for (const candidate of this.sessions) {
          if (candidate.isKnownAs(worker, session)) {
            candidate.tellChange(change);
          }
        }
      },
      onExportsChanged: (exports) => {
        if (this.running === worker) {
          this.exportsChanged.fire(exports);
        }
      },
      onCacheFailed: (failure) => {
        this.cacheFailed.fire(failure);
      },
      onJobsChanged: (jobs) => {
        if (this.running === worker) {
          this.jobsChanged.fire(jobs);
        }
      },
      onDeath: (reason) => this.survive(worker, reason),
    });
    this.running = worker;
    for (const [file, passphrase] of this.passphrases) {
      worker.notify(givePassphrase, { file, passphrase });
    }
    return worker;
  }

  private survive(worker: RunningWorker, reason: string): void {
    if (this.running !== worker) {
      return;
    }
    this.running = null;
    const now = Date.now();
    this.deaths = [...this.deaths.filter((time) => now - time < DEATHS_WITHIN_MS), now];
    this.lost.fire({ reason });
    this.died.fire({ reason });
    if (this.deaths.length < MAX_DEATHS) {
      this.reopen();
    }
  }

  private reopen(): void {
    for (const session of this.sessions) {
      // Who next asks of the session is told why it does not open.
      session.open().catch(() => undefined);
    }
  }
}
