import type { LayerView } from '../../protocol/place';
import type { OpenedChain } from '../chain/layer';
import { openReader } from '../chain/chainReader';
import { QemuChainStatus, STATUS } from '../chain/qemuStatus';
import { invalidRequest } from '../errors';
import { listBitmaps, type StoredBitmap } from '../formats/qcow2/manage/bitmapStore';
import { qcow2Settings, type Qcow2Settings } from '../formats/qcow2/manage/createOptions';
import { luksHeaderBytes } from '../formats/luks/create';
import { BITMAP_DIRECTORY_ENTRY, LIMITS } from '../formats/qcow2/structures';
import { SECTOR_SIZE } from '../formats/raw/size';
import { Pace, type PaceOptions } from '../pace';
import { passphraseFor, qcow2Options } from './create';
import { createOptions, OptionValues, type FormatOptions } from './formatOptions';
import { knownFormat } from './formats';

/** What a new image of other contents would take, in bytes. */
export interface Measurement {
  /** Of its file, with what there is to copy. */
  readonly required: number;
  /** Of its file when the guest has written everywhere. */
  readonly fullyAllocated: number;
  /** Of the source's bitmaps in it; null where none can be copied. */
  readonly bitmaps: number | null;
}

/** What is to be copied. */
export interface MeasuredSource {
  /** Bytes of its disk. */
  readonly size: number;
  /** The persistent bitmaps of the image; null for a format that stores none. */
  readonly bitmaps: readonly StoredBitmap[] | null;
  /** Whether the bytes from `offset` on are to be copied, as far as that is the same, at most `length`. */
  status(offset: number, length: number): { readonly copied: boolean; readonly length: number };
}

/**
 * A chain, or an internal snapshot of its active layer, as what is to be copied.
 * @throws EngineError as `openReader`
 */
export async function measuredSource(chain: OpenedChain, view: LayerView, options: PaceOptions = {}): Promise<MeasuredSource> {
  const { detail } = chain.layers[0]!;
  const bitmaps = detail.format === 'qcow2' && detail.metadata.version >= 3 ? listBitmaps(detail.metadata) : null;
  if (view.kind === 'snapshot') {
    const reader = openReader(chain, { view });
    return {
      size: reader.size,
      bitmaps,
      status: (offset, bytes) => {
        const { class: kind, length } = reader.blockStatus(offset, bytes);
        return { copied: kind === 'data' || kind === 'compressed', length };
      },
    };
  }
  // To the bit as QEMU counts: where only metadata was preallocated, holes of the file are none of the data.
  const status = await QemuChainStatus.open(chain.layers, new Pace(options));
  return {
    size: chain.layers[0]!.virtualSize,
    bitmaps,
    status: (offset, bytes) => {
      const { flags, length } = status.at(offset, bytes);
      const wanted = STATUS.data | STATUS.allocated;
      return { copied: (flags & STATUS.zero) === 0 && (flags & wanted) === wanted, length: Math.max(1, length) };
    },
  };
}

export interface MeasureRequest {
  /** QEMU's name of the new image's format. */
  readonly format: string;
  readonly options: FormatOptions;
  /** An image, or only the size of a disk in bytes. */
  readonly source: MeasuredSource | number;
}

export interface MeasureContext extends PaceOptions {
  readonly secretOf?: ((id: string) => Uint8Array | null) | undefined;
}

/** @throws EngineError `request.invalid` in QEMU's words, `request.unsupported`, what reading the source's tables throws, `cancelled` */
export async function measure({ format: name, options, source }: MeasureRequest, context: MeasureContext = {}): Promise<Measurement> {
  const format = knownFormat(name);
  const declared = createOptions(format, true) ?? [];
  const size = typeof source === 'number' ? source : source.size;
  if (format === 'qed' || format === 'vmdk') {
    throw invalidRequest(`Block driver '${format}' does not support size measurement`);
  }
  const values = new OptionValues(declared, options);
  if (format === 'raw') {
    const bytes = Math.ceil(size / SECTOR_SIZE) * SECTOR_SIZE;
    return { required: bytes, fullyAllocated: bytes, bitmaps: null };
  }
  return measureQcow2(values, size, typeof source === 'number' ? null : source, context);
}

