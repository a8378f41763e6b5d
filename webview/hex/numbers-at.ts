import { grouped } from '../format/numbers';

export interface NumberReading {
  readonly name: string;
  readonly value: string;
}

/** What the bytes from the cursor on are as numbers, first big-endian (qcow2), then little-endian (QED, VMDK). */
export function numbersAt(bytes: Uint8Array): readonly NumberReading[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const readings: NumberReading[] = bytes.length >= 1 ? [{ name: 'u8', value: grouped(view.getUint8(0)) }] : [];
  for (const littleEndian of [false, true]) {
    const order = littleEndian ? 'LE' : 'BE';
    if (bytes.length >= 2) {
      readings.push({ name: `u16 ${order}`, value: grouped(view.getUint16(0, littleEndian)) });
    }
    if (bytes.length >= 4) {
      readings.push({ name: `u32 ${order}`, value: grouped(view.getUint32(0, littleEndian)) });
    }
    if (bytes.length >= 8) {
      readings.push({ name: `u64 ${order}`, value: view.getBigUint64(0, littleEndian).toLocaleString('en-US') });
    }
  }
  return readings;
}
