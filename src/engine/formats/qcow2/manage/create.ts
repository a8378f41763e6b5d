import { invalidRequest } from '../../../errors';
import type { Storage } from '../../../io/storage';
import { encode } from '../../../layout/codec';
import { Pace, type PaceOptions } from '../../../pace';
import { createLuks, luksHeaderBytes } from '../../luks/create';
import { CRYPT_METHOD } from '../crypto/open';
import { AUTOCLEAR, CACHE_QUOTA_EXTENSION, COMPATIBLE, ENCRYPTION_EXTENSION, EXTENSION, FEATURE, LIMITS, QCOW2_MAGIC } from '../structures';
import { qcow2Settings, type Qcow2CreateOptions, type Qcow2Settings } from './createOptions';
import { encodeHeader, type HeaderContents, type HeaderExtension } from './header';
import { fillRefcounts } from './refcountBits';

export interface CreateResources extends PaceOptions {
  /** The external data file, empty, where the options name one. */
  readonly dataFile?: Storage | undefined;
  /** For an encrypted image. */
  readonly passphrase?: Uint8Array | undefined;
}

/** Where a new image has its structures: everything one after the other, in clusters. */
interface NewLayout {
  readonly refcountTableClusters: number;
  readonly refcountBlocks: number;
  /** Byte offsets. */
  readonly l1Offset: number;
  readonly luksOffset: number;
  readonly luksBytes: number;
  /** First L2 table; the data clusters that it maps follow it, then the next table. */
  readonly l2Offset: number;
  readonly l2Tables: number;
  readonly dataClusters: number;
  readonly totalClusters: number;
}

/** Tables are written in pieces of at least this many bytes. */
const PIECE = 1024 * 1024;

/**
 * Makes a new qcow2 image of what `storage` holds; without preallocation byte for byte as `qemu-img create` does. Until the header is
 * written, last, the file is no image.
 * @throws EngineError `request.invalid` in QEMU's words, before anything is touched; `file.io`, `file.full`, `cancelled`
 */
export async function createQcow2(storage: Storage, options: Qcow2CreateOptions, resources: CreateResources = {}): Promise<void> {
  const settings = qcow2Settings(options);
  const { encrypt, dataFile } = settings;
  if (dataFile && !resources.dataFile) {
    throw invalidRequest(`The data file '${dataFile.name}' is not open.`);
  }
  if (encrypt && !resources.passphrase) {
    throw invalidRequest("Parameter 'encrypt.key-secret' is required for cipher");
  }
  const layout = planLayout(settings);
  const empty = layout.totalClusters * settings.clusterSize;
  if (settings.cacheQuota !== null && settings.cacheQuota < empty) {
    throw invalidRequest(`cache_img_quota must be at least ${empty}, what the image needs while it is empty`);
  }
  const header = encodeHeader(newHeader(settings, layout), storage.name);
  const luks =
    encrypt?.format === 'luks' && resources.passphrase ? await createLuks(encrypt.options, resources.passphrase, storage.name) : null;
  const pace = new Pace(resources);
  await storage.truncate(0);
  await reserve(storage, settings, layout, resources.dataFile);
  if (layout.l1Offset > 0) {
    await writeL1(storage, settings, layout);
  }
  if (luks) {
    await storage.write(luks.bytes, layout.luksOffset);
  }
  if (layout.l2Tables > 0) {
    await writeL2(storage, settings, layout, pace);
  }
  await writeRefcounts(storage, settings, layout, pace);
  await resources.dataFile?.flush();
  await storage.flush();
  await storage.write(header, 0);
  await storage.flush();
}

/** Bytes that such an image's file would have (`qemu-img measure` counts so). @throws EngineError `request.invalid` */
export function newImageBytes(options: Qcow2CreateOptions): number {
  const settings = qcow2Settings(options);
  return planLayout(settings).totalClusters * settings.clusterSize;
}

