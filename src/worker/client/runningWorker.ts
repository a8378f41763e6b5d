import { Worker } from 'node:worker_threads';
import {
  createMessageConnection,
  ResponseError,
  type MessageConnection,
  type NotificationType,
  type RequestParam,
  type RequestType,
} from 'vscode-jsonrpc/node';

import { askGate, imageChanged, progressType, type GateAnswer, type GateQuestion, type WireError } from '../../protocol/engine';
import { cacheFailed, exportsChanged, type CacheFailure, type ExportInfo } from '../../protocol/exports';
import { jobsChanged, type JobInfo } from '../../protocol/jobs';
import { CallError, ENGINE_DIED, INTERNAL, plainError, type CallOptions } from '../../protocol/imageClient';
import { PortReader, PortWriter } from '../../protocol/portTransport';
import { untilSettled, withSignal } from './signals';
import type { ImageChange } from './imageSession';
import { nodePort } from './nodePort';

export interface RunningWorkerOptions {
  /** Path of the worker's bundle. */
  readonly workerPath: string;
  readonly answerGate: (question: GateQuestion) => Promise<GateAnswer>;
  readonly onImageChanged: (change: { readonly session: number } & ImageChange) => void;
  readonly onJobsChanged: (jobs: readonly JobInfo[]) => void;
  readonly onExportsChanged: (exports: readonly ExportInfo[]) => void;
  readonly onCacheFailed: (failure: CacheFailure) => void;
  /** Lines that the worker printed: warnings of Node, a last word before it ended. */
  readonly onOutput: (text: string) => void;
  /** It ended without being asked to. */
  readonly onDeath: (reason: string) => void;
}

/** The old generation of the worker's heap. Tables lie outside it; what grows past this is a bug, and shall end the worker only. */
const MAX_HEAP_MIB = 1024;

/** One life of the engine worker. */
export class RunningWorker {
  readonly connection: MessageConnection;
  private readonly worker: Worker;
  private ended = false;
  /** Why it ended, for calls that were under way. */
  private reason = 'The engine was stopped.';
  private nextToken = 1;

  constructor(options: RunningWorkerOptions) {
    this.worker = new Worker(options.workerPath, {
      name: 'chainscope engine',
      stdout: true,
      stderr: true,
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
    });
    for (const stream of [this.worker.stdout, this.worker.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => options.onOutput(text.trimEnd()));
    }
    const port = nodePort(this.worker);
    this.connection = createMessageConnection(new PortReader(port), new PortWriter(port, { transferResults: false }));
    this.connection.onRequest(askGate, async (question) => {
      try {
        return await options.answerGate(question);
      } catch (error) {
        options.onOutput(`The gate failed, so nothing is opened: ${String(error)}`);
        return { allowed: false, reason: 'outsideWorkspace' as const };
      }
    });
    this.connection.onNotification(imageChanged, (change) => options.onImageChanged(change));
    this.connection.onNotification(exportsChanged, ({ exports }) => options.onExportsChanged(exports));
    this.connection.onNotification(cacheFailed, (failure) => options.onCacheFailed(failure));
    this.connection.onNotification(jobsChanged, ({ jobs }) => options.onJobsChanged(jobs));
    this.connection.onError(([error]) => options.onOutput(`The engine's port: ${error.message}`));
    this.connection.listen();
    this.worker.on('error', (error: unknown) => {
      this.reason = error instanceof Error ? `The engine ended: ${error.message}` : 'The engine ended.';
    });
    this.worker.on('exit', (code) => {
      if (this.ended) {
        return;
      }
      if (this.reason === 'The engine was stopped.') {
        this.reason = `The engine ended with exit code ${code}.`;
      }
      this.end();
      options.onDeath(this.reason);
    });
    // The window's process does not wait for its engine.
    this.worker.unref();
  }

  /**
   * Sends a request. An aborted one rejects at once; the worker gets to know and stops at its next turn. With `settle` it rejects when the
   * worker has stopped.
   * @throws CallError
   */
  async request<P, R>(
    type: RequestType<P, R, WireError>,
    params: (progressToken: string | null) => NoInfer<RequestParam<P>>,
    { signal, onProgress, settle = false }: CallOptions & { readonly settle?: boolean } = {},
  ): Promise<R> {
    if (this.ended) {
      throw plainError(ENGINE_DIED, this.reason);
    }
    const progressToken = onProgress ? `${this.nextToken++}` : null;
    const progress = onProgress && this.connection.onProgress(progressType, progressToken ?? '', onProgress);
    try {
      return await (settle ? untilSettled : withSignal)(signal, (token) => this.connection.sendRequest(type, params(progressToken), token));
    } catch (error) {
      throw this.callError(error);
    } finally {
      progress?.dispose();
    }
  }

  /** Tells the worker something; requests that are sent later come after it. */
  notify<P>(type: NotificationType<P>, params: NoInfer<RequestParam<P>>): void {
    // A worker that has ended needs to know nothing any more.
    this.connection.sendNotification(type, params).catch(() => undefined);
  }

  /** Ends the worker on purpose; calls under way are rejected. */
  async terminate(reason: string): Promise<void> {
    this.reason = reason;
    this.end();
    await this.worker.terminate();
  }

  /** Lets nothing more through; everything that waits is rejected. */
  private end(): void {
    this.ended = true;
    this.connection.dispose();
  }

  private callError(error: unknown): CallError {
    if (error instanceof CallError) {
      return error;
    }
    if (this.ended) {
      return plainError(ENGINE_DIED, this.reason);
    }
    if (error instanceof ResponseError && isWireError(error.data)) {
      return new CallError(error.data);
    }
    return plainError(INTERNAL, error instanceof Error ? error.message : String(error));
  }
}

function isWireError(data: unknown): data is WireError {
  return typeof data === 'object' && data !== null && 'code' in data && 'message' in data;
}
