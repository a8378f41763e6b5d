import { Decoded } from '../../layout/codec';
import { readAvailable, type ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import { VMDK_MAGIC, VMDK_SPARSE_HEADER } from './structures';

/** One extent line of a descriptor. */
export interface VmdkExtent {
  readonly access: string;
  /** Bytes. */
  readonly length: number;
  readonly type: string;
  /** Null for ZERO extents. */
  readonly fileName: string | null;
  /** Where a flat extent's data begins in its file, in bytes; null where the line does not say. */
  readonly hostOffset: number | null;
}

/** What a VMDK's descriptor and sparse header say. */
export interface VmdkMetadata {
  readonly source: ByteSource;
  /** Null for a descriptor file without an extent of its own. */
  readonly header: Decoded<(typeof VMDK_SPARSE_HEADER.fields)[number]['name']> | null;
  readonly descriptor: { readonly text: string; readonly hostOffset: number } | null;
  readonly createType: string | null;
  readonly parentFileNameHint: string | null;
  /** Changes whenever the disk is written by somebody new; null when the descriptor does not say. */
  readonly contentId: number | null;
  /** The content id that the parent had when this image was made; 0xffffffff without a parent. */
  readonly parentContentId: number | null;
  /** The disk is this file itself, whatever the descriptor says of extents. */
  readonly ownExtent: boolean;
  readonly extents: readonly VmdkExtent[];
  /** Virtual disk size in bytes; 0 when nothing says. */
  readonly size: number;
  /** Bytes; null without a sparse header that says a usable one. */
  readonly grainSize: number | null;
  readonly problems: readonly Problem[];
}

const SECTOR = 512;
/** A descriptor is text of a few hundred bytes, and some fifty more for each extent; QEMU reads as much as this. */
const MAX_DESCRIPTOR = 2 ** 20 - 1;
/** A disk of 8 TiB, the largest that comes in extents of 2 GiB. Each is a file to be kept open. */
const MAX_EXTENTS = 4096;
export const VMDK_DESCRIPTOR_START = '# Disk DescriptorFile';

/** Reads the sparse header and the descriptor, embedded or as the file itself. Never throws on content. */
export function readVmdkMetadata(source: ByteSource): VmdkMetadata {
  const problems: Problem[] = [];
  const decoded = new Decoded(VMDK_SPARSE_HEADER, readAvailable(source, 0, VMDK_SPARSE_HEADER.length));
  const sparse = readAvailable(source, 0, 4).join() === '75,68,77,86';
  const header = sparse ? decoded : null;
  const descriptorOffset = header ? header.number('descriptorOffset') * SECTOR : 0;
  const declared = header ? header.number('descriptorSize') * SECTOR : source.size;
  const hasDescriptor = !header || (descriptorOffset > 0 && declared > 0);
  const text = hasDescriptor ? textUntilNul(readAvailable(source, descriptorOffset, Math.min(declared, MAX_DESCRIPTOR))) : null;
  if (hasDescriptor && !text?.startsWith(VMDK_DESCRIPTOR_START)) {
    problems.push({
      severity: 'warning',
      structure: 'VMDK descriptor',
      hostOffset: descriptorOffset,
      message: 'The descriptor does not begin with "# Disk DescriptorFile".',
    });
  }
  const ownExtent = header !== null && header.bigint('capacity') !== 0n;
  const { extents, problem } = parseExtents(text ?? '');
  const inDescriptor = (message: string): void => {
    problems.push({ severity: 'error', structure: 'VMDK descriptor', hostOffset: descriptorOffset, message });
  };
  if (!ownExtent && text?.length === MAX_DESCRIPTOR) {
    inDescriptor('The descriptor is longer than 1 MiB.');
  } else if (!ownExtent && problem !== null) {
    inDescriptor(problem);
  }
  const capacity =
    header && ownExtent ? header.number('capacity') * SECTOR : usedLines(extents).reduce((sum, { length }) => sum + length, 0);
  if (!Number.isSafeInteger(capacity)) {
    if (ownExtent) {
      const message = 'The capacity is past 2^53-1 bytes.';
      problems.push({ severity: 'error', structure: 'VMDK sparse extent header', field: 'capacity', hostOffset: 12, message });
    } else {
      inDescriptor('The extents reach past 2^53-1 bytes.');
    }
  }
  return {
    source,
    header,
    ownExtent,
    extents,
    problems,
    contentId: contentId(text, 'CID'),
    parentContentId: contentId(text, 'parentCID'),
    descriptor: text === null ? null : { text, hostOffset: descriptorOffset },
    createType: value(text, 'createType'),
    parentFileNameHint: value(text, 'parentFileNameHint'),
    size: Number.isSafeInteger(capacity) ? capacity : 0,
    grainSize: header ? usableGrain(header.number('grainSize') * SECTOR) : null,
  };
}

function usableGrain(bytes: number): number | null {
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : null;
}

/** The magic as a little-endian number at offset 0 ("KDMV"). */
export const VMDK_MAGIC_BYTES = [VMDK_MAGIC & 0xff, (VMDK_MAGIC >> 8) & 0xff, (VMDK_MAGIC >> 16) & 0xff, VMDK_MAGIC >>> 24] as const;

function textUntilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder('utf-8').decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function value(text: string | null, key: string): string | null {
  const line = text?.split('\n').find((candidate) => candidate.trim().toLowerCase().startsWith(`${key.toLowerCase()}=`));
  return line
    ? line
        .slice(line.indexOf('=') + 1)
        .trim()
        .replace(/^"|"$/g, '')
    : null;
}

/** The extents, or what keeps them from being told apart; then there are none. */
function parseExtents(text: string): { readonly extents: readonly VmdkExtent[]; readonly problem: string | null } {
  const extents: VmdkExtent[] = [];
  for (const line of text.split('\n')) {
    const match = /^(RW|RDONLY|NOACCESS)\s+(\d{1,30})\s+([A-Z0-9]+)(?:\s+"([^"]*)")?(?:\s+(\d{1,30}))?/.exec(line.trim());
    if (match) {
      const [, access = '', sectors, type = '', fileName = null, offset] = match;
      const hostOffset = offset === undefined ? null : Number(offset) * SECTOR;
      extents.push({ access, length: Number(sectors) * SECTOR, type, fileName, hostOffset });
      if (extents.length > MAX_EXTENTS) {
        return { extents: [], problem: `The descriptor names more than ${MAX_EXTENTS} extents.` };
      }
    }
  }
  return { extents, problem: overlap(usedLines(extents)) };
}

