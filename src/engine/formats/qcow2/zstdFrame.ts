/*
 * The extent of a zstd frame (RFC 8878, 3.1.1). A qcow2 image pads compressed clusters to sectors, with whatever follows; zlib's decoder
 * stops by itself, Node's zstd decoder wants exactly the frame.
 */

const MAGIC = 0xfd2fb528;
const MAGIC_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
const CHECKSUM_BYTES = 4;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;

export interface ZstdFrame {
  /** Bytes of the whole frame. */
  readonly length: number;
  /** Byte in the frame that declares the window's size; -1 for a frame that is its own window. */
  readonly windowByte: number;
}

/** The frame that `bytes` begin with; null when they begin with none, or end before it does. */
export function zstdFrame(bytes: Uint8Array): ZstdFrame | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length <= MAGIC_BYTES || view.getUint32(0, true) !== MAGIC) {
    return null;
  }
  const descriptor = bytes[MAGIC_BYTES]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeFlag = descriptor >>> 6;
  const contentSizeBytes = contentSizeFlag === 0 && singleSegment ? 1 : CONTENT_SIZE_BYTES[contentSizeFlag]!;
  const windowByte = singleSegment ? -1 : MAGIC_BYTES + 1;
  let offset = MAGIC_BYTES + 1 + (singleSegment ? 0 : 1) + DICTIONARY_ID_BYTES[descriptor & 3]! + contentSizeBytes;
  for (;;) {
    if (offset + BLOCK_HEADER_BYTES > bytes.length) {
      return null;
    }
    const header = bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16);
    const type = (header >>> 1) & 3;
    if (type === RESERVED_BLOCK) {
      return null;
    }
    offset += BLOCK_HEADER_BYTES + (type === RLE_BLOCK ? 1 : header >>> 3);
    if ((header & 1) !== 0) {
      break;
    }
  }
  const length = offset + ((descriptor & 4) !== 0 ? CHECKSUM_BYTES : 0);
  return length <= bytes.length ? { length, windowByte } : null;
}
