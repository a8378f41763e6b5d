import { Decoded } from '../layout/codec';
import { BITMAP_DIRECTORY_ENTRY } from '../formats/qcow2/structures';
import type { CheckPace } from './checkPace';
import { entryHex } from './entries';
import { hex, type Findings } from './findings';
import { MAX_FILE_LENGTH, type CheckedImage } from './opening';
import { readInto } from './padded';

/** A bitmap whose directory entry makes sense. */
export interface CheckedBitmap {
  readonly index: number;
  readonly tableOffset: bigint;
  readonly tableEntries: number;
  /** Whether every entry of its table does too. */
  readonly tableValid: boolean;
}

export interface CheckedBitmaps {
  readonly bitmaps: readonly CheckedBitmap[];
  /** Set when QEMU gives up here. */
  readonly failure: string | null;
}

/* QEMU's limits for a bitmap: entries of its table, bytes of the whole bitmap, granularity, length of the name. */
const MAX_TABLE_ENTRIES = 0x8000000;
const MAX_BITMAP_BYTES = 0x20000000;
const MIN_GRANULARITY_BITS = 9;
const MAX_GRANULARITY_BITS = 31;
const MAX_NAME_BYTES = 1023;
const KNOWN_FLAGS = 3;
const IN_USE = 1;
const DIRTY_TRACKING = 1;

const RESERVED_HIGH = 0xff000000;
const RESERVED_LOW = 0x1fe;
const ALL_ONES = 1;

/** Bytes of a bitmap table that are read at once. */
const PIECE = 64 * 1024;

const GIVING_UP = 'The check cannot be completed: what the bitmaps use is not known, and some of it is counted as leaked.';

/** Reads the bitmap directory and tests every bitmap table. */
export async function readBitmapsForCheck(image: CheckedImage, findings: Findings, pace: CheckPace): Promise<CheckedBitmaps> {
  const { bitmaps: announced, metadata } = image;
  if (!announced) {
    return { bitmaps: [], failure: null };
  }
  const { count, directoryOffset, directorySize } = announced;
  const bitmaps: CheckedBitmap[] = [];
  const broken = (message: string): CheckedBitmaps => {
    findings.add('bitmapDirectory', 'corruption', () => ({
      message,
      consequence: GIVING_UP,
      place: { kind: 'host', hostOffset: Number(directoryOffset), length: directorySize },
      cluster: null,
      guest: null,
    }));
    return { bitmaps, failure: 'Invalid argument' };
  };
  const title = `The bitmap directory at ${hex(directoryOffset)}`;
  const bytes = new Uint8Array(BITMAP_DIRECTORY_ENTRY.length);
  let failure: string | null = null;
  let at = 0;
  while (at < directorySize) {
    const index = bitmaps.length;
    if (at + bytes.length > directorySize) {
      return broken(`${title} ends inside entry ${index}.`);
    }
    if (index === count) {
      return broken(`${title} holds more than the ${count} bitmaps that the extension announces.`);
    }
    readInto(metadata.source, bytes, directoryOffset + BigInt(at));
    const entry = new Decoded(BITMAP_DIRECTORY_ENTRY, bytes);
    const extra = entry.number('extra_data_size');
    const length = Math.ceil((bytes.length + entry.number('name_size') + extra) / 8) * 8;
    const wrong =
      extra !== 0 ? `it has ${extra} bytes of extra data` : at + length > directorySize ? 'it is cut off' : whatIsWrong(entry, image);
    if (wrong !== null) {
      return broken(`Bitmap ${index} at ${hex(directoryOffset + BigInt(at))}: ${wrong}.`);
    }
    const bitmap = { index, tableOffset: entry.bigint('bitmap_table_offset'), tableEntries: entry.number('bitmap_table_size') };
    const tableValid = await testTable(image, bitmap, findings, pace);
    failure ??= tableValid ? null : 'Invalid argument';
    bitmaps.push({ ...bitmap, tableValid });
    at += length;
  }
  if (bitmaps.length !== count) {
    return broken(`${title} holds ${bitmaps.length} bitmaps; the extension announces ${count}.`);
  }
  return { bitmaps, failure };
}

