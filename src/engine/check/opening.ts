import { invalidFormat, unsupported, type EngineError } from '../errors';
import type { Qcow2Extension } from '../formats/qcow2/extensions';
import { unknownFeatures } from '../formats/qcow2/featureNames';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import {
  AUTOCLEAR,
  BITMAPS_EXTENSION,
  COMPRESSION_TYPES,
  CRYPT_METHODS,
  ENCRYPTION_EXTENSION,
  EXTENSION,
  FEATURE,
  LIMITS,
  QCOW2_MAGIC,
} from '../formats/qcow2/structures';
import { Decoded } from '../layout/codec';

/*
 * What QEMU's driver refuses when it opens an image for a check. It is laxer than an ordinary opening: the snapshot table is not read
 * (the check itself does), and a missing refcount table is a finding. Everything here was compared with qemu-img check 7.2.
 */

/** Table offsets are 64-bit fields; QEMU takes them as signed. */
export const INT64_MAX = 2n ** 63n - 1n;

/** QEMU's largest file: a multiple of 1 GiB below 2^63. What lies past it cannot be read. */
export const MAX_FILE_LENGTH = 2n ** 63n - 2n ** 30n;

/** QEMU counts clusters of a file in an int. */
export const MAX_FILE_CLUSTERS = 2 ** 31 - 1;

const SECTOR = 512;

/** A header that passed, and what a check derives from it. */
export interface CheckedImage {
  readonly metadata: Qcow2Metadata;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes; as QEMU has it, a multiple of 512. */
  readonly fileLength: number;
  /** Host clusters of the file, the last one perhaps cut. */
  readonly fileClusters: number;
  /** Guest clusters of the virtual disk. */
  readonly totalClusters: number;
  /** Largest refcount that an entry can hold; past 2^53 not exact, and then larger than any number of references. */
  readonly refcountMax: number;
  readonly bitmaps: { readonly count: number; readonly directoryOffset: bigint; readonly directorySize: number } | null;
  readonly encryptionHeader: { readonly offset: bigint; readonly length: bigint } | null;
}

/** @throws EngineError `format.invalid` or `format.unsupported`, naming the field that QEMU would refuse */
export function openForCheck(metadata: Qcow2Metadata): CheckedImage {
  const { header, source, version } = metadata;
  type Field = Parameters<typeof header.field>[0];
  const refuse = (field: Field, what: string, make: (...args: Parameters<typeof invalidFormat>) => EngineError = invalidFormat): never => {
    throw make(source.name, 'qcow2 header', header.field(field).offset, what);
  };
  if (header.number('magic') !== QCOW2_MAGIC) {
    refuse('magic', 'The file does not begin with the qcow2 magic "QFI\\xfb".');
  }
  if (version !== 2 && version !== 3) {
    refuse('version', `Version ${version} is not a qcow2 version (2 or 3).`, unsupported);
  }
  const clusterBits = header.number('cluster_bits');
  if (clusterBits < LIMITS.minClusterBits || clusterBits > LIMITS.maxClusterBits) {
    refuse('cluster_bits', `cluster_bits is ${clusterBits}; it must be 9 to 21.`);
  }
  const clusterSize = 2 ** clusterBits;
  if (version === 3) {
    requireVersion3(metadata, clusterSize, refuse);
  }
  const cryptMethod = header.number('crypt_method');
  if (!(cryptMethod in CRYPT_METHODS)) {
    refuse('crypt_method', `Encryption method ${cryptMethod} is unknown.`, unsupported);
  }
  const nameOffset = header.bigint('backing_file_offset');
  if (nameOffset > BigInt(clusterSize)) {
    refuse('backing_file_offset', `The backing file name at ${nameOffset} lies outside the first cluster.`);
  }
  if (nameOffset !== 0n && header.number('backing_file_size') > Math.min(LIMITS.maxBackingFileName, clusterSize - Number(nameOffset))) {
    refuse('backing_file_size', `The backing file name of ${header.number('backing_file_size')} bytes is too long.`);
  }

  const requireTable = (field: 'refcount_table_offset' | 'l1_table_offset', bytes: number, limit: number, title: string): void => {
    const offset = header.bigint(field);
    if (bytes > limit) {
      refuse(field, `The ${title} of ${bytes} bytes is too large (limit ${limit}).`);
    }
    if (offset + BigInt(bytes) > INT64_MAX || offset % BigInt(clusterSize) !== 0n) {
      refuse(field, `${field} ${offset} is not a valid cluster offset.`);
    }
    if (bytes > 0 && offset + BigInt(bytes) > MAX_FILE_LENGTH) {
      refuse(field, `${field} ${offset} lies past the end of any file.`);
    }
  };
  requireTable('refcount_table_offset', metadata.refcountTableClusters * clusterSize, LIMITS.maxRefcountTableBytes, 'refcount table');
  requireTable('l1_table_offset', metadata.l1Size * 8, LIMITS.maxL1Bytes, 'active L1 table');
  const size = header.bigint('size');
  if ((size / BigInt(SECTOR)) * BigInt(SECTOR) > MAX_FILE_LENGTH) {
    refuse('size', `The virtual size ${size} is too large.`);
  }
  const coverage = BigInt(metadata.l2Coverage);
  const needed = (size + coverage - 1n) / coverage;
  if (BigInt(metadata.l1Size) < needed) {
    refuse('l1_size', `l1_size is ${metadata.l1Size}; the virtual size needs ${needed} entries.`);
  }
  const extensionProblem = metadata.problems.find(({ structure }) => structure === 'header extension');
  if (extensionProblem) {
    throw invalidFormat(source.name, 'header extension', extensionProblem.hostOffset, extensionProblem.message);
  }

  const fileLength = Math.ceil(source.size / SECTOR) * SECTOR;
  const wholeSectors = size / BigInt(SECTOR);
  return {
    metadata,
    clusterBits,
    clusterSize,
    fileLength,
    fileClusters: Math.ceil(fileLength / clusterSize),
    totalClusters: Number((wholeSectors * BigInt(SECTOR) + BigInt(clusterSize) - 1n) / BigInt(clusterSize)),
    refcountMax: 2 ** metadata.refcountBits - 1,
    bitmaps: bitmapsOf(metadata, clusterSize),
    encryptionHeader: encryptionOf(metadata, clusterSize, cryptMethod),
  };
}

