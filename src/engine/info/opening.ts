import type { LayerDetail } from '../block/layer';
import { openForCheck } from '../check/opening';
import { invalidFormat } from '../errors';
import { readLuksHeader, requireOpenableLuks, type LuksHeader } from '../formats/luks/header';
import type { Problem } from '../formats/problem';
import { readBitmapDirectory, type BitmapDirectory, type Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable, type SnapshotTable } from '../formats/qcow2/snapshots';
import { AUTOCLEAR, ENCRYPTION_EXTENSION, EXTENSION } from '../formats/qcow2/structures';
import { requireOpenableQed } from '../formats/qed/metadata';
import type { VmdkMetadata } from '../formats/vmdk/metadata';
import type { ByteSource } from '../io/source';
import { Decoded } from '../layout/codec';

/*
 * The strict side of opening: an image is shown as far as it can be read, but what a guest would read from it is told only when QEMU's
 * driver would open it.
 */

/** What an ordinary opening reads of a qcow2 image beside its header. */
export interface OpenedQcow2 {
  readonly snapshots: SnapshotTable['snapshots'];
  /** Empty where the image's bitmaps are void. */
  readonly bitmaps: BitmapDirectory['bitmaps'];
  /** Null for an image without LUKS. */
  readonly luks: LuksHeader | null;
}

/**
 * Reads what QEMU reads when it opens a qcow2 image, and refuses what it refuses (7.2).
 * @throws EngineError `format.invalid`, `format.unsupported`
 */
export function requireOpenableQcow2(metadata: Qcow2Metadata): OpenedQcow2 {
  if (!metadata.header.has(metadata.version >= 3 ? 'header_length' : 'snapshots_offset')) {
    const length = metadata.header.bytes.length;
    throw invalidFormat(metadata.source.name, 'qcow2 header', length, `The file ends inside the header, after ${length} bytes.`);
  }
  openForCheck(metadata);
  if (metadata.refcountTableClusters === 0) {
    const { offset } = metadata.header.field('refcount_table_clusters');
    throw invalidFormat(metadata.source.name, 'qcow2 header', offset, 'The image has no refcount table.');
  }
  const table = readSnapshotTable(metadata);
  refuse(metadata.source, table.problems);
  return { snapshots: table.snapshots, bitmaps: readBitmaps(metadata), luks: readLuks(metadata) };
}

/** @throws EngineError `format.invalid`, `format.unsupported` */
export function requireOpenableVmdk(metadata: VmdkMetadata): void {
  refuse(metadata.source, metadata.problems);
}

/** The same for whatever format a layer of a chain has. @throws EngineError `format.invalid`, `format.unsupported` */
export function requireOpenableLayer(detail: LayerDetail): void {
  switch (detail.format) {
    case 'qcow2':
      requireOpenableQcow2(detail.metadata);
      break;
    case 'qed':
      requireOpenableQed(detail.metadata);
      break;
    case 'vmdk':
      requireOpenableVmdk(detail.metadata);
      break;
    case 'raw':
      break;
  }
}

function readLuks(metadata: Qcow2Metadata): LuksHeader | null {
  if (metadata.cryptMethod !== 2) {
    return null;
  }
  const found = metadata.extensions.findLast(({ type }) => type === EXTENSION.encryption);
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
  return luks;
}

function readBitmaps(metadata: Qcow2Metadata): BitmapDirectory['bitmaps'] {
  if ((metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
    // A program without support for bitmaps wrote the image: what the extension says is void, to QEMU as well.
    return [];
  }
  const directory = readBitmapDirectory(metadata);
  refuse(metadata.source, directory.problems);
  for (const bitmap of directory.bitmaps) {
    refuse(metadata.source, bitmapProblems(metadata, bitmap));
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

/** An entry that breaks these rules keeps QEMU from opening the image at all (block/qcow2-bitmap.c). */
function bitmapProblems(metadata: Qcow2Metadata, bitmap: Qcow2Bitmap): Problem[] {
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
  demand(
    bitmap.inUse || bytes * 8 * bitmap.granularity >= metadata.size,
    'bitmap_table_size',
    `its ${tableEntries} clusters of bits do not cover the disk.`,
  );
  return problems;
}

function refuse(source: ByteSource, problems: readonly Problem[]): void {
  const problem = problems.find(({ severity }) => severity === 'error');
  if (problem) {
    throw invalidFormat(source.name, problem.structure, problem.hostOffset, problem.message);
  }
}
