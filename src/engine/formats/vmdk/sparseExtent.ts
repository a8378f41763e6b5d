import { readAvailable, type ByteSource } from '../../io/source';
import { Decoded } from '../../layout/codec';
import type { Problem } from '../problem';
import { VMDK_MAGIC, VMDK_SPARSE_HEADER } from './structures';

/** A hosted sparse extent: a file of grains with a directory of tables that map them. */
export interface SparseExtent {
  readonly source: ByteSource;
  /** Guest bytes. */
  readonly capacity: number;
  /** Bytes. */
  readonly grainSize: number;
  /** Entries of one grain table. */
  readonly tableEntries: number;
  /** Byte offset in the file. */
  readonly directoryOffset: number;
  readonly directoryEntries: number;
  readonly compressed: boolean;
  /** A grain's compressed bytes begin with a marker that says how many they are. */
  readonly hasMarkers: boolean;
  /** An entry of 1 is a grain of zeroes. */
  readonly hasZeroGrains: boolean;
  /** What QEMU would not open it for; the numbers above are then not to be used. */
  readonly problem: Problem | null;
}

const SECTOR = 512;
const FLAG = { zeroGrains: 1 << 2, markers: 1 << 17 } as const;
const DEFLATE = 1;
const FOOTER_MARKER = 3;
/** The directory is told by the footer. */
const AT_END = 0xffffffffffffffffn;
/** QEMU's limits. */
const LIMITS = { version: 3, tableEntries: 512, grainSectors: 0x200000, directoryEntries: 32 * 1024 * 1024 } as const;
/** Whole grains are decompressed in memory; real ones have 64 KiB. */
const MAX_COMPRESSED_GRAIN = 64 * 1024 * 1024;

/** Reads an extent's header, and its footer where that counts. Never throws on content. @throws EngineError `file.io` */
export function readSparseExtent(source: ByteSource): SparseExtent {
  const head = decode(source, 0);
  const atEnd = head.bigint('gdOffset') === AT_END;
  // Footer marker, footer, and the marker of the stream's end, a sector each.
  const footerOffset = Math.ceil(source.size / SECTOR) * SECTOR - 2 * SECTOR;
  const hostOffset = atEnd ? footerOffset : 0;
  const header = atEnd ? decode(source, footerOffset) : head;
  const grainSectors = header.number('grainSize');
  const tableEntries = header.number('numGTEsPerGT');
  const capacity = header.number('capacity') * SECTOR;
  const covered = grainSectors * SECTOR * tableEntries;
  const flags = header.number('flags');
  const compressed = header.number('compressAlgorithm') === DEFLATE;
  const extent = {
    source,
    capacity,
    tableEntries,
    compressed,
    grainSize: grainSectors * SECTOR,
    directoryOffset: header.number('gdOffset') * SECTOR,
    directoryEntries: Math.ceil(capacity / covered),
    hasMarkers: (flags & FLAG.markers) !== 0,
    hasZeroGrains: (flags & FLAG.zeroGrains) !== 0,
  };
  const wrong = (field: (typeof VMDK_SPARSE_HEADER.fields)[number]['name'], message: string): SparseExtent => ({
    ...extent,
    problem: {
      severity: 'error',
      structure: atEnd ? 'VMDK footer' : header.structure.title,
      field,
      hostOffset: hostOffset + header.field(field).offset,
      message,
    },
  });
  if (head.number('magicNumber') !== VMDK_MAGIC) {
    return wrong('magicNumber', 'The extent does not begin with "KDMV".');
  }
  if (atEnd && (footerOffset < SECTOR || header.number('magicNumber') !== VMDK_MAGIC || !hasFooterMarkers(source, footerOffset))) {
    return wrong('magicNumber', 'The footer that the header refers to is not there.');
  }
  if (header.number('version') > LIMITS.version) {
    return wrong('version', `Version ${header.number('version')} is not supported; the latest known is ${LIMITS.version}.`);
  }
  if (tableEntries === 0 || tableEntries > LIMITS.tableEntries) {
    return wrong('numGTEsPerGT', `A grain table of ${tableEntries} entries is not possible; it has 1 to ${LIMITS.tableEntries}.`);
  }
  if (grainSectors === 0 || grainSectors > LIMITS.grainSectors || (compressed && extent.grainSize > MAX_COMPRESSED_GRAIN)) {
    return wrong('grainSize', `A grain of ${header.bigint('grainSize')} sectors is not supported.`);
  }
  if (!Number.isSafeInteger(capacity)) {
    return wrong('capacity', 'The capacity is past 2^53-1 bytes.');
  }
  if (extent.directoryEntries > LIMITS.directoryEntries) {
    return wrong('capacity', `A grain directory of ${extent.directoryEntries} entries is too large.`);
  }
  if (!Number.isSafeInteger(extent.directoryOffset)) {
    return wrong('gdOffset', 'The grain directory lies past 2^53-1 bytes.');
  }
  if (extent.directoryOffset === 0) {
    return wrong('gdOffset', 'The grain directory lies on the header.');
  }
  if (Math.ceil(source.size / SECTOR) < header.number('overHead')) {
    return wrong('overHead', `The file is truncated: it has fewer than ${header.bigint('overHead')} sectors.`);
  }
  return { ...extent, problem: null };
}

function decode(source: ByteSource, hostOffset: number): Decoded<(typeof VMDK_SPARSE_HEADER.fields)[number]['name']> {
  const at = Math.max(0, hostOffset);
  return new Decoded(VMDK_SPARSE_HEADER, readAvailable(source, at, VMDK_SPARSE_HEADER.length));
}

/** A marker is: a sector count, the size of the data behind it, and where that is 0 a type. */
function hasFooterMarkers(source: ByteSource, footerOffset: number): boolean {
  const footer = readAvailable(source, footerOffset - SECTOR, 16);
  const end = readAvailable(source, footerOffset + SECTOR, 16);
  const view = new DataView(footer.buffer, footer.byteOffset, footer.length);
  return (
    footer.length === 16 && view.getUint32(8, true) === 0 && view.getUint32(12, true) === FOOTER_MARKER && end.every((byte) => byte === 0)
  );
}
