import type { Chain, ImageFormat } from '../protocol/chain';
import type { GateAnswer, GateQuestion, DescribeParams, OpenParams } from '../protocol/engine';
import { plainError, type CallOptions } from '../protocol/imageClient';
import type { CacheFailure, ExportInfo, ExportParams } from '../protocol/exports';
import type { JobInfo, JobPreview, JobRequest, JobVerb, StartJobParams } from '../protocol/jobs';
import type { ManageMethod, ManageRequests } from '../protocol/manage';
import type { ImageSession } from './client/imageSession';
import type { StartedEngine } from './client/startedEngine';

export interface EngineClientOptions {
  /** Path of the worker's bundle (`dist/worker.js`). */
  readonly workerPath: string;
  /** Answers whether a file that an image names may be opened. */
  readonly answerGate: (question: GateQuestion) => Promise<GateAnswer>;
  /** Text for a log: what the worker printed. */
  readonly onOutput?: (text: string) => void;
}

export interface ManageOptions extends CallOptions {
  /** Goes on where nothing tells whether another process uses an image; the person was asked. */
  readonly withoutLocks?: boolean;
}

type DeathListener = (death: { readonly reason: string }) => void;
type ExportsListener = (exports: readonly ExportInfo[]) => void;
type CacheFailureListener = (failure: CacheFailure) => void;
type JobsListener = (jobs: readonly JobInfo[]) => void;

/**
 * The engine as its user has it: a worker that is started when something is asked of it, and started anew when it dies. Calls that were
 * under way then reject with `engine.died`; sessions go on in the next worker. Knows nothing of VS Code.
 *
 * What talks to a worker is loaded with the first call, since a window that shows no image pays for it otherwise.
 */
export class EngineClient {
  private readonly options: EngineClientOptions;
  private readonly deathListeners = new Set<DeathListener>();
  private readonly exportsListeners = new Set<ExportsListener>();
  private readonly cacheFailureListeners = new Set<CacheFailureListener>();
  private readonly jobsListeners = new Set<JobsListener>();
  private readonly goneListeners = new Set<DeathListener>();
  private starting: Promise<StartedEngine> | null = null;
  private started: StartedEngine | null = null;
  private disposed = false;

  constructor(options: EngineClientOptions) {
    this.options = options;
  }

  /** Whether a worker runs at the moment. */
  get isRunning(): boolean {
    return this.started?.isRunning ?? false;
  }

  /** The worker ended by itself. Its sessions are being opened again. */
  onDidDie(listener: DeathListener): { dispose(): void } {
    this.deathListeners.add(listener);
    return { dispose: () => void this.deathListeners.delete(listener) };
  }

  /** Something of the NBD exports is other than before: which there are, who is connected, what went through. */
  onDidChangeExports(listener: ExportsListener): { dispose(): void } {
    this.exportsListeners.add(listener);
    return { dispose: () => void this.exportsListeners.delete(listener) };
  }

  /** A cache image takes in nothing more, for another reason than its quota; told once. */
  onDidFailCache(listener: CacheFailureListener): { dispose(): void } {
    this.cacheFailureListeners.add(listener);
    return { dispose: () => void this.cacheFailureListeners.delete(listener) };
  }

  /** The jobs of the worker, whenever one of them is other than before. */
  onDidChangeJobs(listener: JobsListener): { dispose(): void } {
    this.jobsListeners.add(listener);
    return { dispose: () => void this.jobsListeners.delete(listener) };
  }

  /** A worker is gone with all that ran in it, whether by itself or because it was restarted. */
  onDidLoseWorker(listener: DeathListener): { dispose(): void } {
    this.goneListeners.add(listener);
    return { dispose: () => void this.goneListeners.delete(listener) };
  }

  /** Opens an image. @throws CallError when its file does not open */
  async openSession(params: OpenParams, signal?: AbortSignal): Promise<ImageSession> {
    return (await this.start()).openSession(params, signal);
  }

  /** Describes a chain without keeping anything open. @throws CallError */
  async describeChain(params: DescribeParams, options: CallOptions = {}): Promise<Chain> {
    return (await this.start()).describeChain(params, options);
  }