function requireVersion3(
  { header, incompatibleFeatures, autoclearFeatures, headerLength, extensions }: Qcow2Metadata,
  clusterSize: number,
  refuse: (field: Parameters<Qcow2Metadata['header']['field']>[0], what: string, make?: typeof unsupported) => never,
): void {
  if (headerLength < 104 || headerLength > clusterSize) {
    refuse('header_length', `header_length is ${headerLength}; it must be at least 104 and at most a cluster.`);
  }
  const compression = headerLength > header.field('compression_type').offset ? header.number('compression_type') : 0;
  if (!(compression in COMPRESSION_TYPES)) {
    refuse('compression_type', `Compression type ${compression} is unknown.`, unsupported);
  }
  if ((compression !== 0) !== ((incompatibleFeatures & FEATURE.compressionType) !== 0n)) {
    refuse('compression_type', 'The compression type feature bit and compression_type contradict each other.');
  }
  const unknown = unknownFeatures(incompatibleFeatures, extensions);
  if (unknown !== null) {
    refuse('incompatible_features', unknown, unsupported);
  }
  if ((incompatibleFeatures & FEATURE.extendedL2) !== 0n && clusterSize < 2 ** LIMITS.minExtendedL2ClusterBits) {
    refuse('cluster_bits', 'Extended L2 entries need clusters of 16 KiB or more.', unsupported);
  }
  if (header.number('refcount_order') > 6) {
    refuse('refcount_order', `refcount_order is ${header.number('refcount_order')}; it must be at most 6 (64 bits).`);
  }
  if ((autoclearFeatures & AUTOCLEAR.rawExternalData) !== 0n && (incompatibleFeatures & FEATURE.externalDataFile) === 0n) {
    refuse('autoclear_features', 'Raw external data is announced, but the image has no external data file.');
  }
}

function lastExtension(metadata: Qcow2Metadata, type: number): Qcow2Extension | undefined {
  return metadata.extensions.findLast((extension) => extension.type === type);
}

function bitmapsOf(metadata: Qcow2Metadata, clusterSize: number): CheckedImage['bitmaps'] {
  const found = lastExtension(metadata, EXTENSION.bitmaps);
  if (!found) {
    return null;
  }
  const refuse = (at: number, what: string): never => {
    throw invalidFormat(metadata.source.name, 'bitmaps extension', found.hostOffset + at, what);
  };
  if (found.length !== BITMAPS_EXTENSION.length) {
    refuse(4, `Its length is ${found.length}; it must be ${BITMAPS_EXTENSION.length}.`);
  }
  if ((metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
    // A program that does not know bitmaps has written to the image since: they are void, and their clusters are leaks.
    return null;
  }
  const fields = new Decoded(BITMAPS_EXTENSION, found.data);
  const count = fields.number('nb_bitmaps');
  const directoryOffset = fields.bigint('bitmap_directory_offset');
  const directorySize = fields.number('bitmap_directory_size');
  if (fields.number('reserved') !== 0) {
    refuse(12, 'Its reserved field is not zero.');
  }
  if (count === 0 || count > LIMITS.maxBitmaps) {
    refuse(8, `It announces ${count} bitmaps; there must be 1 to ${LIMITS.maxBitmaps}.`);
  }
  if (directoryOffset % BigInt(clusterSize) !== 0n) {
    refuse(24, `The bitmap directory offset ${directoryOffset} is not aligned to a cluster.`);
  }
  if (directorySize > 1024 * LIMITS.maxBitmaps) {
    refuse(16, `The bitmap directory of ${fields.bigint('bitmap_directory_size')} bytes is too large.`);
  }
  return { count, directoryOffset, directorySize };
}

function encryptionOf(metadata: Qcow2Metadata, clusterSize: number, cryptMethod: number): CheckedImage['encryptionHeader'] {
  const found = lastExtension(metadata, EXTENSION.encryption);
  if (!found) {
    return null;
  }
  const refuse = (what: string): never => {
    throw invalidFormat(metadata.source.name, 'full disk encryption header pointer', found.hostOffset, what);
  };
  if (cryptMethod !== 2) {
    refuse('The image is not encrypted with LUKS.');
  }
  if (found.length !== ENCRYPTION_EXTENSION.length) {
    refuse(`Its length is ${found.length}; it must be ${ENCRYPTION_EXTENSION.length}.`);
  }
  const fields = new Decoded(ENCRYPTION_EXTENSION, found.data);
  if (fields.bigint('offset') % BigInt(clusterSize) !== 0n) {
    refuse(`The encryption header offset ${fields.bigint('offset')} is not aligned to a cluster.`);
  }
  return { offset: fields.bigint('offset'), length: fields.bigint('length') };
}