async function measureQcow2(
  values: OptionValues,
  size: number,
  source: MeasuredSource | null,
  context: MeasureContext,
): Promise<Measurement> {
  const { settings, luksBytes } = readSettings(values, context);
  const { clusterSize, extendedL2, preallocation } = settings;
  const virtualSize = roundUp(size, clusterSize);
  const perTable = clusterSize / (extendedL2 ? 16 : 8);
  if (Math.ceil(virtualSize / clusterSize / perTable) > LIMITS.maxL1Bytes / 8) {
    throw invalidRequest('The image size is too large (try using a larger cluster size)');
  }
  // How much of what the source has is in the new backing file is not looked at.
  const all = preallocation === 'falloc' || preallocation === 'full' || (source !== null && settings.backing !== null);
  const data = all ? virtualSize : source ? await allocatedBytes(source, clusterSize, context) : 0;
  const fullyAllocated = metadataBytes(settings, virtualSize) + virtualSize + luksBytes;
  return {
    required: fullyAllocated - virtualSize + data,
    fullyAllocated,
    bitmaps: source?.bitmaps && settings.version >= 3 ? bitmapBytes(source.bitmaps, size, clusterSize) : null,
  };
}

/** What is wrong with the options is said in the words of measuring. */
function readSettings(values: OptionValues, context: MeasureContext): { readonly settings: Qcow2Settings; readonly luksBytes: number } {
  const mode = values.string('preallocation');
  if (mode !== undefined && !/^(off|metadata|falloc|full)$/.test(mode)) {
    throw invalidRequest(`invalid parameter value: ${mode}`);
  }
  const { data_file: _file, data_file_raw: _raw, encrypt, ...options } = qcow2Options(values);
  const backing = values.string('backing_file');
  const settings = {
    ...qcow2Settings({ ...options, preallocation: 'off', size: 0, encrypt: null }),
    preallocation: options.preallocation ?? 'off',
    backing: backing === undefined ? null : { name: backing, format: null },
  };
  if (encrypt?.format === 'luks') {
    passphraseFor(values, context);
  }
  return { settings, luksBytes: encrypt?.format === 'luks' ? roundUp(luksHeaderBytes(encrypt), settings.clusterSize) : 0 };
}

/** Bytes of the clusters that hold something. */
async function allocatedBytes(source: MeasuredSource, clusterSize: number, options: PaceOptions): Promise<number> {
  const pace = new Pace(options);
  let bytes = 0;
  for (let offset = 0; offset < source.size;) {
    const { copied, length } = source.status(offset, source.size - offset);
    let end = offset + length;
    if (copied) {
      end = roundUp(end, clusterSize);
      bytes += end - (offset - (offset % clusterSize));
    }
    offset = end;
    if (pace.due()) {
      await pace.turn(offset, source.size);
    }
  }
  return bytes;
}

/** Header, tables and refcounts of an image that is allocated everywhere; tables are counted whole clusters at a time. */
function metadataBytes({ clusterSize, extendedL2, refcountOrder }: Qcow2Settings, virtualSize: number): number {
  const l2EntryBytes = extendedL2 ? 16 : 8;
  const l2Bytes = roundUp((virtualSize / clusterSize) * l2EntryBytes, clusterSize);
  const l1Bytes = roundUp((l2Bytes / clusterSize) * 8, clusterSize);
  const bytes = clusterSize + l2Bytes + l1Bytes;
  return bytes + refcountBytes((bytes + virtualSize) / clusterSize, clusterSize, refcountOrder);
}

/** Refcount blocks and table for so many clusters and for themselves. */
function refcountBytes(clusters: number, clusterSize: number, refcountOrder: number): number {
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  let blocks = 0;
  let table = 0;
  for (;;) {
    const nextBlocks = Math.ceil((clusters + table + blocks) / perBlock);
    const nextTable = Math.ceil(nextBlocks / (clusterSize / 8));
    if (nextBlocks === blocks && nextTable === table) {
      return (blocks + table) * clusterSize;
    }
    blocks = nextBlocks;
    table = nextTable;
  }
}

/** Bits, tables and the directory, each with every bit set. */
function bitmapBytes(bitmaps: readonly StoredBitmap[], size: number, clusterSize: number): number {
  let bytes = 0;
  let directory = 0;
  for (const { name, granularity } of bitmaps) {
    const bits = roundUp(Math.ceil(Math.ceil(size / granularity) / 8), clusterSize);
    bytes += bits + roundUp((bits / clusterSize) * 8, clusterSize);
    directory += roundUp(BITMAP_DIRECTORY_ENTRY.length + new TextEncoder().encode(name).length, 8);
  }
  return bytes + roundUp(directory, clusterSize);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
