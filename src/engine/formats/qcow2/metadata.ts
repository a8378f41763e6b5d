import type { EngineError } from '../../errors';
import { invalidFormat, unsupported } from '../../errors';
import { Decoded } from '../../layout/codec';
import { readAvailable, type ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import { readExtensions, type Qcow2Extension } from './extensions';
import { unknownFeatures } from './featureNames';
import {
  AUTOCLEAR,
  COMPATIBLE,
  COMPRESSION_TYPES,
  CRYPT_METHODS,
  EXTENSION,
  FEATURE,
  LIMITS,
  QCOW2_HEADER,
  QCOW2_MAGIC,
  V2_HEADER_LENGTH,
} from './structures';

export type Qcow2HeaderFields = Decoded<(typeof QCOW2_HEADER.fields)[number]['name']>;

/**
 * Everything that a qcow2 header and its extensions say, read leniently: nothing is refused here, what is wrong stands in `problems`.
 * Numbers that come from hostile fields may be absurd (`Infinity` past 2^53-1); `tablesReadable` says whether tables can be walked at
 * all, and readers cap what they read by the file's size and the format's limits.
 */
export interface Qcow2Metadata {
  readonly source: ByteSource;
  readonly header: Qcow2HeaderFields;
  readonly version: number;
  /** Virtual disk size in bytes. */
  readonly size: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly l1TableOffset: number;
  /** As the header says; the bytes actually read are capped (`loadL1`). */
  readonly l1Size: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountBits: number;
  readonly nbSnapshots: number;
  readonly snapshotsOffset: number;
  readonly incompatibleFeatures: bigint;
  readonly compatibleFeatures: bigint;
  readonly autoclearFeatures: bigint;
  readonly headerLength: number;
  readonly cryptMethod: number;
  readonly compressionType: 'zlib' | 'zstd' | 'unknown';
  readonly extendedL2: boolean;
  /** Bytes per L2 entry: 8, or 16 with extended L2. */
  readonly l2EntryBytes: number;
  /** Entries in one L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  /** Entries in one refcount block. */
  readonly refcountBlockEntries: number;
  readonly hasDataFile: boolean;
  readonly rawDataFile: boolean;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly lazyRefcounts: boolean;
  readonly extensions: readonly Qcow2Extension[];
  readonly backingFile: { readonly name: string; readonly hostOffset: number; readonly length: number } | null;
  /** From the backing format extension; null when it is not recorded. */
  readonly backingFormat: string | null;
  readonly dataFileName: string | null;
  /** Whether cluster size and refcount width make sense, so that tables can be walked. */
  readonly tablesReadable: boolean;
  readonly problems: readonly Problem[];
}

const HEADER = 'qcow2 header';

/** Reads header, extensions and backing file name. Never throws on content; I/O errors pass through. */
export function readQcow2Metadata(source: ByteSource): Qcow2Metadata {
  const header: Qcow2HeaderFields = new Decoded(QCOW2_HEADER, readAvailable(source, 0, QCOW2_HEADER.length));
  const problems: Problem[] = [];
  const report = (
    field: (typeof QCOW2_HEADER.fields)[number]['name'] | undefined,
    message: string,
    severity: Problem['severity'] = 'error',
  ) => {
    problems.push({ severity, structure: HEADER, field, hostOffset: field ? header.field(field).offset : 0, message });
  };

  const version = header.number('version');
  const modern = version >= 3;
  const headerLength = modern ? header.number('header_length') : V2_HEADER_LENGTH;
  const feature = (name: 'incompatible_features' | 'compatible_features' | 'autoclear_features') => (modern ? header.bigint(name) : 0n);
  const incompatibleFeatures = feature('incompatible_features');
  const compatibleFeatures = feature('compatible_features');
  const autoclearFeatures = feature('autoclear_features');
  const refcountOrder = modern ? header.number('refcount_order') : 4;
  const clusterBits = header.number('cluster_bits');
  const extendedL2 = (incompatibleFeatures & FEATURE.extendedL2) !== 0n;
  const clusterBitsValid = clusterBits >= LIMITS.minClusterBits && clusterBits <= LIMITS.maxClusterBits;
  const clusterSize = clusterBitsValid ? 2 ** clusterBits : 65536;
  const l2EntryBytes = extendedL2 ? 16 : 8;
  const refcountBits = refcountOrder <= 6 ? 2 ** refcountOrder : 16;

  if (header.number('magic') !== QCOW2_MAGIC) {
    report('magic', 'The file does not begin with the qcow2 magic "QFI\\xfb".');
  }
  if (version !== 2 && version !== 3) {
    report('version', `Version ${version} is not a qcow2 version (2 or 3).`);
  }
  if (header.bytes.length < (modern ? 104 : V2_HEADER_LENGTH)) {
    report(undefined, `The file ends inside the header, after ${header.bytes.length} bytes.`);
  }
  if (!clusterBitsValid) {
    report('cluster_bits', `cluster_bits is ${clusterBits}; it must be 9 to 21.`);
  } else if (extendedL2 && clusterBits < LIMITS.minExtendedL2ClusterBits) {
    report('cluster_bits', `cluster_bits is ${clusterBits}; extended L2 entries need at least 14.`);
  }
  if (modern && (headerLength < 104 || headerLength % 8 !== 0)) {
    report('header_length', `header_length is ${headerLength}; it must be at least 104 and a multiple of 8.`);
  } else if (clusterBitsValid && headerLength > clusterSize) {
    report('header_length', `header_length is ${headerLength}, more than a cluster.`);
  }
  if (refcountOrder > 6) {
    report('refcount_order', `refcount_order is ${refcountOrder}; it must be at most 6 (64 bits).`);
  }
  const backingProblems: Problem[] = [];
  const backing = readBackingFileName(source, header, clusterSize, backingProblems);
  const { extensions, problems: extensionProblems } = readExtensions(source, headerLength, backing?.hostOffset ?? clusterSize, clusterSize);
  const unknown = unknownFeatures(incompatibleFeatures, extensions);
  if (unknown !== null) {
    report('incompatible_features', unknown);
  }
  const compression = modern && headerLength >= 112 ? header.number('compression_type') : 0;
  if (!(compression in COMPRESSION_TYPES)) {
    report('compression_type', `Compression type ${compression} is unknown.`);
  } else if ((compression !== 0) !== ((incompatibleFeatures & FEATURE.compressionType) !== 0n)) {
    report('compression_type', 'The compression type feature bit and compression_type contradict each other.');
  }
  const cryptMethod = header.number('crypt_method');
  if (!(cryptMethod in CRYPT_METHODS)) {
    report('crypt_method', `Encryption method ${cryptMethod} is unknown.`);
  }

  const size = header.number('size');
  const l1Size = header.number('l1_size');
  const l1TableOffset = header.number('l1_table_offset');
  const l2Entries = clusterSize / l2EntryBytes;
  const l2Coverage = l2Entries * clusterSize;
  if (size === Infinity) {
    report('size', `The virtual size ${header.bigint('size')} is past 2^53-1 bytes.`);
  }
  if (l1Size * 8 > LIMITS.maxL1Bytes) {
    report('l1_size', `l1_size is ${l1Size}; an active L1 table has at most ${LIMITS.maxL1Bytes / 8} entries.`);
  } else if (clusterBitsValid && l1Size < Math.ceil(size / l2Coverage)) {
    report('l1_size', `l1_size is ${l1Size}; the virtual size needs ${Math.ceil(size / l2Coverage)} entries.`);
  }
  const aligned = (
    field: 'l1_table_offset' | 'refcount_table_offset' | 'snapshots_offset',
    value: number,
    length: number,
    used: boolean,
  ) => {
    if (!used || !clusterBitsValid) {
      return;
    }
    if (value % clusterSize !== 0) {
      report(field, `${field} ${value} is not aligned to a cluster (${clusterSize} bytes).`);
    } else if (value + length >= LIMITS.maxHostOffset) {
      report(field, `${field} ${header.bigint(field)} lies past the format's limit.`);
    } else if (value >= source.size) {
      report(field, `${field} ${value} lies past the end of the file (${source.size} bytes).`, 'warning');
    } else if (value === 0) {
      report(field, `${field} is 0, which is the header's own cluster.`, 'warning');
    }
  };
  const refcountTableOffset = header.number('refcount_table_offset');
  const refcountTableClusters = header.number('refcount_table_clusters');
  const nbSnapshots = header.number('nb_snapshots');
  const snapshotsOffset = header.number('snapshots_offset');
  aligned('l1_table_offset', l1TableOffset, l1Size * 8, l1Size > 0);
  aligned('refcount_table_offset', refcountTableOffset, refcountTableClusters * clusterSize, true);
  aligned('snapshots_offset', snapshotsOffset, 0, nbSnapshots > 0);
  if (refcountTableClusters === 0) {
    report('refcount_table_clusters', 'The image has no refcount table.');
  } else if (refcountTableClusters * clusterSize > LIMITS.maxRefcountTableBytes) {
    report('refcount_table_clusters', `The refcount table of ${refcountTableClusters} clusters is too large (limit 8 MiB).`);
  }
  if (nbSnapshots > LIMITS.maxSnapshots) {
    report('nb_snapshots', `${nbSnapshots} snapshots are too many (limit ${LIMITS.maxSnapshots}).`);
  }

  problems.push(...backingProblems, ...extensionProblems);
  const textOf = (type: number) => {
    // Of several QEMU goes by the last one.
    const found = extensions.findLast((extension) => extension.type === type);
    return found ? decodeText(found.data) : null;
  };
  const hasDataFile = (incompatibleFeatures & FEATURE.externalDataFile) !== 0n;

  return {
    source,
    header,
    version,
    size,
    clusterBits,
    clusterSize,
    l1TableOffset,
    l1Size,
    refcountTableOffset,
    refcountTableClusters,
    refcountBits,
    nbSnapshots,
    snapshotsOffset,
    incompatibleFeatures,
    compatibleFeatures,
    autoclearFeatures,
    headerLength,
    cryptMethod,
    extendedL2,
    l2EntryBytes,
    l2Entries,
    l2Coverage,
    hasDataFile,
    problems,
    compressionType: compression === 0 ? 'zlib' : compression === 1 ? 'zstd' : 'unknown',
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
    rawDataFile: (autoclearFeatures & AUTOCLEAR.rawExternalData) !== 0n,
    dirty: (incompatibleFeatures & FEATURE.dirty) !== 0n,
    corrupt: (incompatibleFeatures & FEATURE.corrupt) !== 0n,
    lazyRefcounts: (compatibleFeatures & COMPATIBLE.lazyRefcounts) !== 0n,
    extensions,
    backingFile: backing,
    backingFormat: textOf(EXTENSION.backingFormat),
    dataFileName: textOf(EXTENSION.dataFile),
    tablesReadable: clusterBitsValid && refcountOrder <= 6 && header.number('magic') === QCOW2_MAGIC,
  };
}

/**
 * Refuses what QEMU's driver refuses to open.
 * @throws EngineError `format.invalid` or `format.unsupported` for the first problem that is an error
 */
export function requireOpenable(metadata: Qcow2Metadata): void {
  const problem = metadata.problems.find(({ severity }) => severity === 'error');
  if (problem) {
    const make: (file: string, structure: string, hostOffset: number, what: string) => EngineError =
      problem.field === 'incompatible_features' || problem.field === 'version' ? unsupported : invalidFormat;
    throw make(metadata.source.name, problem.structure, problem.hostOffset, problem.message);
  }
}

/** File names and identifiers are bytes without a declared encoding; UTF-8 is what every tool writes. */
export function decodeText(bytes: Uint8Array): string {
  return new TextDecoder('utf-8').decode(bytes);
}

function readBackingFileName(
  source: ByteSource,
  header: Qcow2HeaderFields,
  clusterSize: number,
  problems: Problem[],
): Qcow2Metadata['backingFile'] {
  const hostOffset = header.number('backing_file_offset');
  const length = header.number('backing_file_size');
  if (hostOffset === 0) {
    return null;
  }
  const report = (field: 'backing_file_offset' | 'backing_file_size', message: string) => {
    problems.push({ severity: 'error', structure: HEADER, field, hostOffset: header.field(field).offset, message });
  };
  if (hostOffset > clusterSize) {
    report('backing_file_offset', `The backing file name at ${header.bigint('backing_file_offset')} lies outside the first cluster.`);
    return null;
  }
  if (length > Math.min(LIMITS.maxBackingFileName, clusterSize - hostOffset)) {
    report('backing_file_size', `The backing file name of ${length} bytes is too long.`);
    return null;
  }
  return { name: decodeText(readAvailable(source, hostOffset, length)), hostOffset, length };
}
