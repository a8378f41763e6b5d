import { setTimeout } from 'node:timers/promises';

import { allEnded, isPromise, type Awaitable } from '../../awaitable';
import type { BlockNode } from '../../block/blockNode';
import { EngineError, reworded } from '../../errors';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { SECTOR_SIZE } from '../../formats/raw/size';
import { isZero } from '../../isZero';
import { loading, NotLoaded } from '../../io/loading';
import { Pace, type PaceOptions } from '../../pace';
import { SpeedLimit } from '../../speedLimit';
import type { CopyExtent, CopySource } from './copySource';
import { WriteBehind } from './writeBehind';
import { zeroRuns } from './zeroRuns';

export interface CopyDiskOptions extends PaceOptions {
  /** Zeroes in data of at least this many bytes are not written; 0 writes everything out. */
  readonly sparseBytes: number;
  readonly compressed: boolean;
  /** A cluster of the target that gets something is written whole; false leaves what the source does not have in it. */
  readonly wholeClusters: boolean;
  /** What is not written reads as zero. */
  readonly targetIsZero: boolean;
  /** Of this many bytes the target has a backing file with what the source leaves to its own; null without one. */
  readonly targetBackingSize: number | null;
  /** Bytes of data that are copied in a second at most; 0 is no limit. */
  readonly speed: number;
  /** Chunks that are fetched or decompressed at the same time, at least 1: QEMU's coroutines. */
  readonly coroutines: number;
  /** A chunk is written as soon as it is there, whatever comes before it. */
  readonly outOfOrder: boolean;
  /** What cannot be read becomes zeroes, and is told; null ends with the error. */
  readonly onUnreadable: ((offset: number, error: EngineError) => void) | null;
}

/** Bytes of zeroes that become a hole when nothing else is said. */
export const DEFAULT_SPARSE = 4096;
/** Bytes that are copied at a time, at least a cluster: as many as the processor's cache holds. */
const CHUNK = 512 * 1024;
/** Chunks that are fetched or decompressed at the same time when nothing else is said; as in QEMU. */
export const DEFAULT_COROUTINES = 8;
/** Chunks that are being written at the same time, to servers that take their time. */
const BEHIND = 3;
/** Holes in raw files are made of these. */
const RAW_UNIT = 4096;

/** Data on its way. */
interface Chunk {
  readonly offset: number;
  readonly bytes: Buffer;
  /** What they lie in. */
  readonly buffer: Buffer;
  /** Some of them were compressed. */
  readonly compressed: boolean;
  /** When the bytes have to be waited for. */
  readonly ready: Promise<void> | null;
}

/**
 * Copies a disk into an image that is at least as long. Progress counts guest bytes.
 * @throws EngineError `cancelled`, or what reading and writing throws, saying where
 */
export async function copyDisk(source: CopySource, target: BlockNode, options: CopyDiskOptions): Promise<void> {
  await new DiskCopy(source, target, options).run();
}

class DiskCopy {
  private readonly source: CopySource;
  private readonly target: BlockNode;
  private readonly options: CopyDiskOptions;
  private readonly pace: Pace;
  private readonly limit: SpeedLimit;
  /** What chunks begin and end at, where there is no backing file to leave the rest to. */
  private readonly align: number;
  private readonly unit: number;
  private readonly chunkBytes: number;
  private readonly spare: Buffer[] = [];
  private readonly behind: WriteBehind;
  private readonly writes: Promise<void>[] = [];
  /** It has failed or was cancelled: what is still on its way is of no use, and its source may be closed. */
  private over = false;

  constructor(source: CopySource, target: BlockNode, options: CopyDiskOptions) {
    const { sparseBytes, compressed, wholeClusters, targetBackingSize } = options;
    this.source = source;
    this.target = target;
    this.behind = new WriteBehind(target);
    this.options = options;
    this.pace = new Pace(options);
    this.limit = new SpeedLimit(options.speed);
    const cluster = target.clusterSize ?? 1;
    this.align = compressed || wholeClusters ? cluster : 1;
    // A cluster that is not all zeroes is written whole: it gets its place anyway.
    const clusterUnit = target instanceof Qcow2Node ? target.codec.unitBytes : (target.clusterSize ?? RAW_UNIT);
    const wanted = sparseBytes > 0 ? 2 ** Math.floor(Math.log2(sparseBytes)) : SECTOR_SIZE;
    const leavesUnits = targetBackingSize !== null && !compressed;
    this.unit = leavesUnits ? wanted : Math.max(wanted, target.clusterSize === null ? SECTOR_SIZE : clusterUnit);
    this.chunkBytes = Math.max(CHUNK, cluster);
  }

  async run(): Promise<void> {
    try {
      await this.copy();
      await allEnded(this.writes);
    } catch (error) {
      this.over = true;
      // The buffers belong to the target until it is done with them.
      await Promise.allSettled(this.writes);
      throw error;
    }
    await this.behind.end();
    this.pace.throwIfCancelled();
    this.options.onProgress?.(this.source.size, this.source.size);
  }

