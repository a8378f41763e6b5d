import { EngineError } from '../../errors';
import { readPadded } from '../../io/source';
import { DecompressedCache } from '../decompressedCache';
import type { CompressedDescriptor } from '../extent';
import { decompressCluster } from './compression';
import type { Qcow2Metadata } from './metadata';

/** Decompressed clusters of a chain's images; the least recently used go when the bound is reached. */
export class CompressedClusters {
  private readonly cache: DecompressedCache;

  /** @param maxBytes one cluster is kept even when it is larger */
  constructor(maxBytes: number) {
    this.cache = new DecompressedCache(maxBytes);
  }

  /**
   * The cluster's bytes, all of them; not to be changed.
   * @param owner tells the images apart
   * @throws EngineError `data.undecodable`, `format.unsupported`, `file.io`
   */
  cluster(owner: number, metadata: Qcow2Metadata, descriptor: CompressedDescriptor): Uint8Array {
    return this.cache.get(`${owner}:${descriptor.hostOffset}`, () => decompress(metadata, descriptor));
  }
}

function decompress(metadata: Qcow2Metadata, { hostOffset, length, guestOffset }: CompressedDescriptor): Uint8Array {
  const { source, compressionType, clusterSize } = metadata;
  // Past the end of the file there are zeroes, as for QEMU; a stream that needs them is broken anyway.
  const bytes = decompressCluster(compressionType, readPadded(source, hostOffset, length), clusterSize);
  if (!bytes) {
    throw undecodableCluster(source.name, { hostOffset, length, guestOffset });
  }
  return bytes;
}

/** The error for a compressed cluster that does not decompress. */
export function undecodableCluster(file: string, { hostOffset, guestOffset }: CompressedDescriptor): EngineError {
  return new EngineError(
    'data.undecodable',
    `${file}: compressed cluster at offset ${hostOffset}: it does not decompress to the cluster of guest offset ${guestOffset}.`,
    { file, structure: 'compressed cluster', hostOffset },
  );
}
