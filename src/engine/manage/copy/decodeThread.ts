import { parentPort } from 'node:worker_threads';

import { decodeAll } from './decodeAll';
import type { DecodeAnswer, DecodeRequest } from './decodeProtocol';

/* A thread that decodes for `DecodeThreads`; a bundle of its own. */

parentPort?.on('message', (request: DecodeRequest) => {
  parentPort?.postMessage({ id: request.id, decoded: decodeAll(request) } satisfies DecodeAnswer);
});
