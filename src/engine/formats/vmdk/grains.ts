import { inflateSync } from 'node:zlib';

import { EngineError } from '../../errors';
import { readPadded } from '../../io/source';
import { DecompressedCache } from '../decompressedCache';
import type { CompressedDescriptor } from '../extent';
import type { VmdkGrainMap } from './grainMap';
import type { SparseExtent } from './sparseExtent';

/** A marker before a grain: its first sector (64 bits), and how many bytes are compressed (32 bits). */
const MARKER_BYTES = 12;
const SIZE_OFFSET = 8;

/** Decompressed grains of a chain's images; the least recently used go when the bound is reached. */
export class DecompressedGrains {
  private readonly cache: DecompressedCache;

  /** @param maxBytes one grain is kept even when it is larger */
  constructor(maxBytes: number) {
    this.cache = new DecompressedCache(maxBytes);
  }

  /**
   * Fills `target` with guest bytes that lie in the grain of a descriptor.
   * @param owner tells the images apart
   * @throws EngineError `data.undecodable`, `file.io`
   */
  read(owner: number, map: VmdkGrainMap, descriptor: CompressedDescriptor, guestOffset: number, target: Uint8Array): void {
    const extent = map.extentAt(descriptor.guestOffset);
    if (extent?.kind !== 'sparse') {
      throw new RangeError('only sparse extents have compressed grains');
    }
    const grain = this.cache.get(`${owner}:${extent.start}:${descriptor.hostOffset}`, () => decompressGrain(extent.sparse, descriptor));
    const within = guestOffset - descriptor.guestOffset;
    if (within + target.length > grain.length) {
      throw undecodable(extent.source.name, descriptor.hostOffset, descriptor.guestOffset);
    }
    target.set(grain.subarray(within, within + target.length));
  }
}

/**
 * Decompresses a grain. Only that of the disk's end may be shorter than the others.
 * @throws EngineError `data.undecodable`, `file.io`
 */
export function decompressGrain(extent: SparseExtent, { hostOffset, guestOffset, length }: CompressedDescriptor): Uint8Array {
  const { source, grainSize, hasMarkers } = extent;
  const marker = hasMarkers ? readPadded(source, hostOffset, MARKER_BYTES) : null;
  const size = marker ? new DataView(marker.buffer).getUint32(SIZE_OFFSET, true) : Math.min(grainSize, length);
  if (size > 0 && size <= length) {
    const stored = readPadded(source, hostOffset + (marker ? MARKER_BYTES : 0), size);
    try {
      return inflateSync(stored, { maxOutputLength: grainSize });
    } catch (cause) {
      throw undecodable(source.name, hostOffset, guestOffset, cause);
    }
  }
  throw undecodable(source.name, hostOffset, guestOffset);
}

function undecodable(file: string, hostOffset: number, guestOffset: number, cause?: unknown): EngineError {
  return new EngineError(
    'data.undecodable',
    `${file}: compressed grain at offset ${hostOffset}: it does not decompress to the grain of guest offset ${guestOffset}.`,
    { file, structure: 'compressed grain', hostOffset },
    cause,
  );
}
