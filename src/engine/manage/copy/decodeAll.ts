import { decompressCluster, decompressUsual, inflateUsual } from '../../formats/qcow2/compression';
import type { DecodeRequest } from './decodeProtocol';

/**
 * Decodes clusters to where they belong.
 * @returns false when one of them does not decode; the target may hold anything then
 */
export function decodeAll({ compression, clusterSize, stored, target, clusters }: Omit<DecodeRequest, 'id'>): boolean {
  const output = new Uint8Array(target);
  for (const { start, length, within, at, count } of clusters) {
    const input = new Uint8Array(stored, start, length);
    if (compression === 'zlib' && within === 0 && count === clusterSize && inflateUsual(input, output.subarray(at, at + count))) {
      continue;
    }
    const cluster = decodeOne(compression, input, clusterSize);
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
