import { EngineError, invalidFormat, unsupported } from '../../errors';
import type { ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import type { MappedExtent } from './grainMap';
import { usedExtents, type VmdkExtent, type VmdkMetadata } from './metadata';
import { readSparseExtent } from './sparseExtent';

const SECTOR = 512;
/** Create types of descriptors with extents in files of their own that QEMU opens and that can be read here. */
const DESCRIPTOR_TYPES: readonly string[] = ['monolithicFlat', 'vmfs', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'];

/**
 * Which part of the disk lies where. Lenient: what is wrong with an extent stands in its place.
 * @param opened the files of `usedExtents`, null where one is not open
 * @throws EngineError `file.io`
 */
export function mapExtents(metadata: VmdkMetadata, opened: readonly (ByteSource | null)[]): MappedExtent[] {
  const { source, size, ownExtent } = metadata;
  if (size === 0) {
    return [];
  }
  if (ownExtent) {
    return [sparsePart(0, size, source)];
  }
  let start = 0;
  return usedExtents(metadata).map((extent, index) => {
    const part = extentPart(metadata, extent, start, opened[index] ?? null);
    start += extent.length;
    return part;
  });
}

function extentPart(metadata: VmdkMetadata, extent: VmdkExtent, start: number, source: ByteSource | null): MappedExtent {
  const { type, length, hostOffset, fileName } = extent;
  const unknown = (message: string, severity: Problem['severity'] = 'error'): MappedExtent => ({
    start,
    length,
    kind: 'unknown',
    source: null,
    problem: { severity, structure: 'VMDK descriptor', hostOffset: metadata.descriptor?.hostOffset ?? 0, message },
  });
  const name = fileName ?? '';
  switch (type) {
    case 'FLAT':
    case 'VMFS': {
      // Only the line of a FLAT extent says where in its file the data begins.
      const from = type === 'FLAT' ? hostOffset : (hostOffset ?? 0);
      if (from === null || (type === 'VMFS' && hostOffset !== null) || !Number.isSafeInteger(from + length)) {
        return unknown(`The line of the extent '${name}' does not say as it should where in its file the data begins.`);
      }
      if (!source) {
        return unknown(notOpen(name), 'warning');
      }
      return Math.ceil(source.size / SECTOR) * SECTOR < from + length
        ? unknown(`The file of the extent '${name}' is truncated: it has ${source.size} bytes, not ${from + length}.`)
        : { start, length, kind: 'flat', source, hostOffset: from };
    }
    case 'SPARSE':
      return source ? sparsePart(start, length, source) : unknown(notOpen(name), 'warning');
    default:
      return unknown(`Extents of the type '${type}' cannot be read.`);
  }
}

/** Why is told by the link to that file: of itself the descriptor is in order. */
function notOpen(fileName: string): string {
  return `The extent '${fileName}' is not open.`;
}

function sparsePart(start: number, length: number, source: ByteSource): MappedExtent {
  const sparse = readSparseExtent(source);
  const problem = sparse.problem ?? (sparse.capacity === length ? null : otherCapacity(source, sparse.capacity, length));
  return problem ? { start, length, kind: 'unknown', source: null, problem } : { start, length, kind: 'sparse', source, sparse };
}

function otherCapacity(source: ByteSource, capacity: number, length: number): Problem {
  const message = `The extent '${source.name}' holds ${capacity} bytes of the disk, not ${length} as is said of it.`;
  return { severity: 'error', structure: 'VMDK sparse extent header', field: 'capacity', hostOffset: 12, message };
}

/**
 * What keeps an image's data from being read, worst first; an extent that is not open is only a warning here.
 * @param extents as `mapExtents` gives them
 */
export function vmdkProblems(metadata: VmdkMetadata, extents: readonly MappedExtent[]): readonly Problem[] {
  const { ownExtent, createType, descriptor } = metadata;
  const problems = metadata.problems.filter(({ severity }) => severity === 'error');
  const wrong = (message: string): void => {
    problems.push({ severity: 'error', structure: 'VMDK descriptor', hostOffset: descriptor?.hostOffset ?? 0, message });
  };
  if (metadata.contentId === null || metadata.parentContentId === null) {
    wrong('It does not say the content ids of the disk and of its parent.');
  }
  if (!ownExtent && createType === null) {
    wrong('It does not say the create type.');
  }
  if (hasUnknownType(metadata)) {
    wrong(`Images of the create type '${createType ?? ''}' cannot be read.`);
  }
  const unknown = extents.flatMap((extent) => (extent.kind === 'unknown' ? [extent.problem] : []));
  return [...problems, ...unknown].sort((a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'));
}

function hasUnknownType({ ownExtent, createType }: VmdkMetadata): boolean {
  return !ownExtent && createType !== null && !DESCRIPTOR_TYPES.includes(createType);
}

/**
 * Refuses an image whose data cannot be read as a whole.
 * @throws EngineError `format.invalid`, `format.unsupported`
 */
export function requireReadableVmdk(metadata: VmdkMetadata, extents: readonly MappedExtent[]): void {
  const [problem] = vmdkProblems(metadata, extents);
  if (problem) {
    const refuse = hasUnknownType(metadata) ? unsupported : invalidFormat;
    throw refuse(metadata.source.name, problem.structure, problem.hostOffset, problem.message);
  }
}

/** Bytes of a grain of the image's first sparse extent; null when it has none that makes sense. */
export function grainSizeOf(metadata: VmdkMetadata, opened: readonly (ByteSource | null)[]): number | null {
  if (metadata.ownExtent) {
    return metadata.grainSize;
  }
  const source = opened[usedExtents(metadata).findIndex(({ type }, index) => type === 'SPARSE' && opened[index])];
  const extent = source ? readSparseExtent(source) : null;
  return extent && !extent.problem ? extent.grainSize : null;
}

/**
 * Refuses a parent that was changed since the image was made on it: what the image leaves to it is not what it was made of.
 * @param parent what the image's backing file is; null for one that is no VMDK
 * @throws EngineError `format.invalid`
 */
export function requireSameParent(metadata: VmdkMetadata, parent: VmdkMetadata | null): void {
  if (parent?.contentId !== metadata.parentContentId) {
    const file = metadata.source.name;
    const expected = (metadata.parentContentId ?? 0).toString(16).padStart(8, '0');
    const found = parent ? `has ${(parent.contentId ?? 0).toString(16).padStart(8, '0')}` : 'is no VMDK image';
    throw new EngineError(
      'format.invalid',
      `${file}: VMDK descriptor: The parent was changed after this image was made: it should have the content id ${expected} and ${found}.`,
      { file, structure: 'VMDK descriptor', remedy: 'Restore the parent as it was.' },
    );
  }
}
