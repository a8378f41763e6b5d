/**
 * Where an image's bytes live. Reads are synchronous: on the page cache a `pread` into a reused buffer costs less than any promise,
 * and all engine work happens off the window's thread. Long operations yield between reads (see `pace.ts`).
 */
export interface ByteSource {
  /** The name a person knows the file by; messages begin with it. */
  readonly name: string;
  /** Length in bytes when the source was opened or last refreshed. */
  readonly size: number;
  /**
   * Reads up to `target.length` bytes at `hostOffset` and returns how many there were; fewer only at the end of the file, none where no
   * file reaches (table entries lead up to 2^64).
   * @throws EngineError `file.io`
   */
  read(target: Uint8Array, hostOffset: number): number;
  /** Bytes the file system has allocated; equal to `size` where that is not known. */
  readonly allocatedBytes: number;
  /** False where nobody tells what is allocated: on a server. */
  readonly allocationKnown?: boolean;
  /**
   * The extent (hole or data) that covers `hostOffset`, as the file system tells it, at most to the end of the file; without that
   * knowledge everything is data.
   */
  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean };
  /** These bytes will be read soon: several that lie on a slow disk are fetched at the same time. A hint, without errors. */
  willRead?(hostOffset: number, length: number): void;
  close(): void;
}

/** Reads exactly `length` bytes; what lies past the end of the file reads as zero, as QEMU has it for metadata. */
export function readPadded(source: ByteSource, hostOffset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  source.read(bytes, hostOffset);
  return bytes;
}

/** Reads what is there of `length` bytes. */
export function readAvailable(source: ByteSource, hostOffset: number, length: number): Uint8Array {
  const available = Math.max(0, Math.min(length, source.size - hostOffset));
  const bytes = new Uint8Array(available);
  return bytes.subarray(0, source.read(bytes, hostOffset));
}
