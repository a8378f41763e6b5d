import { parentPort, workerData } from 'node:worker_threads';

import { EngineError } from '../../errors';
import { remoteNameOf } from '../../gate/remoteName';
import { defineTlsObject } from '../../nbd/client/tlsCredentials';
import { loading } from '../loading';
import type { Storage } from '../storage';
import { STATE, WORD, type BlockingRequest, type FailedAnswer, type OpenedAnswer, type SharedMemory } from './blockingProtocol';
import { openRemote } from './openRemote';

/* The thread that fetches for a `BlockingSource`; a bundle of its own. */

const memory = workerData as SharedMemory;
const words = new Int32Array(memory.words);
const answer = new Uint8Array(memory.answer);
const sources = new Map<number, Storage>();

parentPort?.on('message', (request: BlockingRequest) => {
  void perform(request).then(
    (bytes) => finish(STATE.done, bytes),
    (error: unknown) => finish(STATE.failed, json(failure(error))),
  );
});

/** How many bytes of the answer are filled. */
async function perform(request: BlockingRequest): Promise<number> {
  switch (request.kind) {
    case 'open': {
      request.tls.forEach(([id, object]) => defineTlsObject(id, object));
      const name = remoteNameOf(request.name);
      if (!name) {
        throw new EngineError('address.invalid', `${request.name}: It is no address of a server.`);
      }
      const source = await openRemote(name, { writable: false });
      sources.set(request.source, source);
      return json({ name: source.name, size: source.size } satisfies OpenedAnswer);
    }
    case 'read': {
      const target = answer.subarray(0, request.length);
      return loading(() => find(request.source).read(target, request.offset));
    }
    case 'extent':
      return json(await loading(() => find(request.source).extentAt(request.offset)));
    case 'close':
      find(request.source).close();
      sources.delete(request.source);
      return 0;
  }
}

function find(source: number): Storage {
  const found = sources.get(source);
  if (!found) {
    throw new RangeError('the source is not open');
  }
  return found;
}

function failure(error: unknown): FailedAnswer {
  if (error instanceof EngineError) {
    return { code: error.code, message: error.message, place: error.place };
  }
  return { code: 'network.failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error), place: {} };
}

function json(value: unknown): number {
  return new TextEncoder().encodeInto(JSON.stringify(value), answer).written;
}

function finish(state: number, length: number): void {
  words[WORD.length] = length;
  Atomics.store(words, WORD.state, state);
  Atomics.notify(words, WORD.state);
}
