import * as os from 'node:os';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';

import type { Compression } from '../../formats/qcow2/compression';
import type { DecodeAnswer, DecodeRequest } from './decodeProtocol';

/** The bundle beside the one that runs. */
const THREAD = 'decodeThread.js';
/** More do not help: what is decoded has to be written, too. */
const MOST = 4;

/** Threads that decode compressed clusters. They start with the first request. */
export class DecodeThreads {
  private readonly file: string;
  private threads: Worker[] | null = null;
  private readonly waiting = new Map<number, (decoded: boolean) => void>();
  private next = 0;
  /** A thread ended by itself. */
  private broken = false;

  constructor(file = path.join(__dirname, THREAD)) {
    this.file = file;
  }

  /**
   * Decodes into the target.
   * @returns false when that did not work, for whatever reason: then the caller does it itself, and finds out. Nothing is written into
   * the target any more, in any case.
   */
  decode(request: Omit<DecodeRequest, 'id'>): Promise<boolean> {
    if (this.broken) {
      return Promise.resolve(false);
    }
    this.threads ??= this.start(request.compression);
    const id = this.next++;
    const thread = this.threads[id % this.threads.length]!;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      thread.postMessage({ id, ...request } satisfies DecodeRequest);
    });
  }

  async close(): Promise<void> {
    this.broken = true;
    await Promise.all((this.threads ?? []).map((thread) => thread.terminate()));
    this.giveUp();
  }

  private start(compression: Compression): Worker[] {
    const cores = os.availableParallelism();
    // What is compressed with zstd is decoded faster than it is written; another thread costs more to start than it saves.
    const count = Math.min(MOST, compression === 'zstd' ? Math.ceil(cores / 2) : cores);
    return Array.from({ length: count }, () => {
      const thread = new Worker(this.file);
      thread.on('message', ({ id, decoded }: DecodeAnswer) => {
        this.waiting.get(id)?.(decoded);
        this.waiting.delete(id);
      });
      // A bundle that is not there, or no memory: slower, but nothing is lost.
      thread.on('error', () => void this.close());
      return thread;
    });
  }

  private giveUp(): void {
    this.waiting.forEach((resolve) => {
      resolve(false);
    });
    this.waiting.clear();
  }
}
