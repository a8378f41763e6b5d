import { readAvailable, type ByteSource } from '../../io/source';
import type { ByteOrder } from '../../layout/fields';

/** A few bytes of a table, for one entry at a time; fewer than asked for where the file ends. */
export function entryBytes(source: ByteSource, hostOffset: number, length: number): Uint8Array {
  return Number.isSafeInteger(hostOffset + length) ? readAvailable(source, hostOffset, length) : new Uint8Array(0);
}

/** A 64-bit word of an entry; what the file does not hold reads as zero, as QEMU has it for tables. */
export function wordOf(bytes: Uint8Array, at: number, order: ByteOrder): bigint {
  let word = 0n;
  for (let index = 0; index < 8; index++) {
    word = (word << 8n) | BigInt(bytes[at + (order === 'big' ? index : 7 - index)] ?? 0);
  }
  return word;
}

/** One 64-bit word in the file. */
export function readWord(source: ByteSource, hostOffset: number, order: ByteOrder): bigint {
  return wordOf(entryBytes(source, hostOffset, 8), 0, order);
}
