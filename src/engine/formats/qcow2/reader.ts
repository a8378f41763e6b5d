import { EngineError } from '../../errors';
import { readPadded } from '../../io/source';
import type { CompressedDescriptor } from '../extent';
import { decompressCluster } from './compression';
import type { Qcow2Metadata } from './metadata';

/** Decompressed clusters of one image; the least recently used go when the bound is reached. */
export class CompressedClusters {
  private readonly metadata: Qcow2Metadata;
  private readonly capacity: number;
  private readonly clusters = new Map<number, Uint8Array>();

  constructor(metadata: Qcow2Metadata, maxBytes: number) {
    this.metadata = metadata;
    this.capacity = Math.max(1, Math.floor(maxBytes / metadata.clusterSize));
  }

  /**
   * The cluster's bytes, all of them; not to be changed.
   * @throws EngineError `data.undecodable`, `format.unsupported`, `file.io`
   */
  cluster(descriptor: CompressedDescriptor): Uint8Array {
    const { hostOffset } = descriptor;
    let bytes = this.clusters.get(hostOffset);
    if (bytes) {
      this.clusters.delete(hostOffset);
    } else {
      bytes = this.decompress(descriptor);
      if (this.clusters.size >= this.capacity) {
        this.clusters.delete(this.clusters.keys().next().value!);
      }
    }
    this.clusters.set(hostOffset, bytes);
    return bytes;
  }

  private decompress({ hostOffset, length, guestOffset }: CompressedDescriptor): Uint8Array {
    const { source, compressionType, clusterSize } = this.metadata;
    // Past the end of the file there are zeroes, as for QEMU; a stream that needs them is broken anyway.
    const bytes = decompressCluster(compressionType, readPadded(source, hostOffset, length), clusterSize);
    if (!bytes) {
      throw new EngineError(
        'data.undecodable',
        `${source.name}: compressed cluster at offset ${hostOffset}: it does not decompress to the cluster of guest offset ${guestOffset}.`,
        { file: source.name, structure: 'compressed cluster', hostOffset },
      );
    }
    return bytes;
  }
}
