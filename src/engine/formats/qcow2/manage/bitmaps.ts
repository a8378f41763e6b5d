import { invalidRequest } from '../../../errors';
import type { Qcow2Metadata } from '../metadata';
import { BitmapBits } from './bitmapBits';
import { inconsistentBitmap, listBitmaps, loadBits, requireBitmapName, storeBitmaps, type StoredBitmap } from './bitmapStore';
import type { QuietImage } from './quietImage';

/* qemu-img's operations on the persistent bitmaps of an image that nobody else uses. Messages are QEMU's. */

const GRANULARITY = { least: 512, most: 2 ** 31, leastUsual: 4096, mostUsual: 65536 } as const;

export interface NewBitmap {
  readonly name: string;
  /** Bytes; a cluster, but at least 4096 and at most 65536, when left out. */
  readonly granularity?: number | undefined;
  /** Records what the guest changes; true when left out. */
  readonly enabled?: boolean | undefined;
}

/** @throws EngineError `request.invalid` */
export async function addBitmap(image: QuietImage, bitmap: NewBitmap): Promise<void> {
  const { metadata } = image;
  const granularity = bitmap.granularity ?? Math.min(GRANULARITY.mostUsual, Math.max(GRANULARITY.leastUsual, metadata.clusterSize));
  if (!(Number.isInteger(Math.log2(granularity)) && granularity >= GRANULARITY.least && granularity <= GRANULARITY.most)) {
    throw invalidRequest(`Granularity must be power of 2 and at least ${GRANULARITY.least}`);
  }
  requireBitmapName(bitmap.name);
  const existing = listBitmaps(metadata);
  if (existing.some(({ name }) => name === bitmap.name)) {
    throw invalidRequest(`Bitmap already exists: ${bitmap.name}`);
  }
  if (metadata.version < 3) {
    throw invalidRequest(
      `Can't make bitmap '${bitmap.name}' persistent in '${image.storage.name}': Cannot store dirty bitmaps in qcow2 v2 files`,
    );
  }
  const added: StoredBitmap = {
    name: bitmap.name,
    granularity,
    enabled: bitmap.enabled ?? true,
    inconsistent: false,
    place: null,
    bits: new BitmapBits(metadata.size, granularity, metadata.clusterSize),
  };
  await storeBitmaps(image, [...existing, added]);
}

/** The one thing that can be done to an inconsistent bitmap. @throws EngineError `request.invalid` */
export async function removeBitmap(image: QuietImage, name: string): Promise<void> {
  const existing = listBitmaps(image.metadata);
  const removed = find(existing, name);
  await storeBitmaps(
    image,
    existing.filter((bitmap) => bitmap !== removed),
  );
}

/** @throws EngineError `request.invalid` */
export function clearBitmap(image: QuietImage, name: string): Promise<void> {
  const { size, clusterSize } = image.metadata;
  return change(image, name, (bitmap) => ({ bits: new BitmapBits(size, bitmap.granularity, clusterSize) }));
}

/** @throws EngineError `request.invalid` */
export function enableBitmap(image: QuietImage, name: string): Promise<void> {
  return change(image, name, () => ({ enabled: true }));
}

/** @throws EngineError `request.invalid` */
export function disableBitmap(image: QuietImage, name: string): Promise<void> {
  return change(image, name, () => ({ enabled: false }));
}

/**
 * Marks what `source`, of this or another image, marks.
 * @throws EngineError `request.invalid` also where the disks differ in size
 */
export function mergeBitmap(image: QuietImage, name: string, source: BitmapBits): Promise<void> {
  return change(image, name, (bitmap) => {
    if (source.size !== image.metadata.size) {
      throw invalidRequest(
        `Bitmaps are of different sizes (destination size is ${image.metadata.size}, source size is ${source.size}) and can't be merged`,
      );
    }
    const bits = loadBits(image.metadata, bitmap);
    bits.merge(source);
    return { bits };
  });
}

/** What a bitmap of an image says; for merging it into another, and for telling a client. @throws EngineError `request.invalid` */
export function readBitmap(metadata: Qcow2Metadata, name: string): BitmapBits {
  return loadBits(metadata, find(listBitmaps(metadata), name));
}

async function change(
  image: QuietImage,
  name: string,
  changed: (bitmap: StoredBitmap) => Partial<Pick<StoredBitmap, 'bits' | 'enabled'>>,
): Promise<void> {
  const existing = listBitmaps(image.metadata);
  const target = find(existing, name);
  if (target.inconsistent) {
    throw inconsistentBitmap(name);
  }
  const next = { ...target, ...changed(target) };
  await storeBitmaps(
    image,
    existing.map((bitmap) => (bitmap === target ? next : bitmap)),
  );
}

function find(bitmaps: readonly StoredBitmap[], name: string): StoredBitmap {
  const found = bitmaps.find((bitmap) => bitmap.name === name);
  if (!found) {
    throw invalidRequest(`Dirty bitmap '${name}' not found`);
  }
  return found;
}
