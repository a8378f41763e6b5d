import type { Compression } from '../../formats/qcow2/compression';

/** Compressed clusters that a thread is to decode, all of one image. */
export interface DecodeRequest {
  readonly id: number;
  readonly compression: Compression;
  readonly clusterSize: number;
  /** What they lie in, as they do in the file. */
  readonly stored: SharedArrayBuffer;
  readonly target: SharedArrayBuffer;
  readonly clusters: readonly StoredCluster[];
}

/** One of them, and the part of it that is wanted. */
export interface StoredCluster {
  /** Byte in `stored`. */
  readonly start: number;
  readonly length: number;
  /** The first wanted byte of the decoded cluster. */
  readonly within: number;
  /** Byte in `target`. */
  readonly at: number;
  readonly count: number;
}

export interface DecodeAnswer {
  readonly id: number;
  /** False when one of them does not decode; why is found out by whoever asked. */
  readonly decoded: boolean;
}
