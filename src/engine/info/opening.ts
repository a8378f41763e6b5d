import type { LayerDetail } from '../chain/layer';
import { INT64_MAX, openForCheck } from '../check/opening';
import { invalidFormat } from '../errors';
import { readLuksHeader, requireOpenableLuks, type LuksHeader } from '../formats/luks/header';
import type { BitmapDirectory } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable, type SnapshotTable } from '../formats/qcow2/snapshots';
import { AUTOCLEAR, ENCRYPTION_EXTENSION, EXTENSION, LIMITS } from '../formats/qcow2/structures';
import { requireOpenableQed } from '../formats/qed/metadata';
import type { VmdkMetadata } from '../formats/vmdk/metadata';
import { EndlessSource } from '../io/endless';
import { Decoded } from '../layout/codec';
import { requireOpenableBitmaps } from './bitmapOpening';
import { refuse } from './refuse';

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
 * @param purpose QEMU does not look for the data file of an image that it only describes
 * @throws EngineError `format.invalid`, `format.unsupported`
 */
export function requireOpenableQcow2(metadata: Qcow2Metadata, purpose: 'describe' | 'read'): OpenedQcow2 {
  requireHeader(
    purpose === 'read' ? metadata : { ...metadata, autoclearFeatures: metadata.autoclearFeatures & ~AUTOCLEAR.rawExternalData },
  );
  // Metadata past the end of the file reads as zeroes to QEMU.
  const endless = { ...metadata, source: new EndlessSource(metadata.source) };
  const table = readSnapshotTable(endless);
  refuse(metadata.source, table.problems);
  return { snapshots: table.snapshots, bitmaps: requireOpenableBitmaps(endless), luks: requireLuksHeader(metadata) };
}

function requireHeader(metadata: Qcow2Metadata): void {
  const { source, header, clusterSize } = metadata;
  try {
    openForCheck(metadata);
  } catch (error) {
    const length = header.bytes.length;
    // What is missing read as zero, which is seldom what the field should be; the missing is the better thing to say.
    throw header.has(metadata.version >= 3 ? 'header_length' : 'snapshots_offset')
      ? error
      : invalidFormat(source.name, 'qcow2 header', length, `The file ends inside the header, after ${length} bytes.`);
  }
  const refuseField = (field: 'refcount_table_clusters' | 'nb_snapshots' | 'snapshots_offset', message: string) =>
    invalidFormat(source.name, 'qcow2 header', header.field(field).offset, message);
  if (metadata.refcountTableClusters === 0) {
    throw refuseField('refcount_table_clusters', 'The image has no refcount table.');
  }
  if (metadata.nbSnapshots > LIMITS.maxSnapshots) {
    throw refuseField('nb_snapshots', `${metadata.nbSnapshots} snapshots are too many (limit ${LIMITS.maxSnapshots}).`);
  }
  // Also where there are no snapshots.
  const snapshotsOffset = header.bigint('snapshots_offset');
  if (snapshotsOffset % BigInt(clusterSize) !== 0n || snapshotsOffset > INT64_MAX) {
    throw refuseField('snapshots_offset', `snapshots_offset ${snapshotsOffset} is not a valid cluster offset.`);
  }
}

/** @throws EngineError `format.invalid`, `format.unsupported` */
export function requireOpenableVmdk(metadata: VmdkMetadata): void {
  refuse(metadata.source, metadata.problems);
}

/** @throws EngineError `format.invalid` for an image whose data lies in a file that it does not name */
export function requireDataFileName({ source, header, hasDataFile, dataFileName }: Qcow2Metadata): void {
  if (hasDataFile && dataFileName === null) {
    const { offset } = header.field('incompatible_features');
    throw invalidFormat(source.name, 'qcow2 header', offset, 'The data lies in an external data file, which no header extension names.');
  }
}

/** The same for whatever format a layer of a chain has. @throws EngineError `format.invalid`, `format.unsupported` */
export function requireOpenableLayer(detail: LayerDetail): void {
  switch (detail.format) {
    case 'qcow2':
      requireOpenableQcow2(detail.metadata, 'read');
      requireDataFileName(detail.metadata);
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

/**
 * The LUKS header of a qcow2 image; null when it is not encrypted with LUKS.
 * @throws EngineError `format.invalid`, `format.unsupported` when it should have one that QEMU takes, and has not
 */
export function requireLuksHeader(metadata: Qcow2Metadata): LuksHeader | null {
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
