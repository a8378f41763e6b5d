import { EngineError } from '../../../errors';
import { readPadded, type ByteSource } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import { encode } from '../../../layout/codec';
import { concatenate, concatenatePadded } from '../../../layout/concatenate';
import type { Qcow2Metadata } from '../metadata';
import {
  AUTOCLEAR_FEATURES,
  COMPATIBLE_FEATURES,
  EXTENSION,
  EXTENSION_HEADER,
  FEATURE_NAME_ENTRY,
  INCOMPATIBLE_FEATURES,
  QCOW2_HEADER,
  V2_HEADER_LENGTH,
} from '../structures';

type FieldName = (typeof QCOW2_HEADER.fields)[number]['name'];

/** Fields that are known from the rest of a header and never given: where the backing file's name lies, and how long things are. */
type DerivedField = 'backing_file_offset' | 'backing_file_size' | 'header_length' | 'padding';

export type HeaderFields = Readonly<Record<Exclude<FieldName, DerivedField>, bigint>>;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** All that a qcow2 image's first cluster says. Version 2 has none of the fields behind `snapshots_offset`; they are 0 then. */
export interface HeaderContents {
  readonly fields: HeaderFields;
  /** Header fields behind those that are known, as they stand in the file; a multiple of 8 bytes. */
  readonly unknownFields: Uint8Array;
  /** All but the end marker and the feature name table, which is made anew. At most one of each known type. */
  readonly extensions: readonly HeaderExtension[];
  /** The bytes of the backing file's name as recorded; null without one. */
  readonly backingName: Uint8Array | null;
}

/** A person who reads the table has the names in the words that QEMU writes. */
const FEATURE_NAMES: readonly { readonly type: number; readonly names: readonly string[] }[] = [
  { type: 0, names: ['dirty bit', 'corrupt bit', ...INCOMPATIBLE_FEATURES.slice(2).map(({ name }) => name)] },
  { type: 1, names: COMPATIBLE_FEATURES.map(({ name }) => name) },
  { type: 2, names: AUTOCLEAR_FEATURES.map(({ name }) => name) },
];

/** In smaller clusters the table would leave no room for names. */
const LEAST_CLUSTER_FOR_FEATURE_NAMES = 8192;

/** QEMU's order of the extensions that it knows; those that nobody here knows follow. */
const ORDER: readonly number[] = [
  EXTENSION.backingFormat,
  EXTENSION.dataFile,
  EXTENSION.encryption,
  EXTENSION.featureNames,
  EXTENSION.bitmaps,
];

/** The header of an image as it stands, to be changed and written again with nothing lost. */
export function headerContents(metadata: Qcow2Metadata): HeaderContents {
  const { header, version, headerLength, source, backingFile } = metadata;
  const modern = version >= 3;
  const value = (name: FieldName) => {
    const field = QCOW2_HEADER.fields.find((declared) => declared.name === name);
    return field && 'since' in field && (!modern || field.offset >= headerLength) ? 0n : header.bigint(name);
  };
  return {
    fields: {
      magic: value('magic'),
      version: value('version'),
      cluster_bits: value('cluster_bits'),
      size: value('size'),
      crypt_method: value('crypt_method'),
      l1_size: value('l1_size'),
      l1_table_offset: value('l1_table_offset'),
      refcount_table_offset: value('refcount_table_offset'),
      refcount_table_clusters: value('refcount_table_clusters'),
      nb_snapshots: value('nb_snapshots'),
      snapshots_offset: value('snapshots_offset'),
      incompatible_features: value('incompatible_features'),
      compatible_features: value('compatible_features'),
      autoclear_features: value('autoclear_features'),
      refcount_order: modern ? value('refcount_order') : 4n,
      compression_type: value('compression_type'),
    },
    unknownFields: modern && headerLength > QCOW2_HEADER.length ? readUnknownFields(source, headerLength, metadata.clusterSize) : NONE,
    extensions: metadata.extensions
      .filter(({ type }) => type !== EXTENSION.end && type !== EXTENSION.featureNames)
      .map(({ type, data }) => ({ type, data })),
    backingName: backingFile ? readPadded(source, backingFile.hostOffset, backingFile.length) : null,
  };
}

const NONE = new Uint8Array(0);

function readUnknownFields(source: ByteSource, headerLength: number, clusterSize: number): Uint8Array {
  return readPadded(source, QCOW2_HEADER.length, Math.min(headerLength, clusterSize) - QCOW2_HEADER.length);
}

