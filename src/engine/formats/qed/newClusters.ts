import { after, isPromise, type Awaitable } from '../../awaitable';
import type { BlockNode } from '../../block/blockNode';
import type { Storage } from '../../io/storage';
import { advance } from './serialised';
import type { QedTables } from './tables';

/** What is copied from the backing file goes through a buffer of at most this many bytes. */
const COPY_BYTES = 1024 * 1024;

/** What the backing file shows, with zeroes past its end. */
export function readBacking(backing: BlockNode | null, guestOffset: number, target: Uint8Array): Awaitable<void> {
  const backed = Math.max(0, Math.min(target.length, (backing?.size ?? 0) - guestOffset));
  target.fill(0, backed);
  return backing && backed > 0 ? backing.read(guestOffset, target.subarray(0, backed)) : undefined;
}

/** A range that gets clusters of its own; its tables are there. */
interface Filling {
  readonly guestOffset: number;
  readonly length: number;
  /** What is written; null for zeroes. */
  readonly part: Uint8Array | null;
  /** What the guest reads around it in the first and the last cluster; null for zeroes. */
  readonly backing: BlockNode | null;
  /** Bytes of the disk. What lies past its end stays zero: it may grow. */
  readonly size: number;
}

/** Takes clusters at the end of the file, fills them, and then maps them. */
export class NewClusters {
  private readonly storage: Storage;
  private readonly tables: QedTables;
  private readonly clusterSize: number;

  constructor(storage: Storage, tables: QedTables, clusterSize: number) {
    this.storage = storage;
    this.tables = tables;
    this.clusterSize = clusterSize;
  }

  fill(filling: Filling): Awaitable<void> {
    const { clusterSize } = this;
    const { guestOffset, length } = filling;
    const first = Math.floor(guestOffset / clusterSize) * clusterSize;
    const clusters = Math.ceil((guestOffset + length - first) / clusterSize);
    const host = this.tables.take(clusters);
    let filled: Awaitable<void>;
    try {
      filled = this.write(filling, host - first, first + clusters * clusterSize);
    } catch (error) {
      return this.abandon(host, clusters, error);
    }
    const map = () => {
      this.tables.map(guestOffset, clusters, host);
    };
    if (isPromise(filled)) {
      return filled.then(map, (error: unknown) => this.abandon(host, clusters, error));
    }
    map();
  }

  /** @param shift from a guest offset to its place in the file @param end of the last cluster */
  private write({ guestOffset, length, part, backing, size }: Filling, shift: number, end: number): Awaitable<void> {
    const first = Math.floor(guestOffset / this.clusterSize) * this.clusterSize;
    return after(this.copyUp(backing, first, guestOffset, shift), () =>
      after(part ? this.storage.write(part, guestOffset + shift) : undefined, () =>
        this.copyUp(backing, guestOffset + length, Math.min(end, size), shift),
      ),
    );
  }

  /** Copies guest bytes up from the backing file; new clusters are zero, so there is nothing to do past its end. */
  private copyUp(backing: BlockNode | null, from: number, end: number, shift: number): Awaitable<void> {
    const last = Math.min(end, backing?.size ?? 0);
    return advance(from, last, (at, rest) => {
      const buffer = new Uint8Array(Math.min(rest, COPY_BYTES));
      return after(readBacking(backing, at, buffer), () => after(this.storage.write(buffer, at + shift), () => buffer.length));
    });
  }

  /** Clusters that could not be filled go back, if they can be made to read as zero again; otherwise they are leaked. */
  private async abandon(host: number, clusters: number, error: unknown): Promise<never> {
    if (this.tables.allocationEnd === host + clusters * this.clusterSize) {
      try {
        if (this.storage.size > host) {
          await this.storage.truncate(host);
        }
        this.tables.giveBack(host);
      } catch {
        // The error that led here is the one to tell; a leak does no harm.
      }
    }
    throw error;
  }
}
