import * as os from 'node:os';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';

import type { Compression } from '../../formats/qcow2/compression';
import type { DecodeAnswer, DecodeRequest } from './decodeProtocol';

/** The bundle beside the one that runs. */
const THREAD = 'decodeThread.js';
/** More do not help: what is decoded has to be written, too. */
const MOST = 4;
/** Requests that a thread has before it: the next ones are there when it is done with one. */
const DEPTH = 3;

/** Threads that decode compressed clusters, beside the one that asks them: that decodes what they have no time for. */
export class DecodeThreads {
  private readonly file: string;
  private threads: Worker[] | null = null;
  private readonly waiting = new Map<number, (decoded: boolean) => void>();
  private next = 0;
  private online = 0;
  private readonly whenOnline: Promise<void>;
  private tellOnline: () => void = () => undefined;
  /** A thread ended by itself. */
  private broken = false;

  constructor(file = path.join(__dirname, THREAD)) {
    this.file = file;
    this.whenOnline = new Promise((resolve) => {
      this.tellOnline = resolve;
    });
  }

  /** Whether they would begin with another request soon. Starting takes them as long as some megabytes take to decode. */
  isFree(compression: Compression): boolean {
    const threads = this.startOnce(compression);
    return !this.broken && this.online === threads.length && this.waiting.size < threads.length * DEPTH;
  }

  /** Ends when they could begin with a request, or never will. */
  async started(compression: Compression): Promise<void> {
    this.startOnce(compression);
    await this.whenOnline;
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
    const threads = this.startOnce(request.compression);
    const id = this.next++;
    const thread = threads[id % threads.length]!;
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

  private startOnce(compression: Compression): readonly Worker[] {
    this.threads ??= this.broken ? [] : this.start(compression);
    return this.threads;
  }

  private start(compression: Compression): Worker[] {
    const others = os.availableParallelism() - 1;
    // What is compressed with zstd is decoded faster than it is written; another thread costs more to start than it saves.
    const count = Math.max(1, Math.min(MOST, compression === 'zstd' ? Math.ceil(others / 2) : others));
    return Array.from({ length: count }, () => {
      const thread = new Worker(this.file);
      thread.on('online', () => {
        this.online++;
        if (this.online === count) {
          this.tellOnline();
        }
      });
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
    this.tellOnline();
    this.waiting.forEach((resolve) => {
      resolve(false);
    });
    this.waiting.clear();
  }
}
