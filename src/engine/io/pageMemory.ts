/* Memory that disks can be written from directly: its addresses are multiples of a page. */

/** Bytes that addresses, offsets and lengths have to be multiples of, for any disk. */
export const PAGE = 4096;

/** WebAssembly's page: its memories are made of such. */
const UNIT = 64 * 1024;

interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** Of the few things that this is used of; the language's own library does not declare it. */
interface WebAssemblyApi {
  readonly Memory: new (size: { readonly initial: number; readonly maximum: number; readonly shared: true }) => SharedMemory;
}

const known = new WeakSet<ArrayBufferLike>();

/**
 * Zeroed memory that threads can share and that begins at a page: WebAssembly's does, other buffers begin behind what the allocator keeps
 * for itself. Each one takes gigabytes of addresses, so only a few should be made; where there are none left it begins anywhere.
 */
export function pageMemory(length: number): Buffer {
  const pages = Math.ceil(length / UNIT);
  try {
    const { Memory } = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;
    const { buffer } = new Memory({ initial: pages, maximum: pages, shared: true });
    known.add(buffer);
    return Buffer.from(buffer, 0, length);
  } catch (error) {
    if (!(error instanceof RangeError)) {
      throw error;
    }
    return Buffer.from(new SharedArrayBuffer(length));
  }
}

/** Whether these bytes begin at a page. */
export function isPageMemory(bytes: Uint8Array): boolean {
  return bytes.byteOffset % PAGE === 0 && known.has(bytes.buffer);
}