  private async copy(): Promise<void> {
    const { source, pace } = this;
    const { size } = source;
    const queue: Chunk[] = [];
    for (let at = 0; at < size;) {
      if (pace.due()) {
        await pace.turn(at, size);
      }
      const found = this.extent(at, size - at);
      const stretch = isPromise(found) ? await found : found;
      const zeroes = stretch.kind === 'zero' && this.options.sparseBytes > 0;
      if (stretch.kind === 'below') {
        at += stretch.length;
        continue;
      }
      if (zeroes) {
        const done = this.writeZeroes(at, stretch.length);
        if (isPromise(done)) {
          await done;
        }
        at += stretch.length;
        continue;
      }
      const wait = this.limit.delay(performance.now());
      if (wait > 0) {
        await this.rest(wait, at);
      }
      const chunk = this.read(at, stretch);
      this.limit.use(chunk.bytes.length);
      at = chunk.offset + chunk.bytes.length;
      if (chunk.compressed && chunk.ready === null) {
        // It was decoded here: threads that had no time then may have some now.
        await pace.turn(at, size);
      }
      if (chunk.ready === null && queue.length === 0) {
        const done = this.write(chunk);
        if (isPromise(done)) {
          await this.writeOn(done);
        }
        continue;
      }
      chunk.ready?.catch(() => undefined);
      queue.push(chunk);
      if (queue.length >= this.options.coroutines) {
        await this.finishOne(queue);
      }
    }
    while (queue.length > 0) {
      await this.finishOne(queue);
    }
  }

  /** Writes a chunk of those that are on their way: the first, or the first that is there. */
  private async finishOne(queue: Chunk[]): Promise<void> {
    const index = this.options.outOfOrder ? await firstReady(queue) : 0;
    const [chunk] = queue.splice(index, 1);
    await this.finish(chunk!);
  }

  /** Waits until the limit lets the next chunk be copied. @throws EngineError `cancelled` */
  private async rest(milliseconds: number, done: number): Promise<void> {
    this.options.onProgress?.(done, this.source.size);
    // Cancelling ends it early, and is found out after it.
    await setTimeout(milliseconds, undefined, { signal: this.options.signal }).catch(() => undefined);
    this.pace.throwIfCancelled();
  }

  /** Lets a write go on while the next chunks are read. */
  private async writeOn(done: Promise<void>): Promise<void> {
    done.catch(() => undefined);
    this.writes.push(done);
    // What is compressed comes to lie in the order of its clusters.
    if (this.writes.length > (this.options.compressed && !this.options.outOfOrder ? 0 : BEHIND)) {
      await this.writes.shift();
    }
  }

  private async finish(chunk: Chunk): Promise<void> {
    await chunk.ready;
    const done = this.write(chunk);
    if (isPromise(done)) {
      await this.writeOn(done);
    }
  }

  /** Has to be waited for where tables are to be fetched first. */
  private extent(offset: number, length: number): Awaitable<CopyExtent> {
    const say = (error: unknown): CopyExtent => {
      if (this.options.onUnreadable === null || !(error instanceof EngineError)) {
        throw reworded(error, (message) => `error while reading block status at offset ${offset}: ${message}`);
      }
      // Reading it says what is wrong.
      return { kind: 'data', length: Math.min(length, SECTOR_SIZE), compressed: false };
    };
    try {
      const found = loading(() => this.source.extent(offset, length));
      return isPromise(found) ? found.catch(say) : found;
    } catch (error) {
      return say(error);
    }
  }

  /** The same where it is known without waiting; null where it is not. */
  private knownExtent(offset: number, length: number): CopyExtent | null {
    try {
      return this.source.extent(offset, length);
    } catch (error) {
      if (error instanceof NotLoaded || error instanceof EngineError) {
        // The next chunk begins there, and waits for it or finds out what is wrong.
        return null;
      }
      throw error;
    }
  }

  /** Reads data from `offset` on, `first` and what follows it, as far as one chunk goes. */
  private read(offset: number, first: CopyExtent): Chunk {
    const { size } = this.source;
    const { align, chunkBytes } = this;
    const start = Math.floor(offset / align) * align;
    const most = Math.min(size, (Math.floor(start / chunkBytes) + 1) * chunkBytes);
    let end = offset;
    let compressed = false;
    for (let extent: CopyExtent | null = first; extent !== null && this.isCopied(extent);) {
      compressed ||= extent.compressed;
      end += extent.length;
      extent = end < most ? this.knownExtent(end, most - end) : null;
    }
    end = Math.min(most, Math.ceil(end / align) * align);
    const buffer = this.take();
    const bytes = end - start === buffer.length ? buffer : buffer.subarray(0, end - start);
    const ready = this.fill(start, bytes, compressed);
    return { offset: start, bytes, buffer, compressed, ready: isPromise(ready) ? ready : null };
  }