  /** Which of these files are images, by their first bytes; null for those that are none, or cannot be read. @throws CallError */
  async probeFiles(paths: readonly string[], options: CallOptions = {}): Promise<readonly (ImageFormat | null)[]> {
    return (await this.start()).probeFiles(paths, options);
  }

  /** Writes the sample images into an empty folder. @throws CallError */
  async writeSample(folder: string, options: CallOptions = {}): Promise<void> {
    await (await this.start()).writeSample(folder, options);
  }

  /** Makes or changes images. @throws CallError */
  async manage<M extends ManageMethod>(
    method: M,
    params: ManageRequests[M]['params'],
    options: ManageOptions = {},
  ): Promise<ManageRequests[M]['result']> {
    return (await this.start()).manage(method, params, options);
  }

  /** Serves an image; it listens when this resolves. @throws CallError */
  async startExport(params: ExportParams, options: CallOptions = {}): Promise<ExportInfo> {
    return (await this.start()).startExport(params, options);
  }

  /** Resolves when all clients are gone and what they wrote is on the disk. @throws CallError */
  async stopExport(id: number): Promise<void> {
    await (await this.start()).stopExport(id);
  }

  /** Switches copy-on-read of an export. @throws CallError where there is nothing to copy, or nowhere to copy it to */
  async setCopyOnRead(id: number, on: boolean): Promise<void> {
    await (await this.start()).setCopyOnRead(id, on);
  }

  /** Starts a job; it runs when this resolves. @throws CallError */
  async startJob(params: StartJobParams, options: CallOptions = {}): Promise<JobInfo> {
    return (await this.start()).startJob(params, options);
  }

  /** What a job would do. @throws CallError */
  async previewJob(request: JobRequest, options: CallOptions = {}): Promise<JobPreview> {
    return (await this.start()).previewJob(request, options);
  }

  /** @throws CallError for what the job cannot be told in its state */
  async tellJob(id: string, verb: Exclude<JobVerb, 'set-speed'>): Promise<void> {
    await (await this.start()).tellJob(id, verb);
  }

  /** @param speed bytes per second; 0 is no limit @throws CallError */
  async setJobSpeed(id: string, speed: number): Promise<void> {
    await (await this.start()).setJobSpeed(id, speed);
  }

  /** Tells the passphrase of an encrypted image, to this worker and those after it; null takes it back. */
  async givePassphrase(file: string, passphrase: string | null): Promise<void> {
    (await this.start()).givePassphrase(file, passphrase);
  }

  /** Ends the worker and begins with a new one; sessions are opened again. */
  async restart(): Promise<void> {
    await this.started?.restart();
  }

  /** Ends the worker for good. */
  async dispose(): Promise<void> {
    this.disposed = true;
    this.deathListeners.clear();
    this.exportsListeners.clear();
    this.jobsListeners.clear();
    this.goneListeners.clear();
    await this.started?.dispose();
  }

  private start(): Promise<StartedEngine> {
    this.starting ??= this.load();
    return this.starting;
  }

  private async load(): Promise<StartedEngine> {
    const { StartedEngine } = await import('./client/startedEngine');
    if (this.disposed) {
      throw plainError('cancelled', 'The window is closing.');
    }
    this.started = new StartedEngine(this.options);
    this.started.onDidDie((death) => {
      for (const listener of [...this.deathListeners]) {
        listener(death);
      }
    });
    this.started.onDidChangeExports((exports) => {
      for (const listener of [...this.exportsListeners]) {
        listener(exports);
      }
    });
    this.started.onDidFailCache((failure) => {
      for (const listener of [...this.cacheFailureListeners]) {
        listener(failure);
      }
    });
    this.started.onDidChangeJobs((jobs) => {
      for (const listener of [...this.jobsListeners]) {
        listener(jobs);
      }
    });
    this.started.onDidLoseWorker((gone) => {
      for (const listener of [...this.goneListeners]) {
        listener(gone);
      }
    });
    return this.started;
  }
}
