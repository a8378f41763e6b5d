import type { Awaitable } from '../awaitable';
import type { ByteSource } from './source';

/**
 * Bytes that a driver may change: QEMU's protocol node. A local file, a remote export, or a double in a test. Reading is the `ByteSource`
 * part: it sees every write that was accepted before it, and may throw `NotLoaded` where the bytes have to be fetched.
 *
 * Nothing is on the disk before `flush` has ended: a crash may keep any of the writes since the last flush and lose the others.
 */
export interface Storage extends ByteSource {
  /** False for what was opened for reading; every changing call is then a mistake of the caller. */
  readonly writable: boolean;
  /**
   * Writes all of `bytes`; past the end the file grows, with a hole between.
   * @throws EngineError `file.io`, `file.full`: an unknown part of the range may have been written
   */
  write(bytes: Uint8Array, hostOffset: number): Awaitable<void>;
  /**
   * Makes the range read as zero, without growing the file beyond `hostOffset + length`. Without `unmap` the range keeps (or gets) blocks
   * of its own, so that later writes cannot run out of space.
   * @throws EngineError `file.io`, `file.full`
   */
  writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void>;
  /**
   * Gives the range's blocks back where the file system can. Afterwards it reads as zero or as before; a local file reads as zero. Does
   * nothing, without an error, where that is not possible.
   */
  discard(hostOffset: number, length: number): Awaitable<void>;
  /**
   * Gets blocks for a range inside the file that nobody else shares, so that later writes cannot run out of space; what it holds stays.
   * @returns false where that is not possible, and only writing the range does it
   * @throws EngineError `file.io`, `file.full`
   */
  reserve?(hostOffset: number, length: number): boolean;
  /**
   * Sets the file's length. What is new reads as zero.
   * @throws EngineError `file.io`, `file.full`
   */
  truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void>;
  /** Ends when everything that was accepted before the call would survive a loss of power. @throws EngineError `file.io` */
  flush(): Promise<void>;
}

/** QEMU's names: space is not reserved, reserved by the file system, or written out with zeroes. */
export type StoragePreallocation = 'off' | 'falloc' | 'full';
