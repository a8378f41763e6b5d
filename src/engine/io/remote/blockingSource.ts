import * as path from 'node:path';
import { Worker } from 'node:worker_threads';

import { EngineError, networkFailed } from '../../errors';
import { definedTlsObjects } from '../../nbd/client/tlsCredentials';
import type { ByteSource } from '../source';
import { ANSWER_BYTES, STATE, WORD, type BlockingRequest, type FailedAnswer, type OpenedAnswer } from './blockingProtocol';

/** The bundle that fetches, beside the one that this is a part of. */
const THREAD = 'remoteThread.js';

/**
 * A server's file or export whose reads wait until the bytes are there. For a program that has nothing else to do meanwhile, such as a
 * command: its walks over tables are then the same as over local files. Another thread fetches, keeps and reads ahead.
 */
export class BlockingSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly allocatedBytes: number;
  readonly allocationKnown = false;
  private readonly thread: FetchingThread;
  private readonly source: number;
  private readonly patienceMs: number;
  private closed = false;

  private constructor(thread: FetchingThread, source: number, patienceMs: number, { name, size }: OpenedAnswer) {
    this.thread = thread;
    this.source = source;
    this.patienceMs = patienceMs;
    this.name = name;
    this.size = size;
    this.allocatedBytes = size;
  }

  /**
   * @param name as `remoteNameOf` understands it
   * @param patienceMs milliseconds after which a wait has failed; for ever when left out
   * @throws EngineError as `openRemote`
   */
  static open(name: string, patienceMs = Infinity): BlockingSource {
    const thread = FetchingThread.take();
    const source = thread.nextSource++;
    try {
      return new BlockingSource(
        thread,
        source,
        patienceMs,
        decode(thread.ask({ kind: 'open', source, name, tls: definedTlsObjects() }, name, patienceMs)) as OpenedAnswer,
      );
    } catch (error) {
      thread.release();
      throw error;
    }
  }

  read(target: Uint8Array, hostOffset: number): number {
    const wanted = Math.max(0, Math.min(target.length, this.size - hostOffset));
    for (let done = 0; done < wanted; done += ANSWER_BYTES) {
      const length = Math.min(ANSWER_BYTES, wanted - done);
      target.set(this.ask({ kind: 'read', source: this.source, offset: hostOffset + done, length }), done);
    }
    return wanted;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return decode(this.ask({ kind: 'extent', source: this.source, offset: hostOffset })) as ReturnType<ByteSource['extentAt']>;
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      try {
        this.ask({ kind: 'close', source: this.source });
      } finally {
        this.thread.release();
      }
    }
  }

  private ask(request: BlockingRequest): Uint8Array {
    return this.thread.ask(request, this.name, this.patienceMs);
  }
}

/** The thread that fetches for all sources of this one; it ends with the last of them. */
class FetchingThread {
  private static running: FetchingThread | null = null;
  nextSource = 0;
  private users = 0;
  /** It was waited for in vain; what it still does would get into the way of the next answer. */
  private lost = false;
  private readonly worker: Worker;
  private readonly words = new Int32Array(new SharedArrayBuffer(WORD.words * 4));
  private readonly answer = new Uint8Array(new SharedArrayBuffer(ANSWER_BYTES));

  private constructor() {
    this.worker = new Worker(path.join(__dirname, THREAD), { workerData: { words: this.words.buffer, answer: this.answer.buffer } });
    this.worker.unref();
  }

  static take(): FetchingThread {
    FetchingThread.running ??= new FetchingThread();
    FetchingThread.running.users++;
    return FetchingThread.running;
  }

  release(): void {
    if (--this.users === 0) {
      this.end();
    }
  }

  /** The bytes of the answer, valid until the next question. */
  ask(request: BlockingRequest, name: string, patienceMs: number): Uint8Array {
    if (this.lost) {
      if (request.kind === 'close') {
        return new Uint8Array();
      }
      throw networkFailed(name, 'The server did not answer before.');
    }
    Atomics.store(this.words, WORD.state, STATE.waiting);
    this.worker.postMessage(request);
    if (Atomics.wait(this.words, WORD.state, STATE.waiting, patienceMs) === 'timed-out') {
      this.lost = true;
      this.end();
      throw networkFailed(name, `The server did not answer within ${patienceMs / 1000} s.`);
    }
    const bytes = this.answer.subarray(0, this.words[WORD.length]);
    if (this.words[WORD.state] === STATE.failed) {
      const { code, message, place } = decode(bytes) as FailedAnswer;
      throw new EngineError(code, message, place);
    }
    return bytes;
  }

  private end(): void {
    if (FetchingThread.running === this) {
      FetchingThread.running = null;
    }
    void this.worker.terminate();
  }
}

function decode(bytes: Uint8Array): unknown {
  // Text decoders do not take shared memory.
  return JSON.parse(new TextDecoder().decode(bytes.slice()));
}
