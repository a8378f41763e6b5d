import { resolveName, type ResolvedName } from '../gate/filename';
import { invalidFormat } from '../errors';
import { readVmdkMetadata, usedExtents, type VmdkExtent, type VmdkMetadata } from '../formats/vmdk/metadata';
import type { ByteSource } from '../io/source';
import type { FormatPart, InfoOptions } from './imageInfo';
import { requireOpenableVmdk } from './opening';

/** QAPI's ImageInfoSpecificVmdk. */
export interface VmdkInfo {
  readonly createType: string;
  readonly cid: number;
  readonly parentCid: number;
  readonly extents: readonly VmdkExtentInfo[];
}

/** QAPI's VmdkExtentInfo. */
export interface VmdkExtentInfo {
  readonly filename: string;
  /** As the descriptor has it (`FLAT`, `SPARSE`); empty for an extent in the image's own file. */
  readonly format: string;
  readonly virtualSize: number;
  /** Absent where it stands in a file of its own, which is not opened. */
  readonly clusterSize?: number;
  readonly compressed?: true;
}

/** Bit of the sparse header's flags: grains are compressed. */
const COMPRESSED_GRAINS = 1 << 16;

/** @throws EngineError `format.invalid` for a header or descriptor that QEMU's driver does not open */
export function vmdkInfo(source: ByteSource, options: InfoOptions): FormatPart {
  const metadata = readVmdkMetadata(source);
  requireOpenableVmdk(metadata);
  if (metadata.descriptor === null || metadata.createType === null) {
    throw invalidFormat(source.name, 'VMDK descriptor', metadata.descriptor?.hostOffset ?? 0, 'It does not say the create type.');
  }
  const own = metadata.ownExtent;
  const used = usedExtents(metadata);
  const extents = own ? [ownExtent(metadata, options.filename)] : used.map((extent) => extentInfo(extent, options));
  const clusterSize = extents[0]?.clusterSize;
  const backingFilename = metadata.parentFileNameHint;
  return {
    virtualSize: metadata.size,
    ...(clusterSize === undefined ? {} : { clusterSize }),
    ...(backingFilename === null ? {} : { backingFilename, backingFilenameFormat: 'vmdk' }),
    furtherActualSize: own ? 0 : allocated(used, options),
    formatSpecific: {
      type: 'vmdk',
      data: {
        createType: metadata.createType,
        cid: metadata.contentId ?? 0,
        parentCid: metadata.parentContentId ?? 0xffffffff,
        extents,
      },
    },
  };
}

function ownExtent(metadata: VmdkMetadata, filename: string): VmdkExtentInfo {
  return { filename, format: '', virtualSize: metadata.size, ...sparsePart(metadata) };
}

function extentInfo(extent: VmdkExtent, options: InfoOptions): VmdkExtentInfo {
  const { filename, path } = resolveExtent(extent.fileName ?? '', options);
  // Only sparse extents have a header to read.
  const source = extent.type === 'SPARSE' && path !== null ? (options.further?.open(path) ?? null) : null;
  try {
    const header = source ? sparsePart(readVmdkMetadata(source)) : {};
    return { filename, format: extent.type, virtualSize: extent.length, ...header };
  } finally {
    source?.close();
  }
}

function sparsePart({ header, grainSize }: VmdkMetadata): Pick<VmdkExtentInfo, 'clusterSize' | 'compressed'> {
  const compressed = ((header?.number('flags') ?? 0) & COMPRESSED_GRAINS) !== 0;
  return { ...(grainSize === null ? {} : { clusterSize: grainSize }), ...(compressed ? { compressed } : {}) };
}

function allocated(extents: readonly VmdkExtent[], options: InfoOptions): number {
  const paths = extents.map(({ fileName }) => (fileName === null ? null : resolveExtent(fileName, options).path));
  return paths.reduce((sum, path) => sum + (path === null ? 0 : (options.further?.allocated(path) ?? 0)), 0);
}

function resolveExtent(recorded: string, { fileName, currentFolder }: InfoOptions): ResolvedName {
  return resolveName(recorded, { imageFilename: fileName, role: 'extent', currentFolder });
}
