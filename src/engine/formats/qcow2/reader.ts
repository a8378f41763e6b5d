import { EngineError } from '../../errors';
import { readPadded } from '../../io/source';
import type { CompressedDescriptor } from '../extent';
import { decompressCluster } from './compression';
import type { Qcow2Metadata } from './metadata';

/** Decompressed clusters of a chain's images; the least recently used go when the bound is reached. */
export class CompressedClusters {
  private readonly maxBytes: number;
  private readonly clusters = new Map<string, Uint8Array>();
  private bytes = 0;

  /** @param maxBytes one cluster is kept even when it is larger */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /**
   * The cluster's bytes, all of them; not to be changed.
   * @param owner tells the images apart
   * @throws EngineError `data.undecodable`, `format.unsupported`, `file.io`
   */
  cluster(owner: number, metadata: Qcow2Metadata, descriptor: CompressedDescriptor): Uint8Array {
    const key = `${owner}:${descriptor.hostOffset}`;
    let cluster = this.clusters.get(key);
    if (cluster) {
      this.clusters.delete(key);
    } else {
      cluster = decompress(metadata, descriptor);
      this.makeRoom(cluster.length);
      this.bytes += cluster.length;
    }
    this.clusters.set(key, cluster);
    return cluster;
  }

  private makeRoom(length: number): void {
    for (const [key, { length: freed }] of this.clusters) {
      if (this.bytes + length <= this.maxBytes) {
        break;
      }
      this.clusters.delete(key);
      this.bytes -= freed;
    }
  }
}

function decompress(metadata: Qcow2Metadata, { hostOffset, length, guestOffset }: CompressedDescriptor): Uint8Array {
  const { source, compressionType, clusterSize } = metadata;
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
