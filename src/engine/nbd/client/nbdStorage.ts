import { EngineError, invalidRequest, networkFailed, readOnlyImage } from '../../errors';
import { NotLoaded } from '../../io/loading';
import { BlockCache, type BlockCacheOptions, type Change } from '../../io/remote/blockCache';
import type { NbdAddress } from '../../io/remote/address';
import type { Storage } from '../../io/storage';
import { ALLOCATION, CONTEXT } from '../protocol';
import { KnownExtents } from './extents';
import { NbdClient, type NbdClientOptions } from './nbdClient';

export interface NbdStorageOptions extends NbdClientOptions, BlockCacheOptions {
  readonly writable: boolean;
}

/** A changing request under way. */
interface Running {
  /** The blocks that it may touch. */
  readonly from: number;
  readonly to: number;
  readonly done: Promise<void>;
}

/** Bytes of the longest stretch that the server is asked to describe at a time. */
const STATUS_LENGTH = 1024 * 1024 * 1024;

/**
 * An NBD export as a driver's storage. What was read is kept (see `BlockCache`), and what is written is seen by reads at once. Changes of
 * the same blocks reach the server one after the other, since it may reorder what it has at the same time. Its size is fixed.
 */
export class NbdStorage implements Storage {
  readonly name: string;
  readonly size: number;
  readonly allocatedBytes: number;
  readonly allocationKnown = false;
  readonly writable: boolean;
  readonly client: NbdClient;
  private readonly cache: BlockCache;
  private readonly extents = new KnownExtents();
  private readonly running = new Set<Running>();
  /** Ranges changed while the server is asked what is data. */
  private readonly asking = new Set<{ readonly offset: number; readonly changed: [number, number][]; readonly done: Promise<void> }>();

  private constructor(client: NbdClient, options: NbdStorageOptions) {
    this.client = client;
    this.name = client.name;
    this.size = client.info.size;
    this.allocatedBytes = this.size;
    this.writable = options.writable;
    this.cache = new BlockCache(
      {
        name: client.name,
        size: client.info.size,
        fetch: async (offset, length) => {
          const bytes = new Uint8Array(length);
          await client.read(offset, bytes);
          return bytes;
        },
      },
      options,
    );
  }

  /** @throws EngineError `network.failed`; `request.readOnly` when the export cannot be written but must */
  static async open(address: NbdAddress, options: NbdStorageOptions): Promise<NbdStorage> {
    const client = await NbdClient.open(address, options);
    if (options.writable && client.can('readOnly')) {
      client.close();
      throw new EngineError('request.readOnly', `${client.name}: The server offers the export for reading only.`, { file: client.name });
    }
    return new NbdStorage(client, options);
  }

  read(target: Uint8Array, hostOffset: number): number {
    return this.cache.read(target, hostOffset);
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    if (!this.client.info.contexts.has(CONTEXT.allocation)) {
      return { length: this.size - hostOffset, data: true };
    }
    const known = this.extents.at(hostOffset);
    if (!known) {
      throw new NotLoaded(() => this.loadExtents(hostOffset - (hostOffset % this.block)));
    }
    return known;
  }

  write(bytes: Uint8Array, hostOffset: number): Promise<void> {
    return this.change({ offset: hostOffset, length: bytes.length, content: bytes }, async () => {
      await this.writeBlocks(bytes, hostOffset);
    });
  }

  writeZeroes(hostOffset: number, length: number, { unmap = false }: { readonly unmap?: boolean } = {}): Promise<void> {
    return this.change({ offset: hostOffset, length, content: null }, async () => {
      const { first, last } = this.inner(hostOffset, length);
      if (!this.client.can('sendWriteZeroes') || first >= last) {
        await this.writeOut(hostOffset, length);
        return;
      }
      await this.writeBlocks(new Uint8Array(first - hostOffset), hostOffset);
      await this.client.writeZeroes(first, last - first, { unmap });
      await this.writeBlocks(new Uint8Array(hostOffset + length - last), last);
    });
  }

  discard(hostOffset: number, length: number): Promise<void> {
    const inside = Math.min(length, this.size - hostOffset);
    const { first, last } = this.inner(hostOffset, inside);
    if (first >= last || !this.client.can('sendTrim')) {
      return Promise.resolve();
    }
    return this.change({ offset: first, length: last - first, content: 'unknown' }, () => this.client.trim(first, last - first));
  }

