import { corruptImage, EngineError, invalidRequest } from '../../../errors';
import { requireOpenableBitmaps } from '../../../info/bitmapOpening';
import { readPadded } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import { encode } from '../../../layout/codec';
import { concatenatePadded, concatenate } from '../../../layout/concatenate';
import { WordTable } from '../../../layout/wordTable';
import type { Qcow2Bitmap } from '../bitmaps';
import type { Qcow2Metadata } from '../metadata';
import { AUTOCLEAR, BITMAP_DIRECTORY_ENTRY, BITMAPS_EXTENSION, EXTENSION, LIMITS } from '../structures';
import { BitmapBits } from './bitmapBits';
import { withExtension, withFields } from './header';
import type { QuietImage } from './quietImage';

/** Bits of a directory entry's flags. */
export const BITMAP_FLAG = { inUse: 1, auto: 2 } as const;
const DIRTY_TRACKING = 1;
const MOST_NAME_BYTES = 1023;

/** A bitmap as it will be stored. */
export interface StoredBitmap {
  readonly name: string;
  /** Guest bytes that one bit stands for; a power of two from 512 to 2^31. */
  readonly granularity: number;
  /** Records what the guest changes. */
  readonly enabled: boolean;
  /** Some program ended without storing it: nobody knows what it should say, and it can only be removed. */
  readonly inconsistent: boolean;
  /** Where it lies in the file; null for a new one. */
  readonly place: Qcow2Bitmap | null;
  /** What it will say; null leaves what lies in the file. */
  readonly bits: BitmapBits | null;
}

/** The bitmaps of an image, without their bits. @throws EngineError where QEMU would not open the image for them */
export function listBitmaps(metadata: Qcow2Metadata): readonly StoredBitmap[] {
  return requireOpenableBitmaps(metadata).map((place) => ({
    name: place.name,
    granularity: place.granularity,
    enabled: place.auto,
    inconsistent: place.inUse,
    place,
    bits: null,
  }));
}

/** What a stored bitmap says. @throws EngineError `request.invalid` for one that is inconsistent, `image.corrupt`, `file.io` */
export function loadBits(metadata: Qcow2Metadata, bitmap: StoredBitmap): BitmapBits {
  if (bitmap.inconsistent) {
    throw inconsistentBitmap(bitmap.name);
  }
  if (bitmap.bits || !bitmap.place) {
    return bitmap.bits ?? new BitmapBits(metadata.size, bitmap.granularity, metadata.clusterSize);
  }
  const { source, clusterSize } = metadata;
  const bits = new BitmapBits(metadata.size, bitmap.granularity, clusterSize);
  const table = readTable(metadata, bitmap.place);
  if (table.length !== bits.pieceCount) {
    throw corruptImage(
      source.name,
      'bitmap directory entry',
      bitmap.place.hostOffset,
      `The table of bitmap '${bitmap.name}' has ${table.length} entries; the disk needs ${bits.pieceCount}.`,
    );
  }
  for (let index = 0; index < table.length; index++) {
    const hostOffset = table.hostOffsetAt(index);
    if (hostOffset !== 0) {
      bits.load(index, readPadded(source, hostOffset, clusterSize));
    } else if ((table.low(index) & 1) !== 0) {
      bits.load(index, 'ones');
    }
  }
  return bits;
}

/**
 * Makes the image have these bitmaps and no others: what is new is written beside the old, the header then leads to it, and what it led
 * to before is given up.
 * @throws EngineError `request.invalid` for too many, `file.io`, `file.full`
 */
export async function storeBitmaps(image: QuietImage, bitmaps: readonly StoredBitmap[]): Promise<void> {
  const before = listBitmaps(image.metadata);
  if (bitmaps.length > LIMITS.maxBitmaps) {
    throw invalidRequest(`There are ${bitmaps.length} bitmaps; there can be ${LIMITS.maxBitmaps}.`);
  }
  const old = image.metadata.extensions.find(({ type }) => type === EXTENSION.bitmaps);
  const oldDirectory = before.length > 0 && old ? directoryPlace(old.data) : null;
  const given: { readonly hostOffset: number; readonly length: number }[] = oldDirectory ? [oldDirectory] : [];
  for (const { place } of before) {
    const kept = place !== null && bitmaps.some((bitmap) => bitmap.place?.hostOffset === place.hostOffset && bitmap.bits === null);
    if (place && !kept) {
      given.push(...clustersOf(image.metadata, place));
    }
  }
  const entries: Uint8Array[] = [];
  for (const bitmap of bitmaps) {
    entries.push(await directoryEntry(image, bitmap));
  }
  const directory = concatenate(entries);
  const offset = directory.length > 0 ? await image.place(directory) : 0;
  const extension =
    directory.length > 0
      ? encode(BITMAPS_EXTENSION, {
          nb_bitmaps: bitmaps.length,
          bitmap_directory_size: directory.length,
          bitmap_directory_offset: offset,
        })
      : null;
  await image.changeHeader((contents) => {
    const features = contents.fields.autoclear_features & ~AUTOCLEAR.bitmaps;
    return withFields(withExtension(contents, EXTENSION.bitmaps, extension), {
      autoclear_features: extension ? features | AUTOCLEAR.bitmaps : features,
    });
  });
  for (const { hostOffset, length } of given) {
    await image.release(hostOffset, length);
  }
  await image.flush();
}