  private isCopied({ kind }: CopyExtent): boolean {
    return kind === 'data' || (kind === 'zero' && this.options.sparseBytes === 0);
  }

  private fill(offset: number, bytes: Uint8Array, compressed: boolean): Awaitable<void> {
    const salvage = (error: unknown) => this.salvage(offset, bytes, error);
    try {
      const done = loading(() => this.source.read(offset, bytes, compressed));
      return isPromise(done) ? done.catch(salvage) : done;
    } catch (error) {
      return salvage(error);
    }
  }

  /** A buffer for a chunk, which threads can decode into. */
  private take(): Buffer {
    return this.spare.pop() ?? Buffer.from(new SharedArrayBuffer(this.chunkBytes));
  }

  /** Reads sector by sector what cannot be read as a whole. @throws what keeps it from being read, where that is not allowed */
  private async salvage(offset: number, bytes: Uint8Array, error: unknown): Promise<void> {
    if (!this.mayBeZeroes(error)) {
      throw reworded(error, (message) => `error while reading at byte ${offset}: ${message}`);
    }
    for (let done = 0; done < bytes.length; done += SECTOR_SIZE) {
      const sector = bytes.subarray(done, done + SECTOR_SIZE);
      try {
        await loading(() => this.source.read(offset + done, sector, false));
      } catch (problem) {
        if (!this.mayBeZeroes(problem)) {
          throw problem;
        }
        this.options.onUnreadable?.(offset + done, problem);
        sector.fill(0);
      }
    }
  }

  /** Whether what this keeps from being read becomes zeroes. */
  private mayBeZeroes(error: unknown): error is EngineError {
    return this.options.onUnreadable !== null && !this.over && error instanceof EngineError;
  }

  private write(chunk: Chunk): Awaitable<void> {
    const done = this.options.compressed ? this.writeCompressed(chunk) : this.writeRuns(chunk);
    if (isPromise(done)) {
      return done.then(() => this.giveBack(chunk));
    }
    this.giveBack(chunk);
  }

  private giveBack({ buffer, bytes }: Chunk): void {
    this.behind.wrote(bytes.length);
    this.spare.push(buffer);
  }

  private writeRuns({ offset, bytes }: Chunk): Awaitable<void> {
    const { sparseBytes } = this.options;
    if (sparseBytes === 0) {
      return this.put(offset, bytes);
    }
    const waiting: Promise<void>[] = [];
    try {
      for (const { start, end, zero } of zeroRuns(bytes, offset, this.unit, sparseBytes)) {
        const done = zero
          ? this.writeZeroes(offset + start, end - start)
          : this.put(offset + start, end - start === bytes.length ? bytes : bytes.subarray(start, end));
        if (isPromise(done)) {
          waiting.push(done);
        }
      }
    } catch (error) {
      // The target still has a part of the buffer.
      return allEnded(waiting).then(() => {
        throw error;
      });
    }
    return waiting.length === 0 ? undefined : allEnded(waiting);
  }

  private async writeCompressed({ offset, bytes }: Chunk): Promise<void> {
    const { target } = this;
    if (!(target instanceof Qcow2Node)) {
      throw new RangeError('only qcow2 has compressed clusters');
    }
    for (let done = 0; done < bytes.length; done += target.clusterSize) {
      const cluster = bytes.subarray(done, done + target.clusterSize);
      try {
        if (this.options.sparseBytes > 0 && isZero(cluster)) {
          await this.writeZeroes(offset + done, cluster.length);
        } else {
          await target.writeCompressed(offset + done, cluster);
        }
      } catch (error) {
        throw reworded(error, (message) => `error while writing at byte ${offset + done}: ${message}`);
      }
    }
  }

  private put(offset: number, bytes: Uint8Array): Awaitable<void> {
    return this.saying(offset, () => this.target.write(offset, bytes));
  }

  private writeZeroes(offset: number, length: number): Awaitable<void> {
    const { targetIsZero, targetBackingSize } = this.options;
    if (targetIsZero && targetBackingSize === null) {
      return;
    }
    // What lies past the end of the backing file reads as zero anyway.
    const end = Math.min(offset + length, targetIsZero && targetBackingSize !== null ? targetBackingSize : Infinity);
    if (end > offset) {
      return this.saying(offset, () => this.target.writeZeroes(offset, end - offset, { mayUnmap: this.options.sparseBytes > 0 }));
    }
  }

  private saying(offset: number, write: () => Awaitable<void>): Awaitable<void> {
    const say = (error: unknown) => {
      throw reworded(error, (message) => `error while writing at byte ${offset}: ${message}`);
    };
    try {
      const done = write();
      return isPromise(done) ? done.catch(say) : done;
    } catch (error) {
      return say(error);
    }
  }
}

/** Index of the first chunk that can be waited for no longer, or has failed. */
function firstReady(queue: readonly Chunk[]): Promise<number> {
  return Promise.race(
    queue.map(({ ready }, index) =>
      (ready ?? Promise.resolve()).then(
        () => index,
        () => index,
      ),
    ),
  );
}