/** The contents with another extension of that type, or with none of it. */
export function withExtension(contents: HeaderContents, type: number, data: Uint8Array | null): HeaderContents {
  const others = contents.extensions.filter((extension) => extension.type !== type);
  return { ...contents, extensions: data ? [...others, { type, data }] : others };
}

/** The contents with other values of some fields. */
export function withFields(contents: HeaderContents, fields: Partial<HeaderFields>): HeaderContents {
  return { ...contents, fields: { ...contents.fields, ...fields } };
}

/**
 * The first cluster of the image, whole; what the header does not use is zero.
 * @throws EngineError `request.invalid` when it does not fit the cluster
 * @param file how messages call the image
 */
export function encodeHeader(contents: HeaderContents, file: string): Uint8Array {
  const { fields, unknownFields, backingName } = contents;
  const modern = fields.version >= 3n;
  const clusterSize = 2 ** Number(fields.cluster_bits);
  const headerLength = modern ? QCOW2_HEADER.length + unknownFields.length : V2_HEADER_LENGTH;
  const extensions = [...contents.extensions];
  if (modern && clusterSize >= LEAST_CLUSTER_FOR_FEATURE_NAMES) {
    extensions.push({ type: EXTENSION.featureNames, data: featureNameTable() });
  }
  const rank = ({ type }: HeaderExtension) => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  extensions.sort((a, b) => rank(a) - rank(b));
  const tail = concatenate([...extensions, { type: EXTENSION.end, data: NONE }].map(encodeExtension));
  const nameOffset = headerLength + tail.length;
  const used = nameOffset + (backingName?.length ?? 0);
  if (used > clusterSize) {
    throw headerFull(file, used, clusterSize);
  }
  const known = encode(QCOW2_HEADER, {
    ...fields,
    header_length: headerLength,
    backing_file_offset: backingName ? nameOffset : 0,
    backing_file_size: backingName?.length ?? 0,
  });
  const cluster = new Uint8Array(clusterSize);
  cluster.set(known.subarray(0, Math.min(headerLength, known.length)));
  if (modern) {
    cluster.set(unknownFields, QCOW2_HEADER.length);
  }
  cluster.set(tail, headerLength);
  if (backingName) {
    cluster.set(backingName, nameOffset);
  }
  return cluster;
}

/**
 * Writes the header where it differs from what stands in the file, in whole sectors: a change of fields alone is one sector, which a disk
 * keeps or loses as a whole. Flushed before and after: what the header names is on the disk before it, and whoever frees what it named
 * before comes after it.
 * @throws EngineError `request.invalid` when it does not fit, `file.io`
 */
export async function writeHeader(storage: Storage, contents: HeaderContents): Promise<void> {
  const next = encodeHeader(contents, storage.name);
  const current = readPadded(storage, 0, next.length);
  let first = -1;
  let last = -1;
  for (let sector = 0; sector < next.length / SECTOR; sector++) {
    const start = sector * SECTOR;
    for (let at = start; at < start + SECTOR; at++) {
      if (next[at] !== current[at]) {
        first = first < 0 ? sector : first;
        last = sector;
        break;
      }
    }
  }
  await storage.flush();
  if (first >= 0) {
    await storage.write(next.subarray(first * SECTOR, (last + 1) * SECTOR), first * SECTOR);
    await storage.flush();
  }
}

const SECTOR = 512;

function encodeExtension({ type, data }: HeaderExtension): Uint8Array {
  return concatenate([encode(EXTENSION_HEADER, { type, length: data.length }), concatenatePadded(8, data)]);
}

function featureNameTable(): Uint8Array {
  const encoder = new TextEncoder();
  return concatenate(
    FEATURE_NAMES.flatMap(({ type, names }) =>
      names.map((name, bit) => encode(FEATURE_NAME_ENTRY, { type, bit, name: encoder.encode(name) })),
    ),
  );
}

function headerFull(file: string, used: number, clusterSize: number): EngineError {
  return new EngineError('request.invalid', `${file}: The header needs ${used} bytes; the first cluster has ${clusterSize}.`, {
    file,
    structure: QCOW2_HEADER.title,
    hostOffset: 0,
    remedy: 'Use a shorter name, or an image with larger clusters.',
  });
}