/** Two extents with the same bytes would be two places of the disk that change together: no program makes such a disk. */
function overlap(extents: readonly (VmdkExtent & { readonly fileName: string })[]): string | null {
  const places = extents.map(({ fileName, hostOffset, length, type }) => {
    const flat = type === 'FLAT' || type === 'VMFS';
    return flat ? { fileName, start: hostOffset ?? 0, end: (hostOffset ?? 0) + length } : { fileName, start: 0, end: Infinity };
  });
  places.sort((a, b) => (a.fileName < b.fileName ? -1 : a.fileName > b.fileName ? 1 : a.start - b.start));
  const second = places.find(({ fileName, start }, index) => fileName === places[index - 1]?.fileName && start < places[index - 1]!.end);
  return second ? `Two extents hold the same bytes of '${second.fileName}'.` : null;
}

/** The lines that stand for a part of the disk, as QEMU sees it: it passes over extents that may not be written, and over zeroes. */
function usedLines(extents: readonly VmdkExtent[]): readonly (VmdkExtent & { readonly fileName: string })[] {
  return extents.flatMap((extent) => {
    const { access, fileName, length } = extent;
    return access === 'RW' && fileName !== null && length > 0 ? [{ ...extent, fileName }] : [];
  });
}

/** The extents that hold the disk in files of their own; none where the image is its own extent, or has no size that makes sense. */
export function usedExtents({ ownExtent, extents, size }: VmdkMetadata): readonly (VmdkExtent & { readonly fileName: string })[] {
  return ownExtent || size === 0 ? [] : usedLines(extents);
}

/** 32 bits in hexadecimal without a prefix. */
function contentId(text: string | null, key: 'CID' | 'parentCID'): number | null {
  const match = new RegExp(`^${key}=([0-9a-fA-F]{1,8})\\s*$`, 'm').exec(text ?? '');
  return match ? parseInt(match[1] ?? '', 16) : null;
}
