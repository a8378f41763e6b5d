import { invalidFormat } from '../errors';
import type { Problem } from '../formats/problem';
import { readBitmapDirectory, type BitmapDirectory, type Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { AUTOCLEAR } from '../formats/qcow2/structures';
import { SECTOR_SIZE } from '../formats/raw/size';
import { readPadded } from '../io/source';
import { WordTable } from '../layout/wordTable';
import { refuse } from './refuse';

/**
 * Reads an image's bitmaps as QEMU does when it opens the image, which it does not when one of them breaks a rule. Empty where they are
 * void.
 * @throws EngineError `format.invalid`
 */
export function requireOpenableBitmaps(metadata: Qcow2Metadata): BitmapDirectory['bitmaps'] {
  if ((metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
    // A program without support for bitmaps wrote the image: what the extension says is void, to QEMU as well.
    return [];
  }
  const directory = readBitmapDirectory(metadata);
  refuse(metadata.source, directory.problems);
  const names = new Set<string>();
  let entriesLeft = MOST_ENTRIES_READ;
  for (const bitmap of directory.bitmaps) {
    refuse(metadata.source, bitmapProblems(metadata, bitmap, names.has(bitmap.name)));
    entriesLeft -= bitmap.inUse ? 0 : bitmap.tableEntries;
    if (!bitmap.inUse && entriesLeft >= 0) {
      requireTable(metadata, bitmap);
    }
    names.add(bitmap.name);
  }
  return directory.bitmaps;
}

/** What QEMU accepts at most of one bitmap: entries of its table, and bytes of its bits. */
const MAX_TABLE_ENTRIES = 0x8000000;
const MAX_BITMAP_BYTES = 0x20000000;
/** in_use, auto, extra_data_compatible. */
const KNOWN_FLAGS = 7;
const DIRTY_TRACKING = 1;
const MAX_NAME_BYTES = 1023;
/** Tables are looked through up to so many entries over all bitmaps; an image may have 65535 of them, each with a table of 8 MiB. */
const MOST_ENTRIES_READ = 2 ** 21;

/** An entry that breaks these rules keeps QEMU from opening the image at all (block/qcow2-bitmap.c). */
function bitmapProblems(metadata: Qcow2Metadata, bitmap: Qcow2Bitmap, duplicate: boolean): Problem[] {
  const problems: Problem[] = [];
  const { fields, tableEntries, tableOffset } = bitmap;
  const demand = (holds: boolean, field: Parameters<typeof fields.field>[0], message: string) => {
    if (!holds) {
      const hostOffset = bitmap.hostOffset + fields.field(field).offset;
      problems.push({
        severity: 'error',
        structure: 'bitmap directory entry',
        field,
        hostOffset,
        message: `Bitmap ${bitmap.index}: ${message}`,
      });
    }
  };
  const bytes = tableEntries * metadata.clusterSize;
  const bits = fields.number('granularity_bits');
  const flags = fields.number('flags');
  const nameSize = fields.number('name_size');
  demand(tableEntries > 0 && tableEntries <= MAX_TABLE_ENTRIES, 'bitmap_table_size', `its table has ${tableEntries} entries.`);
  demand(
    tableOffset > 0 && tableOffset % metadata.clusterSize === 0,
    'bitmap_table_offset',
    `its table's offset ${tableOffset} is 0 or not aligned to a cluster.`,
  );
  demand(bits >= 9 && bits <= 31, 'granularity_bits', `granularity_bits is ${bits}; it must be 9 to 31.`);
  demand((flags & ~KNOWN_FLAGS) === 0, 'flags', `unknown flags are set (0x${flags.toString(16)}).`);
  demand(nameSize > 0 && nameSize <= MAX_NAME_BYTES, 'name_size', `its name has ${nameSize} bytes; it must be 1 to ${MAX_NAME_BYTES}.`);
  demand(bitmap.type === DIRTY_TRACKING, 'type', `type ${bitmap.type} is unknown.`);
  demand(bytes <= MAX_BITMAP_BYTES, 'bitmap_table_size', `its ${bytes} bytes are too many.`);
  demand(!duplicate, 'name_size', 'another bitmap has its name.');
  // What is not in use is loaded, and must then have exactly the bits that the disk needs, in whole 64-bit words.
  const size = Math.floor(metadata.size / SECTOR_SIZE) * SECTOR_SIZE;
  const needed = Math.ceil((Math.ceil(size / bitmap.granularity / 64) * 8) / metadata.clusterSize);
  demand(bitmap.inUse || tableEntries === needed, 'bitmap_table_size', `its table has ${tableEntries} entries; the disk needs ${needed}.`);
  return problems;
}

/** The entries of a bitmap's table, at most 1 Mi of them once its problems are none. */
function requireTable(metadata: Qcow2Metadata, bitmap: Qcow2Bitmap): void {
  const table = new WordTable(readPadded(metadata.source, bitmap.tableOffset, bitmap.tableEntries * 8), bitmap.tableOffset, 'big');
  for (let index = 0; index < table.length; index++) {
    const high = table.high(index);
    const low = table.low(index);
    const hasOffset = (high | (low & ~0x1ff)) !== 0;
    // Bits 1 to 8 and 56 to 63 are reserved; bit 0 means something only where there is no offset.
    const reserved = (high & 0xff000000) !== 0 || (low & 0x1fe) !== 0 || (hasOffset && (low & 1) !== 0);
    if (reserved || low % metadata.clusterSize > 1) {
      const word = table.word(index).toString(16);
      throw invalidFormat(
        metadata.source.name,
        'bitmap table',
        table.entryOffset(index),
        `Entry ${index} of bitmap ${bitmap.index} is 0x${word}, which is neither a cluster offset nor a run of equal bits.`,
      );
    }
  }
}