  /** An export has the size that it has; as with a block device, what would be cut off stays. */
  truncate(size: number): void {
    if (size > this.size) {
      throw new EngineError('file.full', `${this.name}: An NBD export of ${this.size} bytes cannot grow to ${size}.`, {
        file: this.name,
        remedy: 'Make it larger where it is served.',
      });
    }
  }

  async flush(): Promise<void> {
    // Whoever wrote hears of a failure of his own; here it only matters that it has ended.
    await Promise.allSettled([...this.running].map(({ done }) => done));
    await this.client.flush();
  }

  close(): void {
    this.cache.close();
    this.client.close();
  }

  private get block(): number {
    return this.client.info.minimumBlock;
  }

  /** Accepts a change - from then on reads see it - and has it done when those of the same blocks before it have ended. */
  private change(change: Change, send: () => Promise<void>): Promise<void> {
    const { offset, length } = change;
    this.requireWritable(offset, length);
    if (length === 0) {
      return Promise.resolve();
    }
    const from = offset - (offset % this.block);
    const to = Math.ceil((offset + length) / this.block) * this.block;
    const before = [...this.running].filter((other) => other.from < to && from < other.to).map(({ done }) => done);
    this.cache.begin(change);
    this.extents.markData(offset, offset + length);
    this.asking.forEach(({ changed }) => changed.push([offset, offset + length]));
    const running: Running = {
      from,
      to,
      done: (before.length === 0 ? send() : Promise.allSettled(before).then(send)).then(
        () => this.ended(running, change, true),
        (error: unknown) => {
          this.ended(running, change, false);
          throw error;
        },
      ),
    };
    this.running.add(running);
    return running.done;
  }

  private ended(running: Running, change: Change, known: boolean): void {
    this.running.delete(running);
    this.cache.end(change, known);
  }

  /** Writes at any alignment: what is missing of the first and last block is read before. */
  private async writeBlocks(bytes: Uint8Array, offset: number): Promise<void> {
    const { block } = this;
    const before = offset % block;
    const behind = (block - ((offset + bytes.length) % block)) % block;
    if (bytes.length === 0) {
      return;
    }
    if (before === 0 && behind === 0) {
      await this.client.write(offset, bytes);
      return;
    }
    const first = offset - before;
    const whole = new Uint8Array(before + bytes.length + behind);
    await this.client.read(first, whole.subarray(0, block));
    if (whole.length > block) {
      await this.client.read(first + whole.length - block, whole.subarray(whole.length - block));
    }
    whole.set(bytes, before);
    await this.client.write(first, whole);
  }

  private async writeOut(offset: number, length: number): Promise<void> {
    const zeroes = new Uint8Array(Math.min(length, 1024 * 1024));
    for (let done = 0; done < length; done += zeroes.length) {
      await this.writeBlocks(zeroes.subarray(0, Math.min(zeroes.length, length - done)), offset + done);
    }
  }

  /** The whole blocks inside a range. */
  private inner(offset: number, length: number): { readonly first: number; readonly last: number } {
    const end = offset + length;
    return { first: Math.ceil(offset / this.block) * this.block, last: end - (end % this.block) };
  }

  private async loadExtents(offset: number): Promise<void> {
    const underWay = [...this.asking].find((other) => other.offset === offset);
    if (underWay) {
      await underWay.done;
      return;
    }
    // What is being written may be in the answer or not.
    const changed = [...this.running].map(({ from, to }): [number, number] => [from, to]);
    const asked = { offset, changed, done: this.learnExtents(offset, changed) };
    this.asking.add(asked);
    try {
      await asked.done;
    } finally {
      this.asking.delete(asked);
    }
  }

  private async learnExtents(offset: number, changed: readonly (readonly [number, number])[]): Promise<void> {
    const length = Math.min(this.size - offset, STATUS_LENGTH);
    const descriptors = await this.client.blockStatus(CONTEXT.allocation, offset, length);
    if (descriptors.length === 0) {
      throw networkFailed(this.name, `The server says nothing of what is at offset ${offset}.`);
    }
    this.extents.learn(offset, descriptors, (flags) => (flags & ALLOCATION.zero) === 0, this.size);
    changed.forEach(([from, to]) => this.extents.markData(from, to));
  }

  private requireWritable(offset: number, length: number): void {
    if (!this.writable) {
      throw readOnlyImage(this.name);
    }
    if (!(offset >= 0 && length >= 0)) {
      throw invalidRequest(`${this.name}: ${length} bytes at offset ${offset} are no range.`);
    }
    if (offset + length > this.size) {
      this.truncate(offset + length);
    }
  }
}
