import * as vscode from 'vscode';

import type { JobInfo } from '../../protocol/jobs';
import type { EngineClient } from '../../worker/client';
import { DisposableStore, type Disposable } from '../lifecycle';
import { hasEnded, wasInterrupted, type JobEntry } from './jobEntry';

/** Where jobs that run are kept, so that the next window knows of those that this one takes along. */
const STORED = 'chainscope.jobs';
const WINDOW_CLOSED = 'The window was closed.';

/** The jobs of this window: those of the engine, and those that it had when it ended. */
export class Jobs implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<void>());
  readonly onDidChange = this.changed.event;
  private readonly engine: EngineClient;
  private readonly state: vscode.Memento;
  /** By the engine's ID. */
  private live = new Map<string, JobEntry>();
  private past: readonly JobEntry[];
  /** Engines so far; each begins to count its jobs anew. */
  private engines = 0;
  private stored: string;

  constructor(engine: EngineClient, state: vscode.Memento) {
    this.engine = engine;
    this.state = state;
    const left = state.get<readonly JobInfo[]>(STORED, []);
    this.past = left.map((job, index) => ({ key: `window-${index}`, job, lost: WINDOW_CLOSED }));
    this.stored = left.map(({ id }) => id).join();
    this.disposables.add(engine.onDidChangeJobs((jobs) => this.show(jobs)));
    this.disposables.add(engine.onDidLoseWorker(({ reason }) => this.lose(reason)));
  }

  /** Those that were interrupted first; the others in the order in which they were started. */
  get entries(): readonly JobEntry[] {
    return [...this.past, ...this.live.values()];
  }

  find(key: string): JobEntry | null {
    return this.entries.find((entry) => entry.key === key) ?? null;
  }

  /** The entry of a job that the engine has just started. */
  entryOf(job: JobInfo): JobEntry {
    const known = this.live.get(job.id);
    if (known !== undefined) {
      return known;
    }
    this.show([...[...this.live.values()].map((entry) => entry.job), job]);
    return this.live.get(job.id)!;
  }

  /** Takes a job that has ended out of the list. @throws CallError */
  async dismiss(entry: JobEntry): Promise<void> {
    if (entry.lost === null) {
      await this.engine.tellJob(entry.job.id, 'dismiss');
      return;
    }
    this.past = this.past.filter(({ key }) => key !== entry.key);
    this.tell();
  }

  /** Resolves when `isReached` says so, with the entry as it is then; null when the job is in the list no more. */
  async until(key: string, isReached: (entry: JobEntry) => boolean): Promise<JobEntry | null> {
    for (;;) {
      const entry = this.find(key);
      if (entry === null || isReached(entry)) {
        return entry;
      }
      await new Promise<void>((resolve) => {
        const listener = this.onDidChange(() => {
          listener.dispose();
          resolve();
        });
      });
    }
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private show(jobs: readonly JobInfo[]): void {
    const before = this.live;
    this.live = new Map(
      jobs.map((job) => [job.id, { key: before.get(job.id)?.key ?? `engine-${this.engines}-${job.id}`, job, lost: null }]),
    );
    this.tell();
  }

  /** What ran is interrupted; what had ended stays to be read. */
  private lose(reason: string): void {
    this.past = [...this.past, ...[...this.live.values()].map((entry) => ({ ...entry, lost: reason }))];
    this.live = new Map();
    this.engines += 1;
    this.tell();
  }

  private tell(): void {
    this.store();
    this.changed.fire();
  }

  /** How far each is does not matter to whoever resumes it, so it is written when there are others only. */
  private store(): void {
    const unfinished = this.entries.filter((entry) => !hasEnded(entry) || wasInterrupted(entry));
    const stored = unfinished.map(({ key }) => key).join();
    if (stored !== this.stored) {
      this.stored = stored;
      void this.state.update(
        STORED,
        unfinished.map(({ job }) => job),
      );
    }
  }
}
