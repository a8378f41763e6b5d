import type { BlockNode } from '../../../block/blockNode';
import { EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import type { Qcow2ClusterMap } from '../clusterMap';
import type { ClusterCipher } from '../crypto/clusterCipher';
import type { Qcow2Metadata } from '../metadata';
import { CompressedClusters } from '../reader';
import { load, wait, type Steps } from './steps';

const SECTOR = 512;
const ZEROES = new Uint8Array(256 * 1024);

/** Guest bytes where they lie: in the clusters of the file (or the data file), encrypted or not, compressed, or in what lies below. */
export class GuestData {
  backing: BlockNode | null;
  /** Counts up when a cluster may hold other compressed bytes than before. */
  generation = 0;
  readonly file: Storage;
  readonly cipher: ClusterCipher | null;
  private readonly metadata: Qcow2Metadata;
  private readonly compressed: CompressedClusters;

  constructor(file: Storage, metadata: Qcow2Metadata, backing: BlockNode | null, cipher: ClusterCipher | null, cacheBytes: number) {
    this.file = file;
    this.metadata = metadata;
    this.backing = backing;
    this.cipher = cipher;
    this.compressed = new CompressedClusters(cacheBytes);
  }

  /** Fills `target` with what the guest sees; past the end of the disk there are zeroes. */
  *read(map: Qcow2ClusterMap, guestOffset: number, target: Uint8Array): Steps<void> {
    const inside = Math.max(0, Math.min(target.length, map.size - guestOffset));
    target.fill(0, inside);
    for (let done = 0; done < inside;) {
      done += yield* this.readExtent(map, guestOffset + done, target.subarray(done, inside));
    }
  }

  private *readExtent(map: Qcow2ClusterMap, guestOffset: number, target: Uint8Array): Steps<number> {
    // Lookup and read are one: between them a cluster could get another's bytes.
    const extent = yield* load(() => {
      const found = map.blockStatus(guestOffset, target.length);
      const part = target.subarray(0, found.length);
      if (found.class === 'data') {
        this.readHost(part, found.hostOffset!, guestOffset);
      } else if (found.compressed) {
        const cluster = this.compressed.cluster(this.generation, this.metadata, found.compressed);
        const within = guestOffset - found.compressed.guestOffset;
        part.set(cluster.subarray(within, within + part.length));
      } else if (found.class === 'zero') {
        part.fill(0);
      }
      return found;
    });
    if (extent.class === 'unallocated') {
      yield* this.readBacking(guestOffset, target.subarray(0, extent.length));
    } else if (extent.problem) {
      const { structure, hostOffset, message } = extent.problem;
      const file = this.metadata.source.name;
      throw new EngineError('image.corrupt', `${file}: ${structure} at offset ${hostOffset}: ${message}`, { file, structure, hostOffset });
    }
    return extent.length;
  }

  private *readBacking(guestOffset: number, target: Uint8Array): Steps<void> {
    const { backing } = this;
    const backed = backing ? Math.max(0, Math.min(target.length, backing.size - guestOffset)) : 0;
    target.fill(0, backed);
    if (backed > 0) {
      yield* wait(backing!.read(guestOffset, target.subarray(0, backed)));
    }
  }

  /** Whether it is known without reading that the guest sees zeroes there. */
  *isZero(map: Qcow2ClusterMap, guestOffset: number, length: number): Steps<boolean> {
    const end = Math.min(guestOffset + length, map.size);
    for (let at = guestOffset; at < end;) {
      const extent = yield* load(() => map.blockStatus(at, end - at));
      const backed = this.backing !== null && at < this.backing.size;
      if (extent.class !== 'zero' && !(extent.class === 'unallocated' && !backed)) {
        return false;
      }
      at += extent.length;
    }
    return true;
  }

  /** Reads bytes of clusters. NotLoaded, as all reading. */
  readHost(target: Uint8Array, hostOffset: number, guestOffset: number): void {
    const { cipher } = this;
    if (!cipher) {
      target.fill(0, this.file.read(target, hostOffset));
      return;
    }
    const before = guestOffset % SECTOR;
    const whole = Math.ceil((before + target.length) / SECTOR) * SECTOR;
    const sectors = whole === target.length ? target : new Uint8Array(whole);
    sectors.fill(0, this.file.read(sectors, hostOffset - before));
    cipher.decrypt(sectors, (cipher.addressedBy === 'hostOffset' ? hostOffset : guestOffset) - before);
    if (sectors !== target) {
      target.set(sectors.subarray(before, before + target.length));
    }
  }

  /** Writes bytes into clusters. */
  *writeHost(bytes: Uint8Array, hostOffset: number, guestOffset: number): Steps<void> {
    const { cipher } = this;
    if (!cipher) {
      yield* wait(this.file.write(bytes, hostOffset));
      return;
    }
    const before = guestOffset % SECTOR;
    const whole = Math.ceil((before + bytes.length) / SECTOR) * SECTOR;
    const sectors = new Uint8Array(whole);
    if (before > 0 || whole > bytes.length) {
      yield* load(() => {
        this.readHost(sectors, hostOffset - before, guestOffset - before);
      });
    }
    sectors.set(bytes, before);
    cipher.encrypt(sectors, (cipher.addressedBy === 'hostOffset' ? hostOffset : guestOffset) - before);
    yield* wait(this.file.write(sectors, hostOffset - before));
  }

  /** @param fresh nothing was ever written there: the file reads as zero */
  *zeroHost(hostOffset: number, guestOffset: number, length: number, fresh: boolean): Steps<void> {
    if (!this.cipher) {
      if (!fresh) {
        if (length <= ZEROES.length) {
          yield* wait(this.file.write(ZEROES.subarray(0, length), hostOffset));
        } else {
          yield* wait(this.file.writeZeroes(hostOffset, length));
        }
      }
      return;
    }
    for (let done = 0; done < length; done += ZEROES.length) {
      yield* this.writeHost(ZEROES.subarray(0, Math.min(ZEROES.length, length - done)), hostOffset + done, guestOffset + done);
    }
  }
}
