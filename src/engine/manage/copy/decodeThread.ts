import { parentPort } from 'node:worker_threads';

import { decompressCluster, decompressUsual } from '../../formats/qcow2/compression';
import type { DecodeAnswer, DecodeRequest } from './decodeProtocol';

/* A thread that decodes for `DecodeThreads`; a bundle of its own. */

parentPort?.on('message', (request: DecodeRequest) => {
  parentPort?.postMessage({ id: request.id, decoded: decodeAll(request) } satisfies DecodeAnswer);
});

function decodeAll({ compression, clusterSize, stored, target, clusters }: DecodeRequest): boolean {
  const output = new Uint8Array(target);
  for (const { start, length, within, at, count } of clusters) {
    const cluster = decodeOne(compression, new Uint8Array(stored, start, length), clusterSize);
    if (!cluster) {
      return false;
    }
    output.set(within === 0 && count === cluster.length ? cluster : cluster.subarray(within, within + count), at);
  }
  return true;
}

/** Null for anything that goes wrong: the same happens to whoever asked when it tries itself, and there it is told. */
function decodeOne(compression: DecodeRequest['compression'], input: Uint8Array, clusterSize: number): Uint8Array | null {
  try {
    return decompressUsual(compression, input, clusterSize) ?? decompressCluster(compression, input, clusterSize);
  } catch {
    return null;
  }
}
