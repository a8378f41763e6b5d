import { EngineError, invalidFormat, unsupported } from '../../errors';
import type { ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import type { MappedExtent } from './grainMap';
import { usedExtents, type VmdkExtent, type VmdkMetadata } from './metadata';
import { readSparseExtent } from './sparseExtent';

/** Create types of descriptors with extents in files of their own that QEMU opens and that can be read here. */
const DESCRIPTOR_TYPES: readonly string[] = ['monolithicFlat', 'vmfs', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'];

/**
 * Which part of the disk lies where. Lenient: what is wrong with an extent stands in its place.
 * @param opened the files of `usedExtents`, null where one is not open
 * @throws EngineError `file.io`
 */
export function mapExtents(metadata: VmdkMetadata, opened: readonly (ByteSource | null)[]): MappedExtent[] {
  const { source, size, ownExtent } = metadata;
  if (ownExtent) {
    return size === 0 ? [] : [sparsePart(0, size, source)];
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
  const wrong = (message: string): MappedExtent => ({
    start,
    length,
    kind: 'unknown',
    source: null,
    problem: inDescriptor(metadata, message),
  });
  if (!Number.isSafeInteger(start + length)) {
    return wrong('The extents reach past 2^53-1 bytes.');
  }
  switch (type) {
    case 'FLAT':
    case 'VMFS': {
      const from = type === 'VMFS' ? 0 : hostOffset;
      if (from === null || !Number.isSafeInteger(from + length)) {
        return wrong('The line of a flat extent does not say where in its file the data begins.');
      }
      return source ? { start, length, kind: 'flat', source, hostOffset: from } : wrong(`The extent '${fileName ?? ''}' is not open.`);
    }
    case 'SPARSE':
      return source ? sparsePart(start, length, source) : wrong(`The extent '${fileName ?? ''}' is not open.`);
    default:
      return wrong(`Extents of the type '${type}' cannot be read.`);
  }
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

function inDescriptor({ descriptor }: VmdkMetadata, message: string): Problem {
  return { severity: 'error', structure: 'VMDK descriptor', hostOffset: descriptor?.hostOffset ?? 0, message };
}

/**
 * Refuses an image whose data cannot be read as a whole.
 * @throws EngineError `format.invalid`, `format.unsupported`
 */
export function requireReadableVmdk(metadata: VmdkMetadata, extents: readonly MappedExtent[]): void {
  const { source, ownExtent, createType, descriptor, problems } = metadata;
  const wrong = problems.find(({ severity }) => severity === 'error');
  if (wrong) {
    throw invalidFormat(source.name, wrong.structure, wrong.hostOffset, wrong.message);
  }
  const at = descriptor?.hostOffset ?? 0;
  if (metadata.contentId === null || metadata.parentContentId === null) {
    throw invalidFormat(source.name, 'VMDK descriptor', at, 'It does not say the content ids of the disk and of its parent.');
  }
  if (!ownExtent && createType === null) {
    throw invalidFormat(source.name, 'VMDK descriptor', at, 'It does not say the create type.');
  }
  if (!ownExtent && createType !== null && !DESCRIPTOR_TYPES.includes(createType)) {
    throw unsupported(source.name, 'VMDK descriptor', at, `Images of the create type '${createType}' cannot be read.`);
  }
  for (const extent of extents) {
    if (extent.kind === 'unknown') {
      const { structure, hostOffset, message } = extent.problem;
      throw invalidFormat(source.name, structure, hostOffset, message);
    }
  }
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