function whatIsWrong(entry: Decoded<(typeof BITMAP_DIRECTORY_ENTRY.fields)[number]['name']>, image: CheckedImage): string | null {
  const { clusterSize } = image;
  const tableOffset = entry.bigint('bitmap_table_offset');
  const tableEntries = entry.number('bitmap_table_size');
  const granularityBits = entry.number('granularity_bits');
  const flags = entry.number('flags');
  const bytes = tableEntries * clusterSize;
  if (tableOffset === 0n || tableOffset % BigInt(clusterSize) !== 0n) {
    return `its table offset ${hex(tableOffset)} is not a valid cluster offset`;
  }
  if (tableEntries === 0 || tableEntries > MAX_TABLE_ENTRIES || bytes > MAX_BITMAP_BYTES) {
    return `its table has ${tableEntries} entries`;
  }
  if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS) {
    return `its granularity_bits are ${granularityBits}, not ${MIN_GRANULARITY_BITS} to ${MAX_GRANULARITY_BITS}`;
  }
  if ((flags & ~KNOWN_FLAGS) !== 0) {
    return `its flags ${hex(flags)} have unknown bits`;
  }
  if (entry.number('type') !== DIRTY_TRACKING) {
    return `its type ${entry.number('type')} is unknown`;
  }
  if (entry.number('name_size') > MAX_NAME_BYTES) {
    return `its name of ${entry.number('name_size')} bytes is too long`;
  }
  if ((flags & IN_USE) !== 0) {
    return null;
  }
  const size = (image.metadata.header.bigint('size') / 512n) * 512n;
  const wanted = divideUp(divideUp(divideUp(size, 1n << BigInt(granularityBits)), 64n) * 8n, BigInt(clusterSize));
  return size > 0n && wanted !== BigInt(tableEntries) ? `its table has ${tableEntries} entries; the disk needs ${wanted}` : null;
}

function divideUp(value: bigint, by: bigint): bigint {
  return (value + by - 1n) / by;
}

/** Whether every entry is well formed; QEMU does not look at any cluster of a bitmap whose table has one that is not. */
async function testTable(
  image: CheckedImage,
  bitmap: Omit<CheckedBitmap, 'tableValid'>,
  findings: Findings,
  pace: CheckPace,
): Promise<boolean> {
  const { index, tableOffset, tableEntries } = bitmap;
  const report = (message: string, row: number): void => {
    findings.add('bitmapTable', 'corruption', () => ({
      message,
      consequence: GIVING_UP,
      place: { kind: 'tableRow', table: { kind: 'bitmapTable', index }, row },
      cluster: null,
      guest: null,
    }));
  };
  if (tableOffset + BigInt(tableEntries * 8) > MAX_FILE_LENGTH) {
    report(`The table of bitmap ${index} at ${hex(tableOffset)} lies past the end of any file.`, 0);
    return false;
  }
  let valid = true;
  await eachBitmapEntry(image, bitmap, pace, (row, high, low) => {
    const offsetBits = (high & 0x00ffffff) | (low & ~0x1ff);
    const reserved = (high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0 || (offsetBits !== 0 && (low & ALL_ONES) !== 0);
    if (valid && (reserved || (low & ~0x1ff & (image.clusterSize - 1)) !== 0)) {
      valid = false;
      const where = `Entry ${row} of the table of bitmap ${index}, at ${hex(tableOffset + BigInt(row * 8))}`;
      report(
        `${where}, is 0x${entryHex(high, low)}: ${reserved ? 'reserved bits are set' : 'its offset is not aligned to a cluster'}.`,
        row,
      );
    }
  });
  return valid;
}

/** Calls `each` for every entry of a bitmap table with its halves. */
export async function eachBitmapEntry(
  image: CheckedImage,
  { tableOffset, tableEntries }: Pick<CheckedBitmap, 'tableOffset' | 'tableEntries'>,
  pace: CheckPace,
  each: (row: number, high: number, low: number) => void,
): Promise<void> {
  const bytes = new Uint8Array(Math.min(PIECE, tableEntries * 8));
  const view = new DataView(bytes.buffer);
  for (let first = 0; first < tableEntries; first += PIECE / 8) {
    const count = Math.min(PIECE / 8, tableEntries - first);
    readInto(image.metadata.source, bytes.subarray(0, count * 8), tableOffset + BigInt(first * 8));
    for (let i = 0; i < count; i++) {
      each(first + i, view.getUint32(i * 8), view.getUint32(i * 8 + 4));
    }
    if (pace.due()) {
      await pace.turn();
    }
  }
}