function planLayout(settings: Qcow2Settings): NewLayout {
  const { clusterSize, size, l1Size, refcountOrder, preallocation, dataFile, encrypt } = settings;
  const clustersOf = (bytes: number) => Math.ceil(bytes / clusterSize);
  const allocated = preallocation === 'off' ? 0 : clustersOf(size);
  const l2Tables = preallocation === 'off' ? 0 : l1Size;
  const dataClusters = dataFile ? 0 : allocated;
  const luksBytes = encrypt?.format === 'luks' ? luksHeaderBytes(encrypt.options) : 0;
  const rest = clustersOf(l1Size * 8) + clustersOf(luksBytes) + l2Tables + dataClusters;
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  let refcountBlocks = 1;
  let refcountTableClusters = 1;
  let totalClusters: number;
  // The blocks count themselves and their table, so their number is found by repetition; it only grows.
  for (;;) {
    totalClusters = 1 + refcountTableClusters + refcountBlocks + rest;
    const blocks = Math.ceil(totalClusters / perBlock);
    const tableClusters = clustersOf(blocks * 8);
    if (blocks <= refcountBlocks && tableClusters <= refcountTableClusters) {
      break;
    }
    refcountBlocks = blocks;
    refcountTableClusters = tableClusters;
  }
  if (refcountTableClusters * clusterSize > LIMITS.maxRefcountTableBytes) {
    throw invalidRequest(`The image size is too large for file format 'qcow2' (try using a larger cluster size)`);
  }
  const afterRefcounts = (1 + refcountTableClusters + refcountBlocks) * clusterSize;
  const luksOffset = afterRefcounts + clustersOf(l1Size * 8) * clusterSize;
  return {
    refcountTableClusters,
    refcountBlocks,
    l1Offset: l1Size > 0 ? afterRefcounts : 0,
    luksOffset,
    luksBytes,
    l2Offset: luksOffset + clustersOf(luksBytes) * clusterSize,
    l2Tables,
    dataClusters,
    totalClusters,
  };
}

function newHeader(settings: Qcow2Settings, layout: NewLayout): HeaderContents {
  const { dataFile, backing, encrypt, compression } = settings;
  const encoder = new TextEncoder();
  const extensions: HeaderExtension[] = [];
  if (backing?.format) {
    extensions.push({ type: EXTENSION.backingFormat, data: encoder.encode(backing.format) });
  }
  if (dataFile) {
    extensions.push({ type: EXTENSION.dataFile, data: encoder.encode(dataFile.name) });
  }
  if (encrypt?.format === 'luks') {
    extensions.push({
      type: EXTENSION.encryption,
      data: encode(ENCRYPTION_EXTENSION, { offset: layout.luksOffset, length: layout.luksBytes }),
    });
  }
  if (settings.cacheQuota !== null) {
    extensions.push({ type: EXTENSION.cacheQuota, data: encode(CACHE_QUOTA_EXTENSION, { quota: settings.cacheQuota }) });
  }
  const backingName = backing ? encoder.encode(backing.name) : null;
  if (backing && backingName && backingName.length > LIMITS.maxBackingFileName) {
    throw invalidRequest(`Could not assign backing file '${backing.name}' with format '${backing.format ?? 'raw'}': Invalid argument`);
  }
  return {
    fields: {
      magic: BigInt(QCOW2_MAGIC),
      version: BigInt(settings.version),
      cluster_bits: BigInt(settings.clusterBits),
      size: BigInt(settings.size),
      crypt_method: BigInt(encrypt ? CRYPT_METHOD[encrypt.format] : CRYPT_METHOD.none),
      l1_size: BigInt(settings.l1Size),
      l1_table_offset: BigInt(layout.l1Offset),
      refcount_table_offset: BigInt(settings.clusterSize),
      refcount_table_clusters: BigInt(layout.refcountTableClusters),
      nb_snapshots: 0n,
      snapshots_offset: 0n,
      incompatible_features:
        (dataFile ? FEATURE.externalDataFile : 0n) |
        (compression === 'zstd' ? FEATURE.compressionType : 0n) |
        (settings.extendedL2 ? FEATURE.extendedL2 : 0n),
      compatible_features: settings.lazyRefcounts ? COMPATIBLE.lazyRefcounts : 0n,
      autoclear_features: dataFile?.raw ? AUTOCLEAR.rawExternalData : 0n,
      refcount_order: BigInt(settings.refcountOrder),
      compression_type: compression === 'zstd' ? 1n : 0n,
    },
    unknownFields: new Uint8Array(0),
    extensions,
    backingName,
  };
}

