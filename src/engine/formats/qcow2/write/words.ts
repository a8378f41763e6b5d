/* Entries of tables: refcounts of any width, and words of 64 bits. */

/** The refcount of an entry; widths below 8 bits are packed least significant first. Past 2^53 it is not exact, and too large anyway. */
export function refcountAt(view: DataView, index: number, bits: number): number {
  switch (bits) {
    case 16:
      return view.getUint16(index * 2);
    case 8:
      return view.getUint8(index);
    case 32:
      return view.getUint32(index * 4);
    case 64:
      return view.getUint32(index * 8) * 2 ** 32 + view.getUint32(index * 8 + 4);
    default:
      return (view.getUint8((index * bits) >>> 3) >>> ((index * bits) & 7)) & (2 ** bits - 1);
  }
}

export function setRefcount(view: DataView, index: number, bits: number, value: number): void {
  switch (bits) {
    case 16:
      view.setUint16(index * 2, value);
      break;
    case 8:
      view.setUint8(index, value);
      break;
    case 32:
      view.setUint32(index * 4, value);
      break;
    case 64:
      setWord(view, index, value);
      break;
    default: {
      const shift = (index * bits) & 7;
      const byte = (index * bits) >>> 3;
      const others = view.getUint8(byte) & ~((2 ** bits - 1) << shift);
      view.setUint8(byte, others | (value << shift));
    }
  }
}

export function setWord(view: DataView, index: number, value: number): void {
  view.setUint32(index * 8, Math.floor(value / 2 ** 32));
  view.setUint32(index * 8 + 4, value >>> 0);
}
