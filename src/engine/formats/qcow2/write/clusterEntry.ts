import { corruptImage } from '../../../errors';
import type { Qcow2Metadata } from '../metadata';
import { LIMITS } from '../structures';
import type { Slice } from './slices';
import { setWord } from './words';

const COPIED_HIGH = 0x80000000;
const COMPRESSED_HIGH = 0x40000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

/** An L2 entry taken apart. A standard entry is one with a single subcluster. */
export interface ClusterEntry {
  readonly compressed: boolean;
  /** Whether it has a host cluster. */
  readonly placed: boolean;
  /** Byte offset of the host cluster, or of the compressed bytes. */
  readonly host: number;
  /** Bytes up to the end of the last sector of a compressed cluster; 0 for others. */
  readonly length: number;
  readonly copied: boolean;
  /** Bits of the subclusters that have data in the host cluster. */
  readonly allocated: number;
  /** Bits of the subclusters that read as zero. */
  readonly zero: number;
}

export const NO_CLUSTER: ClusterEntry = { compressed: false, placed: false, host: 0, length: 0, copied: false, allocated: 0, zero: 0 };

/** Reads and writes L2 entries of one image. */
export class EntryCodec {
  /** Subclusters in a cluster. */
  readonly units: number;
  readonly unitBytes: number;
  readonly allUnits: number;
  private readonly metadata: Qcow2Metadata;

  constructor(metadata: Qcow2Metadata) {
    this.metadata = metadata;
    this.units = metadata.extendedL2 ? LIMITS.subclustersPerCluster : 1;
    this.unitBytes = metadata.clusterSize / this.units;
    this.allUnits = metadata.extendedL2 ? 0xffffffff : 1;
  }

  /** @param guestOffset of the cluster's first byte @throws EngineError `image.corrupt` for an entry that no driver follows */
  read({ view, hostOffset }: Slice, index: number, guestOffset: number): ClusterEntry {
    const { extendedL2, l2EntryBytes, hasDataFile, clusterSize, clusterBits, version } = this.metadata;
    const at = index * l2EntryBytes;
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const refuse = (what: string): never => {
      throw corruptImage(this.metadata.source.name, 'L2 table entry', hostOffset + at, what);
    };
    if ((high & COMPRESSED_HIGH) !== 0) {
      if (hasDataFile) {
        refuse('It is a compressed cluster, which an image with an external data file cannot have.');
      }
      const highBits = 62 - (clusterBits - 8) - 32;
      const fields = high & 0x3fffffff;
      const host = (fields & (2 ** highBits - 1)) * 2 ** 32 + low;
      const sectors = (fields >>> highBits) + 1;
      if (host > Number.MAX_SAFE_INTEGER) {
        refuse('Its compressed bytes lie past 2^53-1.');
      }
      return {
        compressed: true,
        placed: false,
        host,
        length: sectors * 512 - (host % 512),
        copied: false,
        allocated: this.allUnits,
        zero: 0,
      };
    }
    const host = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
    const copied = (high & COPIED_HIGH) !== 0;
    const placed = host !== 0 || (hasDataFile && copied);
    if (host % clusterSize !== 0) {
      refuse(`Its host cluster offset 0x${host.toString(16)} is not aligned to a cluster.`);
    }
    if (host + clusterSize > Number.MAX_SAFE_INTEGER) {
      refuse(`Its host cluster offset 0x${host.toString(16)} lies past 2^53-1.`);
    }
    if (placed && hasDataFile && host !== guestOffset) {
      refuse(`Its offset in the external data file, 0x${host.toString(16)}, differs from the guest offset, 0x${guestOffset.toString(16)}.`);
    }
    let allocated: number;
    let zero: number;
    if (extendedL2) {
      zero = view.getUint32(at + 8);
      allocated = view.getUint32(at + 12);
      if ((zero & allocated) !== 0 || (!placed && allocated !== 0)) {
        refuse('Its subcluster bitmap contradicts itself.');
      }
    } else {
      zero = low & 1;
      allocated = placed && zero === 0 ? 1 : 0;
      if (zero !== 0 && version < 3) {
        refuse('It marks a zero cluster, which version 2 does not have.');
      }
    }
    return { compressed: false, placed, host, length: 0, copied, allocated, zero };
  }

  write({ view }: Slice, index: number, entry: ClusterEntry): void {
    const { extendedL2, l2EntryBytes, clusterBits } = this.metadata;
    const at = index * l2EntryBytes;
    setWord(view, at / 8, entry.host);
    if (entry.compressed) {
      const highBits = 62 - (clusterBits - 8) - 32;
      const sectors = (entry.length + (entry.host % 512)) / 512;
      view.setUint32(at, (view.getUint32(at) | COMPRESSED_HIGH) + (sectors - 1) * 2 ** highBits);
    } else if (entry.copied) {
      view.setUint32(at, view.getUint32(at) | COPIED_HIGH);
    }
    if (extendedL2) {
      view.setUint32(at + 8, entry.compressed ? 0 : entry.zero);
      view.setUint32(at + 12, entry.compressed ? 0 : entry.allocated);
    } else if (!entry.compressed && entry.zero !== 0) {
      view.setUint32(at + 4, view.getUint32(at + 4) | 1);
    }
  }

  /** Bits of the subclusters that a part of a cluster touches. @param from .. @param to bytes in the cluster */
  touched(from: number, to: number): number {
    return bits(Math.floor(from / this.unitBytes), Math.ceil(to / this.unitBytes));
  }

  /** Bits of the subclusters that lie in a part of a cluster from end to end. */
  covered(from: number, to: number): number {
    return bits(Math.ceil(from / this.unitBytes), Math.floor(to / this.unitBytes));
  }
}

/** Bits `first` .. `end` - 1 of 32. */
function bits(first: number, end: number): number {
  return end <= first ? 0 : ((end - first >= 32 ? 0xffffffff : (1 << (end - first)) - 1) << first) >>> 0;
}
