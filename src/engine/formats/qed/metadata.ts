import { invalidFormat, unsupported } from '../../errors';
import { Decoded } from '../../layout/codec';
import { WordTable } from '../../layout/wordTable';
import { readAvailable, readPadded, type ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import { rawVirtualSize } from '../raw/size';
import { QED_FEATURE, QED_HEADER, QED_LIMITS, QED_MAGIC } from './structures';

/** Everything a QED header says, read leniently; what is wrong stands in `problems`. */
export interface QedMetadata {
  readonly source: ByteSource;
  readonly header: Decoded<(typeof QED_HEADER.fields)[number]['name']>;
  /** Bytes. */
  readonly clusterSize: number;
  /** Bytes of one L1 or L2 table. */
  readonly tableBytes: number;
  /** Entries in one table. */
  readonly tableEntries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  readonly l1TableOffset: number;
  /** Virtual disk size in bytes. */
  readonly size: number;
  readonly headerBytes: number;
  readonly features: bigint;
  readonly needCheck: boolean;
  readonly backingFile: { readonly name: string; readonly hostOffset: number; readonly length: number } | null;
  /** `raw` when the header forbids probing; null otherwise: QED records nothing else. */
  readonly backingFormat: 'raw' | null;
  readonly tablesReadable: boolean;
  readonly problems: readonly Problem[];
}

/** Reads the header and the backing file name. Never throws on content; I/O errors pass through. */
export function readQedMetadata(source: ByteSource): QedMetadata {
  const header: QedMetadata['header'] = new Decoded(QED_HEADER, readAvailable(source, 0, QED_HEADER.length));
  const problems: Problem[] = [];
  const report = (field: (typeof QED_HEADER.fields)[number]['name'], message: string) => {
    problems.push({ severity: 'error', structure: 'QED header', field, hostOffset: header.field(field).offset, message });
  };
  const clusterSize = header.number('cluster_size');
  const tableSize = header.number('table_size');
  const size = header.number('image_size');
  const l1TableOffset = header.number('l1_table_offset');
  const features = header.bigint('features');
  const headerBytes = header.number('header_size') * clusterSize;
  const magicValid = header.number('magic') === QED_MAGIC;
  const clusterValid = isPowerOfTwo(clusterSize) && clusterSize >= QED_LIMITS.minClusterSize && clusterSize <= QED_LIMITS.maxClusterSize;
  const tableValid = isPowerOfTwo(tableSize) && tableSize <= QED_LIMITS.maxTableSize;
  if (!magicValid) {
    report('magic', 'The file does not begin with the QED magic "QED\\0".');
  }
  if (header.bytes.length < QED_HEADER.length) {
    report('magic', `The file ends inside the header, after ${header.bytes.length} bytes.`);
  }
  if (!clusterValid) {
    report('cluster_size', `cluster_size is ${clusterSize}; it must be a power of two from 4096 to 67108864.`);
  }
  if (!tableValid) {
    report('table_size', `table_size is ${tableSize}; it must be 1, 2, 4, 8 or 16.`);
  }
  if ((features & ~QED_FEATURE.known) !== 0n) {
    report('features', `Unknown feature bits 0x${(features & ~QED_FEATURE.known).toString(16)} are set.`);
  }
  const tableEntries = clusterValid && tableValid ? (clusterSize * tableSize) / 8 : 8192;
  const l2Coverage = tableEntries * clusterSize;
  if (size % QED_LIMITS.sectorSize !== 0 || (clusterValid && tableValid && size > tableEntries * l2Coverage)) {
    report(
      'image_size',
      `image_size is ${header.bigint('image_size')}; it must be a multiple of 512 and at most ${tableEntries * l2Coverage}.`,
    );
  }
  // As QEMU has it: the table's last cluster begins inside the file, and is not its first (which the specification would allow).
  const lastTableCluster = l1TableOffset + tableEntries * 8 - clusterSize;
  const end = rawVirtualSize(source.size);
  if (
    clusterValid &&
    (l1TableOffset % clusterSize !== 0 || l1TableOffset < headerBytes || lastTableCluster <= l1TableOffset || lastTableCluster >= end)
  ) {
    report('l1_table_offset', `No L1 table of ${tableEntries * 8} bytes can lie at l1_table_offset ${header.bigint('l1_table_offset')}.`);
  }
  let backingFile: QedMetadata['backingFile'] = null;
  if ((features & QED_FEATURE.backingFile) !== 0n) {
    const hostOffset = header.number('backing_filename_offset');
    const length = header.number('backing_filename_size');
    if (length > 1023 || hostOffset + length > headerBytes) {
      report('backing_filename_size', `The backing file name of ${length} bytes at ${hostOffset} does not fit the header.`);
    } else {
      backingFile = { name: new TextDecoder('utf-8').decode(readAvailable(source, hostOffset, length)), hostOffset, length };
    }
  }
  return {
    source,
    header,
    clusterSize,
    tableEntries,
    l2Coverage,
    l1TableOffset,
    size,
    headerBytes,
    features,
    backingFile,
    problems,
    tableBytes: tableEntries * 8,
    needCheck: (features & QED_FEATURE.needCheck) !== 0n,
    backingFormat: (features & QED_FEATURE.backingFormatNoProbe) !== 0n ? 'raw' : null,
    tablesReadable: magicValid && clusterValid && tableValid,
  };
}

/** @throws EngineError `format.invalid` or `format.unsupported` for the first problem, as QEMU's driver refuses */
export function requireOpenableQed(metadata: QedMetadata): void {
  const problem = metadata.problems.find(({ severity }) => severity === 'error');
  if (problem) {
    const make = problem.field === 'features' ? unsupported : invalidFormat;
    throw make(metadata.source.name, problem.structure, problem.hostOffset, problem.message);
  }
}

/** Loads the L1 table, or an L2 table at `hostOffset`; what lies past the end of the file reads as zero (unallocated). */
export function loadQedTable(metadata: QedMetadata, hostOffset: number): WordTable {
  const inside = hostOffset < metadata.source.size;
  return new WordTable(inside ? readPadded(metadata.source, hostOffset, metadata.tableBytes) : new Uint8Array(0), hostOffset, 'little');
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && value < 2 ** 31 && (value & (value - 1)) === 0;
}