/** Says on the disk that bitmaps are not what the file says of them: whoever finds that later knows that a program ended in between. */
export async function markInUse(storage: Storage, bitmaps: readonly StoredBitmap[]): Promise<void> {
  for (const { place } of bitmaps) {
    if (place) {
      const flags = new DataView(new ArrayBuffer(4));
      flags.setUint32(0, place.fields.number('flags') | BITMAP_FLAG.inUse);
      // Entries begin at multiples of 8, so these bytes are in one sector.
      await storage.write(new Uint8Array(flags.buffer), place.hostOffset + place.fields.field('flags').offset);
    }
  }
  await storage.flush();
}

export function inconsistentBitmap(name: string): EngineError {
  return new EngineError('request.invalid', `Bitmap '${name}' is inconsistent and cannot be used`, {
    remedy: 'Remove it: a program ended without storing it.',
  });
}

/** @throws EngineError `request.invalid` in QEMU's words */
export function requireBitmapName(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length > MOST_NAME_BYTES) {
    throw invalidRequest(`Bitmap name too long: ${name}`);
  }
  if (bytes.length === 0) {
    throw invalidRequest('Bitmap name cannot be empty');
  }
  return bytes;
}

async function directoryEntry(image: QuietImage, bitmap: StoredBitmap): Promise<Uint8Array> {
  const { place, bits } = bitmap;
  const flags = (bitmap.enabled ? BITMAP_FLAG.auto : 0) | (bitmap.inconsistent ? BITMAP_FLAG.inUse : 0);
  if (place && !bits) {
    // With the extra data that somebody may have there.
    const entry = readPadded(image.storage, place.hostOffset, place.length);
    const known = BITMAP_FLAG.auto | BITMAP_FLAG.inUse;
    new DataView(entry.buffer).setUint32(place.fields.field('flags').offset, ((place.fields.number('flags') & ~known) | flags) >>> 0);
    return entry;
  }
  const contents = bits ?? new BitmapBits(image.metadata.size, bitmap.granularity, image.metadata.clusterSize);
  const table = new DataView(new ArrayBuffer(contents.pieceCount * 8));
  for (const index of [...contents.occupied].sort((a, b) => a - b)) {
    const piece = contents.piece(index);
    if (piece?.some((byte) => byte !== 0)) {
      table.setBigUint64(index * 8, BigInt(await image.place(piece)));
    }
  }
  const name = requireBitmapName(bitmap.name);
  const fixed = encode(BITMAP_DIRECTORY_ENTRY, {
    bitmap_table_offset: await image.place(new Uint8Array(table.buffer)),
    bitmap_table_size: contents.pieceCount,
    flags,
    type: DIRTY_TRACKING,
    granularity_bits: Math.log2(bitmap.granularity),
    name_size: name.length,
  });
  return concatenatePadded(8, fixed, name);
}

/** The clusters of a bitmap: its table and its bits. */
function clustersOf(metadata: Qcow2Metadata, place: Qcow2Bitmap): { readonly hostOffset: number; readonly length: number }[] {
  const table = readTable(metadata, place);
  const clusters = [{ hostOffset: place.tableOffset, length: Math.max(1, place.tableEntries * 8) }];
  for (let index = 0; index < table.length; index++) {
    const hostOffset = table.hostOffsetAt(index);
    if (hostOffset !== 0) {
      clusters.push({ hostOffset, length: metadata.clusterSize });
    }
  }
  return clusters;
}

function readTable(metadata: Qcow2Metadata, place: Qcow2Bitmap): WordTable {
  return new WordTable(readPadded(metadata.source, place.tableOffset, place.tableEntries * 8), place.tableOffset, 'big');
}

function directoryPlace(data: Uint8Array): { readonly hostOffset: number; readonly length: number } {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return { hostOffset: Number(view.getBigUint64(16)), length: Number(view.getBigUint64(8)) };
}
