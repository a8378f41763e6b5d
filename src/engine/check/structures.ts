import type { Place } from '../../protocol/place';
import { eachBitmapEntry, type CheckedBitmaps } from './bitmapTables';
import type { CheckPace } from './checkPace';
import type { CheckedImage } from './opening';
import type { CheckedSnapshots } from './snapshotTable';

/** A metadata structure that occupies host clusters; L2 tables and refcount blocks are found by walking tables. */
export interface Structure {
  /** As a sentence begins: "The snapshot table". */
  readonly title: string;
  readonly hostOffset: bigint;
  /** Bytes, more than 0. */
  readonly length: bigint;
  /** What leads to it. */
  readonly place: Place;
}

/** Calls `each` for every structure but L2 tables and refcount blocks. */
export async function eachStructure(
  image: CheckedImage,
  { snapshots, tableOffset, tableLength }: CheckedSnapshots,
  { bitmaps }: CheckedBitmaps,
  pace: CheckPace,
  each: (structure: Structure) => void,
): Promise<void> {
  const { metadata, clusterSize, encryptionHeader } = image;
  const { header } = metadata;
  const visit = (title: string, hostOffset: bigint, length: number | bigint, place: Place): void => {
    if (length > 0) {
      each({ title, hostOffset, length: BigInt(length), place });
    }
  };
  visit('The header', 0n, clusterSize, { kind: 'host', hostOffset: 0 });
  const l1Offset = header.bigint('l1_table_offset');
  visit('The active L1 table', l1Offset, metadata.l1Size * 8, field(image, 'l1_table_offset'));
  for (const { index, l1TableOffset, l1Size } of snapshots) {
    visit(`The L1 table of snapshot ${index}`, l1TableOffset, l1Size * 8, { kind: 'snapshot', index });
  }
  visit('The snapshot table', tableOffset, tableLength, field(image, 'snapshots_offset'));
  const refcountTableOffset = header.bigint('refcount_table_offset');
  visit('The refcount table', refcountTableOffset, metadata.refcountTableClusters * clusterSize, field(image, 'refcount_table_offset'));
  if (encryptionHeader) {
    const { offset, length } = encryptionHeader;
    visit('The encryption header', offset, BigInt.asIntN(64, length), { kind: 'host', hostOffset: Number(offset) });
  }
  if (image.bitmaps) {
    const { directoryOffset, directorySize } = image.bitmaps;
    visit('The bitmap directory', directoryOffset, directorySize, { kind: 'host', hostOffset: Number(directoryOffset) });
  }
  for (const bitmap of bitmaps) {
    const { index, tableOffset: offset, tableEntries } = bitmap;
    visit(`The table of bitmap ${index}`, offset, tableEntries * 8, { kind: 'bitmap', index });
    if (!bitmap.tableValid) {
      continue;
    }
    await eachBitmapEntry(image, bitmap, pace, (row, high, low) => {
      const dataOffset = (high & 0x00ffffff) * 2 ** 32 + ((low & ~0x1ff) >>> 0);
      if (dataOffset !== 0) {
        const place: Place = { kind: 'tableRow', table: { kind: 'bitmapTable', index }, row };
        visit(`Cluster ${row} of bitmap ${index}`, BigInt(dataOffset), clusterSize, place);
      }
    });
  }
}

function field({ metadata }: CheckedImage, name: Parameters<CheckedImage['metadata']['header']['field']>[0]): Place {
  return { kind: 'host', hostOffset: metadata.header.field(name).offset, length: 8 };
}
