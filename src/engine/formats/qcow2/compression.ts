import * as zlib from 'node:zlib';

import { EngineError } from '../../errors';
import { ReusedDecoder } from './reusedDecoder';
import { zstdFrame } from './zstdFrame';

/*
 * Compressed clusters, decoded as QEMU does (block/qcow2-threads.c): a stream counts as good when it fills the cluster; what follows it
 * in its last sector belongs to others.
 */

/** QEMU's deflate window: 4 KiB. A decoder that has the whole cluster before it follows a stream that reaches further back, too. */
const WINDOW_BITS = 12;
/** More than one byte of deflate input can grow to; what a decoder may overshoot before it is stopped. */
const SLACK = 64 * 1024;
/** Window byte of a zstd frame header (RFC 8878, 3.1.1.1.2) that stands for 2 MiB, the largest cluster. */
const LARGEST_CLUSTER_WINDOW = (21 - 10) << 3;

export type Compression = 'zlib' | 'zstd' | 'unknown';

/**
 * Decompresses one cluster.
 * @param input from the cluster's first compressed byte to the end of its last sector, or of the file
 * @returns exactly `clusterSize` bytes; null when the input does not decompress to that many
 * @throws EngineError `format.unsupported` when the method is unknown or this Node cannot decode it
 */
export function decompressCluster(compression: Compression, input: Uint8Array, clusterSize: number): Uint8Array | null {
  const usual = decompressUsual(compression, input, clusterSize);
  if (usual) {
    return Uint8Array.from(usual);
  }
  switch (compression) {
    case 'zlib':
      return inflate(input, clusterSize);
    case 'zstd':
      return unzstd(input, clusterSize);
    case 'unknown':
      throw new EngineError('format.unsupported', 'The image is compressed with a method that is not known.');
  }
}

const decoders = new Map<Compression, ReusedDecoder | null>();

/**
 * The same, for a stream with nothing unusual about it.
 * @returns bytes that are valid until the next call; null where `decompressCluster` has to look
 */
export function decompressUsual(compression: Compression, input: Uint8Array, clusterSize: number): Uint8Array | null {
  if (compression === 'unknown') {
    return null;
  }
  const decoder = decoderOf(compression, clusterSize);
  if (compression === 'zlib') {
    const output = decoder?.decode(input) ?? null;
    return output && filled(output, clusterSize);
  }
  const frame = decoder && zstdFrame(input);
  const output = decoder && frame && decoder.decode(boundedWindow(input.subarray(0, frame.length), frame.windowByte));
  return output?.length === clusterSize ? output : null;
}

/**
 * The same into a target as long as a cluster, without a copy on the way.
 * @returns false where `decompressUsual` has to look; the target may hold anything then
 */
export function inflateUsual(input: Uint8Array, target: Uint8Array): boolean {
  return decoderOf('zlib', target.length)?.decodeInto(target, input) === target.length;
}

function decoderOf(compression: 'zlib' | 'zstd', clusterSize: number): ReusedDecoder | null {
  let decoder = decoders.get(compression);
  // One more byte, to see whether a frame of zstd ends with the cluster.
  if (decoder === undefined || (decoder !== null && decoder.room !== clusterSize + 1)) {
    decoder = ReusedDecoder.make(compression, clusterSize + 1, WINDOW_BITS);
    decoders.set(compression, decoder);
  }
  return decoder;
}

function inflate(input: Uint8Array, clusterSize: number): Uint8Array | null {
  const output = inflateAtMost(input, clusterSize);
  if (output instanceof Uint8Array) {
    return filled(output, clusterSize);
  }
  // The stream goes on past the cluster, or breaks somewhere. QEMU's decoder never gets beyond the cluster: look for the shortest input
  // that fills it. Decoding stays bounded, however far the stream would expand.
  let tooLittle = 0;
  let enough = input.length;
  while (enough - tooLittle > 1) {
    const middle = Math.floor((enough + tooLittle) / 2);
    const part = inflateAtMost(input.subarray(0, middle), clusterSize);
    if (part instanceof Uint8Array && part.length < clusterSize) {
      tooLittle = middle;
    } else {
      enough = middle;
    }
  }
  const shortest = inflateAtMost(input.subarray(0, enough), clusterSize);
  return shortest instanceof Uint8Array ? filled(shortest, clusterSize) : null;
}

