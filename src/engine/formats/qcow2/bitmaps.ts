import { Decoded } from '../../layout/codec';
import { readAvailable } from '../../io/source';
import type { Problem } from '../problem';
import { decodeText, type Qcow2Metadata } from './metadata';
import { BITMAP_DIRECTORY_ENTRY, BITMAPS_EXTENSION, EXTENSION, LIMITS } from './structures';

export interface Qcow2Bitmap {
  readonly index: number;
  readonly name: string;
  /** Byte offset in the file of its directory entry, and the entry's whole length in bytes including padding. */
  readonly hostOffset: number;
  readonly length: number;
  readonly fields: Decoded<(typeof BITMAP_DIRECTORY_ENTRY.fields)[number]['name']>;
  readonly tableOffset: number;
  readonly tableEntries: number;
  readonly inUse: boolean;
  readonly auto: boolean;
  readonly type: number;
  /** Guest bytes that one bit stands for; Infinity when the entry's granularity is out of range. */
  readonly granularity: number;
}

export interface BitmapDirectory {
  /** The decoded bitmaps extension; null when the image has none. */
  readonly extension: Decoded<(typeof BITMAPS_EXTENSION.fields)[number]['name']> | null;
  readonly directoryOffset: number;
  readonly directorySize: number;
  readonly bitmaps: readonly Qcow2Bitmap[];
  readonly problems: readonly Problem[];
}

/** A directory entry is at least this long, so this bounds what a directory of the maximal count can need. */
const MAX_DIRECTORY_BYTES = LIMITS.maxBitmaps * (24 + 1023 + 7);

/** Reads the bitmap directory as far as it makes sense: at most the format's limits, at most what the file holds. */
export function readBitmapDirectory(metadata: Qcow2Metadata): BitmapDirectory {
  const problems: Problem[] = [];
  const report = (hostOffset: number, message: string, field?: string) => {
    problems.push({ severity: 'error', structure: 'bitmap directory', field, hostOffset, message });
  };
  const found = metadata.extensions.find(({ type }) => type === EXTENSION.bitmaps);
  if (!found) {
    return { extension: null, directoryOffset: 0, directorySize: 0, bitmaps: [], problems };
  }
  const extension = new Decoded(BITMAPS_EXTENSION, found.data);
  const directoryOffset = extension.number('bitmap_directory_offset');
  const directorySize = extension.number('bitmap_directory_size');
  const declared = extension.number('nb_bitmaps');
  if (declared > LIMITS.maxBitmaps) {
    report(found.hostOffset + 8, `${declared} bitmaps are too many (limit ${LIMITS.maxBitmaps}).`, 'nb_bitmaps');
  }
  const directory = readAvailable(metadata.source, directoryOffset, Math.min(directorySize, MAX_DIRECTORY_BYTES));
  if (directory.length < Math.min(directorySize, MAX_DIRECTORY_BYTES)) {
    report(directoryOffset, `The bitmap directory of ${directorySize} bytes reaches past the end of the file.`);
  }
  const bitmaps: Qcow2Bitmap[] = [];
  let offset = 0;
  while (offset < directory.length && bitmaps.length < Math.min(declared, LIMITS.maxBitmaps)) {
    const fields = new Decoded(BITMAP_DIRECTORY_ENTRY, directory.subarray(offset, offset + BITMAP_DIRECTORY_ENTRY.length));
    const nameSize = fields.number('name_size');
    const extraSize = fields.number('extra_data_size');
    const length = Math.ceil((BITMAP_DIRECTORY_ENTRY.length + extraSize + nameSize) / 8) * 8;
    if (offset + length > directory.length) {
      report(directoryOffset + offset, `Entry ${bitmaps.length} reaches past the end of the directory.`);
      break;
    }
    const nameOffset = offset + BITMAP_DIRECTORY_ENTRY.length + extraSize;
    const flags = fields.number('flags');
    const granularityBits = fields.number('granularity_bits');
    bitmaps.push({
      index: bitmaps.length,
      name: decodeText(directory.subarray(nameOffset, nameOffset + nameSize)),
      hostOffset: directoryOffset + offset,
      length,
      fields,
      tableOffset: fields.number('bitmap_table_offset'),
      tableEntries: fields.number('bitmap_table_size'),
      inUse: (flags & 1) !== 0,
      auto: (flags & 2) !== 0,
      type: fields.number('type'),
      granularity: granularityBits >= 9 && granularityBits <= 31 ? 2 ** granularityBits : Infinity,
    });
    offset += length;
  }
  if (bitmaps.length !== declared && problems.length === 0) {
    report(found.hostOffset + 8, `The directory holds ${bitmaps.length} bitmaps; the extension says ${declared}.`, 'nb_bitmaps');
  }
  return { extension, directoryOffset, directorySize, bitmaps, problems };
}
