import type { ImageFormat } from '../../protocol/chain';
import { unsupported } from '../errors';
import { probeFormat } from '../formats/probe';
import { readQcow2Metadata } from '../formats/qcow2/metadata';
import { readQedMetadata } from '../formats/qed/metadata';
import { rawVirtualSize, SECTOR_SIZE } from '../formats/raw/size';
import { readVmdkMetadata, usedExtents } from '../formats/vmdk/metadata';
import type { ByteSource } from '../io/source';
import type { Reference } from './follow';
import type { LayerDetail } from './layer';

/**
 * The driver for a format's name as images record it; null for probing. QEMU's protocol drivers may stand there too, for bytes as they are.
 * @throws EngineError `format.unsupported`
 */
export function imageFormat(name: string, source: ByteSource): ImageFormat {
  switch (name) {
    case 'qcow2':
    case 'qed':
    case 'vmdk':
    case 'raw':
      return name;
    case 'file':
    case 'host_device':
    case 'host_cdrom':
    case 'http':
    case 'https':
    case 'nbd':
      return 'raw';
    default:
      throw unsupported(source.name, 'recorded format', 0, `Images of the format '${name}' cannot be read.`);
  }
}

/**
 * Reads an image's metadata, leniently.
 * @param format null: by its first bytes
 * @throws EngineError `format.unsupported`, `file.io`
 */
export function readDetail(source: ByteSource, format: ImageFormat | null): LayerDetail {
  switch (format ?? probeFormat(source)) {
    case 'qcow2':
      return { format: 'qcow2', metadata: readQcow2Metadata(source), dataFile: null };
    case 'qed':
      return { format: 'qed', metadata: readQedMetadata(source) };
    case 'vmdk':
      return { format: 'vmdk', metadata: readVmdkMetadata(source), extents: [] };
    case 'raw':
      return { format: 'raw' };
  }
}

/** Bytes, in QEMU's whole sectors; 0 when the header's value is unusable. */
export function virtualSizeOf(source: ByteSource, detail: LayerDetail): number {
  if (detail.format === 'raw') {
    return rawVirtualSize(source.size);
  }
  const { size } = detail.metadata;
  return Number.isSafeInteger(size) ? Math.floor(size / SECTOR_SIZE) * SECTOR_SIZE : 0;
}

/** The backing file that an image names; null for a base. An empty name is none. */
export function backingReference(detail: LayerDetail): Reference | null {
  switch (detail.format) {
    case 'qcow2':
    case 'qed': {
      const { backingFile, backingFormat } = detail.metadata;
      return backingFile && !isEmpty(backingFile.name) ? { role: 'backing', recordedName: backingFile.name, format: backingFormat } : null;
    }
    case 'vmdk': {
      const hint = detail.metadata.parentFileNameHint;
      return hint === null || isEmpty(hint) ? null : { role: 'backing', recordedName: hint, format: 'vmdk' };
    }
    case 'raw':
      return null;
  }
}

/** The other files that an image's data lies in. */
export function dataReferences(detail: LayerDetail): readonly Reference[] {
  switch (detail.format) {
    case 'qcow2': {
      const { hasDataFile, dataFileName } = detail.metadata;
      return hasDataFile && dataFileName !== null ? [{ role: 'data-file', recordedName: dataFileName, format: 'raw' }] : [];
    }
    case 'vmdk':
      return usedExtents(detail.metadata).map(({ fileName, type }) => ({
        role: 'extent',
        recordedName: fileName,
        format: /FLAT|VMFS$/.test(type) ? 'raw' : null,
      }));
    case 'qed':
    case 'raw':
      return [];
  }
}

/** To QEMU a name ends at its first NUL. */
function isEmpty(name: string): boolean {
  return name === '' || name.startsWith('\0');
}