/** Gets the space that preallocation asks for, before anything is written into it. */
async function reserve(storage: Storage, settings: Qcow2Settings, layout: NewLayout, dataFile: Storage | undefined): Promise<void> {
  const { preallocation, clusterSize, size } = settings;
  const mode = preallocation === 'falloc' || preallocation === 'full' ? preallocation : 'off';
  if (dataFile) {
    await dataFile.truncate(size, mode);
  } else if (layout.dataClusters > 0) {
    await storage.truncate(layout.totalClusters * clusterSize, mode);
  }
}

/** Bytes from one L2 table to the next: the table itself and, without a data file, all that it maps. */
function l2Stride({ clusterSize, extendedL2, dataFile }: Qcow2Settings): number {
  const entries = clusterSize / (extendedL2 ? 16 : 8);
  return clusterSize * (1 + (dataFile ? 0 : entries));
}

async function writeL1(storage: Storage, settings: Qcow2Settings, layout: NewLayout): Promise<void> {
  const l1 = new DataView(new ArrayBuffer(settings.l1Size * 8));
  for (let index = 0; index < layout.l2Tables; index++) {
    putCopied(l1, index * 8, layout.l2Offset + index * l2Stride(settings));
  }
  await storage.write(new Uint8Array(l1.buffer), layout.l1Offset);
}

async function writeL2(storage: Storage, settings: Qcow2Settings, layout: NewLayout, pace: Pace): Promise<void> {
  const { clusterSize, extendedL2, dataFile, size } = settings;
  const entryBytes = extendedL2 ? 16 : 8;
  const entries = clusterSize / entryBytes;
  const clusters = Math.ceil(size / clusterSize);
  const stride = l2Stride(settings);
  // With a data file the tables lie side by side and many go in one write.
  const perWrite = dataFile ? Math.max(1, Math.floor(PIECE / clusterSize)) : 1;
  for (let first = 0; first < layout.l2Tables; first += perWrite) {
    const count = Math.min(perWrite, layout.l2Tables - first);
    const tables = new DataView(new ArrayBuffer(count * clusterSize));
    for (let index = 0; index < count; index++) {
      const table = first + index;
      const used = Math.min(entries, clusters - table * entries);
      const dataOffset = dataFile ? table * entries * clusterSize : layout.l2Offset + table * stride + clusterSize;
      for (let slot = 0; slot < used; slot++) {
        // Subclusters are left unallocated, as QEMU does: what is below shows through.
        putCopied(tables, index * clusterSize + slot * entryBytes, dataOffset + slot * clusterSize);
      }
    }
    await storage.write(new Uint8Array(tables.buffer), layout.l2Offset + first * stride);
    if (pace.due()) {
      await pace.turn(first, layout.l2Tables);
    }
  }
}

async function writeRefcounts(storage: Storage, settings: Qcow2Settings, layout: NewLayout, pace: Pace): Promise<void> {
  const { clusterSize, refcountOrder } = settings;
  const { refcountBlocks, refcountTableClusters, totalClusters } = layout;
  const blocksOffset = (1 + refcountTableClusters) * clusterSize;
  const table = new DataView(new ArrayBuffer(refcountTableClusters * clusterSize));
  for (let index = 0; index < refcountBlocks; index++) {
    table.setBigUint64(index * 8, BigInt(blocksOffset + index * clusterSize));
  }
  await storage.write(new Uint8Array(table.buffer), clusterSize);
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  const perWrite = Math.max(1, Math.floor(PIECE / clusterSize));
  for (let first = 0; first < refcountBlocks; first += perWrite) {
    const blocks = new Uint8Array(Math.min(perWrite, refcountBlocks - first) * clusterSize);
    const used = Math.min(totalClusters - first * perBlock, (blocks.length / clusterSize) * perBlock);
    fillRefcounts(blocks, refcountOrder, used);
    await storage.write(blocks, blocksOffset + first * clusterSize);
    if (pace.due()) {
      await pace.turn(first, refcountBlocks);
    }
  }
}

/** An entry with COPIED set. Offsets are below 2^53, so their upper half is far from the flag. */
function putCopied(view: DataView, at: number, hostOffset: number): void {
  view.setUint32(at, (Math.floor(hostOffset / 2 ** 32) | 0x80000000) >>> 0);
  view.setUint32(at + 4, hostOffset % 2 ** 32);
}
