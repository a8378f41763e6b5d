import type { GuestClass } from '../../protocol/inspect';
import type { ByteSource } from '../io/source';

/** Where a compressed cluster's bytes lie. */
export interface CompressedDescriptor {
  /** Byte offset in the file; not aligned. */
  readonly hostOffset: number;
  /** Bytes up to the end of the last 512-byte sector it uses; that one may be shared with other clusters. */
  readonly length: number;
  /** First guest byte of the cluster it decompresses to. */
  readonly guestOffset: number;
}

/** Why an extent's bytes cannot be told. */
export interface ExtentProblem {
  /** The entry to blame, in the specification's words. */
  readonly structure: string;
  /** Byte offset in the file of that entry. */
  readonly hostOffset: number;
  /** One sentence. */
  readonly message: string;
}

/** A stretch of one layer's guest bytes with one meaning; the next stretch may mean the same. */
export interface GuestExtent {
  /** `unknown`: the entry contradicts the specification, or the format's data cannot be read; `problem` says why. */
  readonly class: GuestClass;
  /** Bytes from the offset that was asked for, at least 1. */
  readonly length: number;
  /**
   * Byte offset, in the file that holds the layer's data, of the first byte; consecutive for the whole extent. Also set for zeroes and
   * unallocated subclusters that have space of their own in the file; null where there is none, and for compressed clusters.
   */
  readonly hostOffset: number | null;
  /** Set exactly for the class `compressed`. */
  readonly compressed: CompressedDescriptor | null;
  /** Set exactly for the class `unknown`. */
  readonly problem: ExtentProblem | null;
  /** The file that host offsets count in, where a layer's data lies in several (VMDK); left out where it lies in one. */
  readonly source?: ByteSource | undefined;
}

/** One layer's own allocation, without what lies below it: which of its guest bytes are where. */
export interface LayerStatus {
  /** Size in bytes of the disk that is looked at: the layer's virtual size, or a snapshot's. */
  readonly size: number;
  /**
   * What the bytes from `guestOffset` on are, as far as one answer reaches but at most `length` bytes. Bounded work: a caller that wants
   * more asks again behind it. Never throws on content.
   * @param guestOffset 0 .. size - 1
   * @param length at least 1; cut at the end of the disk
   * @throws EngineError `file.io`, `request.invalid` for an offset outside the disk
   */
  blockStatus(guestOffset: number, length: number): GuestExtent;
}

export function plainExtent(kind: 'unallocated' | 'data' | 'zero', length: number, hostOffset: number | null = null): GuestExtent {
  return { class: kind, length, hostOffset, compressed: null, problem: null };
}

export function unknownExtent(length: number, structure: string, hostOffset: number, message: string): GuestExtent {
  return { class: 'unknown', length, hostOffset: null, compressed: null, problem: { structure, hostOffset, message } };
}
