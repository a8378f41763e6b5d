import { invalidRequest } from '../../../errors';
import { Pace, type PaceOptions } from '../../../pace';
import { loadRefcountTable } from '../tables';
import { LIMITS } from '../structures';
import { withFields } from './header';
import { QuietImage } from './quietImage';
import { maxRefcount, setRefcount } from './refcountBits';

/**
 * Gives the image refcounts of another width: a whole new refcount structure is written beside the old, and the header, in one sector,
 * leads to it.
 * @returns the image with its new refcounts; the one that was given is not to be used any more
 * @throws EngineError `request.invalid` in QEMU's words, `file.io`, `file.full`, `cancelled`
 */
export async function changeRefcountBits(image: QuietImage, bits: number, options: PaceOptions = {}): Promise<QuietImage> {
  const order = Math.log2(bits);
  if (!(Number.isInteger(order) && order >= 0 && order <= 6)) {
    throw invalidRequest('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (bits === image.metadata.refcountBits) {
    return image;
  }
  if (image.metadata.version < 3) {
    throw invalidRequest('Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)');
  }
  const pace = new Pace(options);
  const { clusterSize } = image.metadata;
  const perBlock = (clusterSize * 8) / bits;
  let end = await usedClusters(image, order, pace);
  for (;;) {
    const size = structureSize(end, perBlock, clusterSize);
    if (size.tableClusters * clusterSize > LIMITS.maxRefcountTableBytes) {
      throw invalidRequest(`The refcount table would be larger than ${LIMITS.maxRefcountTableBytes} bytes.`);
    }
    const place = await image.allocate((size.tableClusters + size.blocks) * clusterSize);
    await image.flush();
    end = await usedClusters(image, order, pace);
    if (Math.ceil(end / perBlock) <= size.blocks) {
      await writeStructure(image, order, place, size, pace);
      await image.changeHeader((contents) =>
        withFields(contents, {
          refcount_order: BigInt(order),
          refcount_table_offset: BigInt(place),
          refcount_table_clusters: BigInt(size.tableClusters),
        }),
      );
      return QuietImage.open(image.storage, { settled: true });
    }
    // Counting the new clusters took some more.
    await image.release(place, (size.tableClusters + size.blocks) * clusterSize);
    await image.flush();
  }
}

interface StructureSize {
  readonly blocks: number;
  readonly tableClusters: number;
}

/** Blocks and table for so many clusters and for themselves, wherever they will lie. */
function structureSize(clusters: number, perBlock: number, clusterSize: number): StructureSize {
  let blocks = Math.ceil(clusters / perBlock);
  let tableClusters = 1;
  for (;;) {
    // They may all come behind what is used now.
    const nextBlocks = Math.ceil((clusters + blocks + tableClusters) / perBlock);
    const nextTable = Math.ceil((nextBlocks * 8) / clusterSize);
    if (nextBlocks === blocks && nextTable === tableClusters) {
      return { blocks, tableClusters };
    }
    blocks = Math.max(blocks, nextBlocks);
    tableClusters = Math.max(tableClusters, nextTable);
  }
}

/** One past the last cluster that is counted. @throws EngineError `request.invalid` for a refcount that the new width has no room for */
async function usedClusters(image: QuietImage, order: number, pace: Pace): Promise<number> {
  const { clusterSize, refcountBlockEntries, refcountBits } = image.metadata;
  const most = maxRefcount(order);
  const checked = 2 ** order < refcountBits;
  const table = loadRefcountTable(image.metadata);
  let end = 0;
  for (let block = 0; block < table.length; block++) {
    if (table.word(block) !== 0n) {
      const first = block * refcountBlockEntries;
      for (let cluster = first; cluster < first + refcountBlockEntries; cluster++) {
        const count = image.refcount(cluster * clusterSize);
        if (count > 0) {
          end = cluster + 1;
        }
        if (checked && count > most) {
          throw invalidRequest(
            `Cannot decrease refcount entry width to ${2 ** order} bits: Cluster at offset 0x${(cluster * clusterSize).toString(16)} ` +
              `has a refcount of ${count}`,
          );
        }
      }
      if (pace.due()) {
        await pace.turn(block, table.length);
      }
    }
  }
  return end;
}

async function writeStructure(image: QuietImage, order: number, place: number, size: StructureSize, pace: Pace): Promise<void> {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = image.metadata;
  const perBlock = (clusterSize * 8) / 2 ** order;
  // What is given up with the old structure: it is not counted in the new one.
  const old = new Set<number>();
  for (let index = 0; index < refcountTableClusters; index++) {
    old.add(refcountTableOffset / clusterSize + index);
  }
  const oldTable = loadRefcountTable(image.metadata);
  for (let index = 0; index < oldTable.length; index++) {
    const hostOffset = oldTable.hostOffsetAt(index);
    if (hostOffset !== 0) {
      old.add(hostOffset / clusterSize);
    }
  }
  const blocksOffset = place + size.tableClusters * clusterSize;
  const table = new DataView(new ArrayBuffer(size.tableClusters * clusterSize));
  for (let block = 0; block < size.blocks; block++) {
    const view = new DataView(new ArrayBuffer(clusterSize));
    for (let index = 0; index < perBlock; index++) {
      const cluster = block * perBlock + index;
      const count = old.has(cluster) ? 0 : image.refcount(cluster * clusterSize);
      if (count > 0) {
        setRefcount(view, index, order, count);
      }
    }
    const hostOffset = blocksOffset + block * clusterSize;
    await image.storage.write(new Uint8Array(view.buffer), hostOffset);
    table.setBigUint64(block * 8, BigInt(hostOffset));
    if (pace.due()) {
      await pace.turn(block, size.blocks);
    }
  }
  await image.storage.write(new Uint8Array(table.buffer), place);
}
