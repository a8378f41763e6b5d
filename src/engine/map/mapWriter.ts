import { EXTENT, type ExtentBatch } from './extents';

/** Receives finished output; the bytes are reused after the call. */
export type ByteWriter = (bytes: Uint8Array) => void;

const BUFFER = 256 * 1024;
/** A row is shorter than this: three numbers of at most 17 digits, a depth, and the words. */
const ROW_LIMIT = 256;
const SAFE_LIMIT = 2 ** 53;

const encoder = new TextEncoder();
const START = encoder.encode('{ "start": ');
const SEPARATOR = encoder.encode(',\n');
const NEXT_START = Uint8Array.of(...SEPARATOR, ...START);
const LENGTH = encoder.encode(', "length": ');
const DEPTH = encoder.encode(', "depth": ');
/** By the three lowest EXTENT bits. */
const STATE = Array.from({ length: 8 }, (_, flags) => {
  const said = (bit: number) => ((flags & bit) !== 0 ? 'true' : 'false');
  return encoder.encode(`, "present": ${said(EXTENT.present)}, "zero": ${said(EXTENT.zero)}, "data": ${said(EXTENT.data)}`);
});
const OFFSET = encoder.encode(', "offset": ');
const CLOSE = 0x7d;

/** The digits of 0 to 999, three bytes each: numbers are written a thousand at a time. */
const THOUSAND = Uint8Array.from({ length: 3000 }, (_, i) => 48 + (Math.floor(Math.floor(i / 3) / 10 ** (2 - (i % 3))) % 10));

/**
 * Writes extents as `qemu-img map --output=json` prints them. A map may have millions of rows: they are written as bytes into one
 * reused buffer, no string is made for a row.
 */
export class JsonMapWriter {
  private readonly write: ByteWriter;
  private readonly bytes = new Uint8Array(BUFFER);
  private length = 0;
  private rows = 0;

  constructor(write: ByteWriter) {
    this.write = write;
    this.bytes[this.length++] = 0x5b;
  }

  extents(batch: ExtentBatch): void {
    const { count, start, length, depth, flags, offset } = batch;
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < count; i++) {
      if (at > BUFFER - ROW_LIMIT) {
        this.length = at;
        this.passOn();
        at = 0;
      }
      at = putText(bytes, at, this.rows++ === 0 ? START : NEXT_START);
      at = putNumber(bytes, at, start[i]!);
      at = putText(bytes, at, LENGTH);
      at = putNumber(bytes, at, length[i]!);
      at = putText(bytes, at, DEPTH);
      at = putNumber(bytes, at, depth[i]!);
      at = putText(bytes, at, STATE[flags[i]! & 7]!);
      if ((flags[i]! & EXTENT.offset) !== 0) {
        at = putText(bytes, at, OFFSET);
        at = putNumber(bytes, at, offset[i]!);
      }
      bytes[at++] = CLOSE;
    }
    this.length = at;
  }

  /** Ends the list; `start` is where an empty map would have begun (qemu-img prints one row of length 0 for it). */
  finish(start: number): void {
    if (this.rows === 0) {
      let at = putText(this.bytes, this.length, START);
      at = putNumber(this.bytes, at, start);
      at = putText(this.bytes, at, encoder.encode(', "length": 0, "depth": 0'));
      at = putText(this.bytes, at, STATE[0]!);
      this.bytes[at++] = CLOSE;
      this.length = at;
    }
    this.bytes[this.length++] = 0x5d;
    this.bytes[this.length++] = 0x0a;
    this.passOn();
  }

  /** Ends the output where an error ends the map: the last row promises another one, as qemu-img's does. */
  flush(): void {
    if (this.rows > 0) {
      this.length = putText(this.bytes, this.length, SEPARATOR);
    }
    this.passOn();
  }

  private passOn(): void {
    if (this.length > 0) {
      this.write(this.bytes.subarray(0, this.length));
      this.length = 0;
    }
  }
}

/** Writes extents as `qemu-img map` prints them for people: data with its offset and file, in hexadecimal columns. */
export class HumanMapWriter {
  private readonly write: ByteWriter;
  private readonly fileName: (depth: number, guestOffset: number) => string;
  private text = `${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File\n`;
  private ended = false;

  /** @param fileName the name of the file that holds a layer's data at a guest offset */
  constructor(write: ByteWriter, fileName: (depth: number, guestOffset: number) => string) {
    this.write = write;
    this.fileName = fileName;
  }

  /** Returns false when the map holds data that this output cannot show (compressed, encrypted); nothing is written from there on. */
  extents(batch: ExtentBatch): boolean {
    for (let i = 0; i < batch.count && !this.ended; i++) {
      const flags = batch.flags[i]!;
      if ((flags & EXTENT.data) !== 0 && (flags & EXTENT.offset) === 0) {
        this.ended = true;
      } else if ((flags & (EXTENT.data | EXTENT.zero)) === EXTENT.data) {
        const name = this.fileName(batch.depth[i]!, batch.start[i]!);
        this.text += `${column(batch.start[i]!)}${column(batch.length[i]!)}${column(batch.offset[i]!)}${name}\n`;
        if (this.text.length > BUFFER) {
          this.flush();
        }
      }
    }
    return !this.ended;
  }

  /** Whether data was met that this output cannot show: qemu-img ends there with an error. */
  get stopped(): boolean {
    return this.ended;
  }

  flush(): void {
    this.write(encoder.encode(this.text));
    this.text = '';
  }
}

/** C's `%#-16llx`: zero has no prefix. */
function column(value: number): string {
  return (value === 0 ? '0' : `0x${value < SAFE_LIMIT ? value.toString(16) : BigInt(value).toString(16)}`).padEnd(16);
}

function putText(bytes: Uint8Array, at: number, text: Uint8Array): number {
  const { length } = text;
  for (let i = 0; i < length; i++) {
    bytes[at + i] = text[i]!;
  }
  return at + length;
}

/** @param value an integer from 0 to 2^63 */
function putNumber(bytes: Uint8Array, at: number, value: number): number {
  if (value < 1e9) {
    return putSmall(bytes, at, value | 0);
  }
  if (value >= SAFE_LIMIT) {
    return putText(bytes, at, encoder.encode(BigInt(value).toString()));
  }
  const upper = Math.floor(value / 1e9);
  const lower = (value - upper * 1e9) | 0;
  const millions = (lower / 1e6) | 0;
  const thousands = ((lower - millions * 1e6) / 1e3) | 0;
  at = putSmall(bytes, at, upper);
  at = putThree(bytes, at, millions);
  at = putThree(bytes, at, thousands);
  return putThree(bytes, at, lower - millions * 1e6 - thousands * 1e3);
}

/** Below 2^31. */
function putSmall(bytes: Uint8Array, at: number, value: number): number {
  if (value >= 1000) {
    const upper = (value / 1000) | 0;
    return putThree(bytes, putSmall(bytes, at, upper), value - upper * 1000);
  }
  const digits = value * 3;
  if (value >= 100) {
    bytes[at++] = THOUSAND[digits]!;
  }
  if (value >= 10) {
    bytes[at++] = THOUSAND[digits + 1]!;
  }
  bytes[at] = THOUSAND[digits + 2]!;
  return at + 1;
}

/** Three digits with leading zeroes. */
function putThree(bytes: Uint8Array, at: number, value: number): number {
  const digits = value * 3;
  bytes[at] = THOUSAND[digits]!;
  bytes[at + 1] = THOUSAND[digits + 1]!;
  bytes[at + 2] = THOUSAND[digits + 2]!;
  return at + 3;
}