/** What the input decodes to, also when it ends early. */
function inflateAtMost(input: Uint8Array, clusterSize: number): Uint8Array | 'tooMuch' | 'broken' {
  try {
    return zlib.inflateRawSync(input, {
      windowBits: WINDOW_BITS,
      chunkSize: Math.max(clusterSize, zlib.constants.Z_MIN_CHUNK) + 1,
      maxOutputLength: clusterSize + SLACK,
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
    });
  } catch (error) {
    return error instanceof RangeError ? 'tooMuch' : broken(error);
  }
}

function filled(output: Uint8Array, clusterSize: number): Uint8Array | null {
  return output.length >= clusterSize ? output.subarray(0, clusterSize) : null;
}

/** Frame after frame until the cluster is full. */
function unzstd(input: Uint8Array, clusterSize: number): Uint8Array | null {
  const decode = zstdDecoder();
  let rest = input;
  let done: Uint8Array = new Uint8Array(0);
  for (;;) {
    const frame = zstdFrame(rest);
    if (!frame) {
      return null;
    }
    const part = decode(boundedWindow(rest.subarray(0, frame.length), frame.windowByte), clusterSize - done.length);
    if (part === null || part.length === 0) {
      return null;
    }
    done = done.length === 0 ? part : Buffer.concat([done, part]);
    if (done.length === clusterSize) {
      return done;
    }
    rest = rest.subarray(frame.length);
  }
}

/** A frame may ask for a window of gigabytes, which the decoder would allocate; no cluster needs more than its own size. */
function boundedWindow(frame: Uint8Array, windowByte: number): Uint8Array {
  if (windowByte < 0 || frame[windowByte]! <= LARGEST_CLUSTER_WINDOW) {
    return frame;
  }
  const bounded = Uint8Array.from(frame);
  bounded[windowByte] = LARGEST_CLUSTER_WINDOW;
  return bounded;
}

function zstdDecoder(): (frame: Uint8Array, limit: number) => Uint8Array | null {
  const { zstdDecompressSync } = zlib as Partial<typeof zlib>;
  if (!zstdDecompressSync) {
    throw new EngineError('format.unsupported', 'The image is compressed with zstd, which this Node cannot decode.', {
      remedy: 'Use Node 22.15 or later.',
    });
  }
  return (frame, limit) => {
    try {
      return zstdDecompressSync(frame, { chunkSize: Math.max(limit, zlib.constants.Z_MIN_CHUNK), maxOutputLength: limit });
    } catch (error) {
      if (!(error instanceof RangeError)) {
        broken(error);
      }
      return null;
    }
  };
}

/** For the decoder's own verdict; anything else is not about the input and passes through. */
function broken(error: unknown): 'broken' {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string' && /^(Z|ZSTD)_/.test(error.code)) {
    return 'broken';
  }
  throw error;
}

/**
 * Compresses one cluster.
 * @returns null when it does not get smaller
 * @throws EngineError `format.unsupported` when the method is unknown or this Node cannot do it
 */
export function compressCluster(compression: Compression, cluster: Uint8Array): Uint8Array | null {
  let output: Uint8Array;
  switch (compression) {
    case 'zlib':
      output = zlib.deflateRawSync(cluster, { windowBits: WINDOW_BITS });
      break;
    case 'zstd': {
      const { zstdCompressSync } = zlib as Partial<typeof zlib>;
      if (!zstdCompressSync) {
        throw new EngineError('format.unsupported', 'The image is compressed with zstd, which this Node cannot do.', {
          remedy: 'Use Node 22.15 or later.',
        });
      }
      output = zstdCompressSync(cluster);
      break;
    }
    case 'unknown':
      throw new EngineError('format.unsupported', 'The image is compressed with a method that is not known.');
  }
  return output.length < cluster.length ? output : null;
}
