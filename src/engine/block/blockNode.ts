import type { ImageFormat } from '../../protocol/chain';
import type { Awaitable } from '../awaitable';

/** What one image itself says of a stretch of guest bytes; `unallocated` leaves it to the backing file, without one it reads as zero. */
export interface NodeStatus {
  readonly class: 'unallocated' | 'data' | 'zero' | 'compressed';
  /** Bytes from the offset that was asked for, at least 1; the next stretch may mean the same. */
  readonly length: number;
  /**
   * Byte offset in the file that holds the data, or of the space that zeroes have all the same; consecutive for the whole stretch. Null
   * where the bytes have no place of their own.
   */
  readonly hostOffset: number | null;
}

/** Whether bytes have to be read to know them. */
export interface DataAhead {
  /** False: they are zeroes. */
  readonly data: boolean;
  /** Bytes that the answer holds for, at least 1. */
  readonly length: number;
}

export interface WriteOptions {
  /** Force unit access: ends when these bytes are on the disk, with everything that is needed to read them back. */
  readonly fua?: boolean | undefined;
}

export interface ZeroOptions extends WriteOptions {
  /** Space may be given back (QEMU's BDRV_REQ_MAY_UNMAP). */
  readonly mayUnmap?: boolean | undefined;
  /** Fails with `request.unsupported` rather than writing zeroes out (BDRV_REQ_NO_FALLBACK). */
  readonly noFallback?: boolean | undefined;
  /** The image is to say itself that these are zeroes, also where nothing lies below yet: it will be given a backing file. */
  readonly explicit?: boolean | undefined;
}

/** QEMU's PreallocMode for new space. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/**
 * A node of the block graph: one image (or a filter before one) with the operations of QEMU's block layer, in bytes at any alignment.
 * Requests may run at the same time; reads that overlap a write in flight see the old or the new bytes, sector by sector. A request's
 * buffer belongs to the node until the request ends. All offsets are guest bytes, 0 .. size; a range outside the disk is
 * `request.invalid`. A failed request may have had a part of its effect inside its own range, and none outside it.
 */
export interface BlockNode {
  /** Unique in its graph: QEMU's node-name. */
  readonly nodeName: string;
  readonly driver: ImageFormat | NodeFilter;
  /** The image's name as QEMU has it in messages. */
  readonly filename: string;
  /** Bytes; a multiple of 512. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Unit of allocation in bytes; null where bytes are allocated as they are (raw). */
  readonly clusterSize: number | null;
  /** What unallocated ranges are read from. */
  readonly backing: BlockNode | null;
  /** Fills `target`, down the whole chain. @throws EngineError */
  read(guestOffset: number, target: Uint8Array): Awaitable<void>;
  /** @throws EngineError `request.readOnly`, `image.corrupt`, `file.full`, `file.io` */
  write(guestOffset: number, bytes: Uint8Array, options?: WriteOptions): Awaitable<void>;
  /** The range reads as zero afterwards, whatever lies below. */
  writeZeroes(guestOffset: number, length: number, options?: ZeroOptions): Awaitable<void>;
  /**
   * The guest no longer needs these bytes; only whole units are given back. What it reads there afterwards is zero where there is a backing
   * file or the format says so, and else unspecified, never another's data.
   */
  discard(guestOffset: number, length: number): Awaitable<void>;
  /** Ends when all writes that ended before the call would survive a loss of power. */
  flush(): Promise<void>;
  /** What this image itself says, without what lies below. At least one byte, at most `length`. */
  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus>;
  /**
   * Gets space for a range that has its place in the file already, so that writing there cannot run out of it; what it holds stays.
   * @returns false where only writing the range does that
   */
  reserve?(guestOffset: number, length: number): Awaitable<boolean>;
  /** Whether it, with what lies below, knows the bytes to be zeroes; for nodes that need not ask those below one by one. */
  dataAhead?(guestOffset: number, length: number): Awaitable<DataAhead>;
  /** These bytes will be read soon (see ByteSource). What is not known without waiting is left out. */
  willRead?(guestOffset: number, length: number): void;
  /**
   * Grows or shrinks the disk. What is new reads as zero, also over a longer backing file.
   * @throws EngineError `request.invalid` for a size that the format or its snapshots do not allow
   */
  resize(size: number, preallocation?: Preallocation): Promise<void>;
  /** Ends requests, writes what is cached, marks the image clean and closes its files; not the backing node, which has its own owner. */
  close(): Promise<void>;
}

export type NodeFilter = 'copy-on-read' | 'throttle';
