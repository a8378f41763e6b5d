/* Refcounts of every width in a block's bytes. Below 8 bits they are packed from each byte's least significant bit on. */

/** @param order the width is 2 to this power bits; above 2^53 a refcount reads as Infinity */
export function getRefcount(block: DataView, index: number, order: number): number {
  switch (order) {
    case 6: {
      const high = block.getUint32(index * 8);
      return high < 0x200000 ? high * 2 ** 32 + block.getUint32(index * 8 + 4) : Infinity;
    }
    case 5:
      return block.getUint32(index * 4);
    case 4:
      return block.getUint16(index * 2);
    case 3:
      return block.getUint8(index);
    default: {
      const bits = 1 << order;
      return (block.getUint8((index * bits) >> 3) >> ((index * bits) & 7)) & ((1 << bits) - 1);
    }
  }
}

export function setRefcount(block: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 6:
      block.setUint32(index * 8, Math.floor(value / 2 ** 32));
      block.setUint32(index * 8 + 4, value % 2 ** 32);
      break;
    case 5:
      block.setUint32(index * 4, value);
      break;
    case 4:
      block.setUint16(index * 2, value);
      break;
    case 3:
      block.setUint8(index, value);
      break;
    default: {
      const bits = 1 << order;
      const at = (index * bits) >> 3;
      const shift = (index * bits) & 7;
      block.setUint8(at, (block.getUint8(at) & ~(((1 << bits) - 1) << shift)) | (value << shift));
    }
  }
}

/** The largest refcount of that width, as far as it can be counted exactly. */
export function maxRefcount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;
}

/** Sets the first `count` refcounts of `bytes`, which are zero, to 1. */
export function fillRefcounts(bytes: Uint8Array, order: number, count: number): void {
  const bits = 2 ** order;
  if (bits >= 8) {
    const width = bits / 8;
    for (let index = 0; index < count; index++) {
      bytes[index * width + width - 1] = 1;
    }
    return;
  }
  const perByte = 8 / bits;
  const whole = [0xff, 0x55, 0x11][order] ?? 0;
  const bytesFull = Math.floor(count / perByte);
  bytes.fill(whole, 0, bytesFull);
  if (count % perByte > 0) {
    bytes[bytesFull] = whole & ((1 << ((count % perByte) * bits)) - 1);
  }
}
