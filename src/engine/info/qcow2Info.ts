import { invalidFormat } from '../errors';
import { readLuksHeader, requireOpenableLuks } from '../formats/luks/header';
import { readBitmapDirectory, type Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import { readQcow2Metadata, requireOpenable, type Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable, type Qcow2Snapshot } from '../formats/qcow2/snapshots';
import { AUTOCLEAR, ENCRYPTION_EXTENSION, EXTENSION } from '../formats/qcow2/structures';
import type { Problem } from '../formats/problem';
import type { ByteSource } from '../io/source';
import { Decoded } from '../layout/codec';
import type { FormatPart, SnapshotInfo } from './imageInfo';
import { luksInfo, type LuksInfo } from './luksInfo';

/** QAPI's ImageInfoSpecificQCow2. */
export interface Qcow2Info {
  readonly compat: '0.10' | '1.1';
  readonly compressionType: string;
  readonly lazyRefcounts?: boolean;
  readonly bitmaps?: readonly BitmapInfo[];
  readonly refcountBits: number;
  readonly encrypt?: { readonly format: 'aes' } | ({ readonly format: 'luks' } & LuksInfo);
  readonly dataFile?: string;
  readonly dataFileRaw?: boolean;
  readonly corrupt?: boolean;
  readonly extendedL2?: boolean;
}

/** QAPI's Qcow2BitmapInfo. */
export interface BitmapInfo {
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  readonly flags: readonly ('in-use' | 'auto')[];
}

/** @throws EngineError for what QEMU's driver does not open */
export function qcow2Info(source: ByteSource): FormatPart {
  const metadata = readQcow2Metadata(source);
  requireOpenable(metadata);
  const snapshots = readSnapshots(metadata);
  return {
    virtualSize: metadata.size,
    clusterSize: metadata.clusterSize,
    dirtyFlag: metadata.dirty,
    ...(metadata.cryptMethod === 0 ? {} : { encrypted: true as const }),
    ...(metadata.backingFile ? { backingFilename: metadata.backingFile.name } : {}),
    ...(metadata.backingFile && metadata.backingFormat !== null ? { backingFilenameFormat: metadata.backingFormat } : {}),
    ...(snapshots.length > 0 ? { snapshots } : {}),
    formatSpecific: { type: 'qcow2', data: specific(metadata) },
  };
}

function specific(metadata: Qcow2Metadata): Qcow2Info {
  const encrypt = encryption(metadata);
  const bitmaps = readBitmaps(metadata);
  const common = { compressionType: metadata.compressionType, refcountBits: metadata.refcountBits, ...(encrypt ? { encrypt } : {}) };
  if (metadata.version < 3) {
    return { compat: '0.10', ...common };
  }
  return {
    compat: '1.1',
    ...common,
    lazyRefcounts: metadata.lazyRefcounts,
    corrupt: metadata.corrupt,
    extendedL2: metadata.extendedL2,
    ...(bitmaps.length > 0 ? { bitmaps } : {}),
    ...(metadata.hasDataFile && metadata.dataFileName !== null ? { dataFile: metadata.dataFileName } : {}),
    ...(metadata.hasDataFile ? { dataFileRaw: metadata.rawDataFile } : {}),
  };
}

function encryption(metadata: Qcow2Metadata): Qcow2Info['encrypt'] {
  switch (metadata.cryptMethod) {
    case 0:
      return undefined;
    case 1:
      return { format: 'aes' };
    default: {
      const found = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
      if (!found) {
        throw invalidFormat(
          metadata.source.name,
          'qcow2 header',
          metadata.header.field('crypt_method').offset,
          'The image is encrypted with LUKS and has no encryption header.',
        );
      }
      const luks = readLuksHeader(metadata.source, new Decoded(ENCRYPTION_EXTENSION, found.data).number('offset'));
      requireOpenableLuks(luks);
      return { format: 'luks', ...luksInfo(luks) };
    }
  }
}

function readSnapshots(metadata: Qcow2Metadata): SnapshotInfo[] {
  const table = readSnapshotTable(metadata);
  refuse(metadata, table.problems);
  return table.snapshots.map(snapshotInfo);
}

function snapshotInfo(snapshot: Qcow2Snapshot): SnapshotInfo {
  const { id, name, vmStateSize, dateSec, dateNsec, vmClockNsec, icount } = snapshot;
  return {
    id,
    name,
    vmStateSize,
    dateSec,
    dateNsec,
    vmClockSec: Number(vmClockNsec / 1_000_000_000n),
    vmClockNsec: Number(vmClockNsec % 1_000_000_000n),
    ...(icount === null ? {} : { icount }),
  };
}

function readBitmaps(metadata: Qcow2Metadata): BitmapInfo[] {
  if ((metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
    // A program without support for bitmaps wrote the image: what the extension says is void, to QEMU as well.
    return [];
  }
  const directory = readBitmapDirectory(metadata);
  refuse(metadata, directory.problems);
  return directory.bitmaps.map((bitmap) => {
    refuse(metadata, bitmapProblems(metadata, bitmap));
    const { name, granularity, inUse, auto } = bitmap;
    return { name, granularity, flags: [...(inUse ? (['in-use'] as const) : []), ...(auto ? (['auto'] as const) : [])] };
  });
}

/** What QEMU accepts at most of one bitmap: entries of its table, and bytes of its bits. */
const MAX_TABLE_ENTRIES = 0x8000000;
const MAX_BITMAP_BYTES = 0x20000000;
const MAX_NAME_BYTES = 1023;
/** in_use, auto, extra_data_compatible. */
const KNOWN_FLAGS = 7;
const DIRTY_TRACKING = 1;

/** An entry that breaks these rules keeps QEMU from opening the image at all (block/qcow2-bitmap.c). */
function bitmapProblems(metadata: Qcow2Metadata, bitmap: Qcow2Bitmap): Problem[] {
  const problems: Problem[] = [];
  const { fields, tableEntries, tableOffset } = bitmap;
  const require = (holds: boolean, field: Parameters<Qcow2Bitmap['fields']['field']>[0], message: string) => {
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
  const nameSize = fields.number('name_size');
  require(tableEntries > 0 && tableEntries <= MAX_TABLE_ENTRIES, 'bitmap_table_size', `its table has ${tableEntries} entries.`);
  require(tableOffset > 0 &&
    tableOffset % metadata.clusterSize === 0, 'bitmap_table_offset', `its table's offset ${tableOffset} is 0 or not aligned to a cluster.`);
  require(Number.isFinite(
    bitmap.granularity,
  ), 'granularity_bits', `granularity_bits is ${fields.number('granularity_bits')}; it must be 9 to 31.`);
  require((fields.number('flags') & ~KNOWN_FLAGS) === 0, 'flags', `unknown flags are set (0x${fields.number('flags').toString(16)}).`);
  require(nameSize > 0 && nameSize <= MAX_NAME_BYTES, 'name_size', `its name has ${nameSize} bytes; it must be 1 to ${MAX_NAME_BYTES}.`);
  require(bitmap.type === DIRTY_TRACKING, 'type', `type ${bitmap.type} is unknown.`);
  require(bytes <= MAX_BITMAP_BYTES, 'bitmap_table_size', `its ${bytes} bytes are too many.`);
  require(bitmap.inUse ||
    bytes * 8 * bitmap.granularity >= metadata.size, 'bitmap_table_size', `its ${tableEntries} clusters of bits do not cover the disk.`);
  return problems;
}

function refuse(metadata: Qcow2Metadata, problems: readonly Problem[]): void {
  const problem = problems.find(({ severity }) => severity === 'error');
  if (problem) {
    throw invalidFormat(metadata.source.name, problem.structure, problem.hostOffset, problem.message);
  }
}
