import { allEnded, isPromise, type Awaitable } from '../../awaitable';
import type { BlockNode } from '../../block/blockNode';
import { EngineError, reworded } from '../../errors';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { SECTOR_SIZE } from '../../formats/raw/size';
import { isZero } from '../../isZero';
import { Pace, type PaceOptions } from '../../pace';
import type { CopySource } from './copySource';
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
  /** What cannot be read becomes zeroes, and is told; null ends with the error. */
  readonly onUnreadable: ((offset: number, error: EngineError) => void) | null;
}

/** Bytes of zeroes that become a hole when nothing else is said. */
export const DEFAULT_SPARSE = 4096;
/** Bytes that are copied at a time, at least a cluster: as many as the processor's cache holds. */
const CHUNK = 512 * 1024;
/** Chunks that are being decompressed at the same time. */
const AHEAD = 6;
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
  /** What chunks begin and end at, where there is no backing file to leave the rest to. */
  private readonly align: number;
  private readonly unit: number;
  private readonly chunkBytes: number;
  private readonly spare: Buffer[] = [];
  private readonly behind: WriteBehind;
  private readonly writes: Promise<void>[] = [];

  constructor(source: CopySource, target: BlockNode, options: CopyDiskOptions) {
    const { sparseBytes, compressed, wholeClusters, targetBackingSize } = options;
    this.source = source;
    this.target = target;
    this.behind = new WriteBehind(target);
    this.options = options;
    this.pace = new Pace(options);
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
      const stretch = this.extent(at, size - at);
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
      const chunk = this.read(at);
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
      if (queue.length >= AHEAD) {
        await this.finish(queue.shift()!);
      }
    }
    for (const chunk of queue) {
      await this.finish(chunk);
    }
  }

  /** Lets a write go on while the next chunks are read. */
  private async writeOn(done: Promise<void>): Promise<void> {
    done.catch(() => undefined);
    this.writes.push(done);
    // What is compressed comes to lie in the order of its clusters.
    if (this.writes.length > (this.options.compressed ? 0 : BEHIND)) {
      await this.writes.shift();
    }
  }

  private async finish(chunk: Chunk): Promise<void> {
    try {
      await chunk.ready;
    } catch (error) {
      this.salvage(chunk, error);
    }
    const done = this.write(chunk);
    if (isPromise(done)) {
      await this.writeOn(done);
    }
  }

  private extent(offset: number, length: number): ReturnType<CopySource['extent']> {
    try {
      return this.source.extent(offset, length);
    } catch (error) {
      if (this.options.onUnreadable === null) {
        throw reworded(error, (message) => `error while reading block status at offset ${offset}: ${message}`);
      }
      // Reading it says what is wrong.
      return { kind: 'data', length: Math.min(length, SECTOR_SIZE), compressed: false };
    }
  }

  /** Reads data from `offset` on as far as one chunk goes. */
  private read(offset: number): Chunk {
    const { size } = this.source;
    const { align, chunkBytes } = this;
    const start = Math.floor(offset / align) * align;
    const most = Math.min(size, (Math.floor(start / chunkBytes) + 1) * chunkBytes);
    let end = offset;
    let compressed = false;
    while (end < most) {
      const extent = this.extent(end, most - end);
      const wanted = extent.kind === 'data' || (extent.kind === 'zero' && this.options.sparseBytes === 0);
      if (!wanted) {
        break;
      }
      compressed ||= extent.compressed;
      end += extent.length;
    }
    end = Math.min(most, Math.ceil(end / align) * align);
    const buffer = this.take();
    const bytes = end - start === buffer.length ? buffer : buffer.subarray(0, end - start);
    let ready: Awaitable<void> = undefined;
    try {
      ready = this.source.read(start, bytes, compressed);
    } catch (error) {
      this.salvage({ offset: start, bytes, buffer, compressed, ready: null }, error);
    }
    return { offset: start, bytes, buffer, compressed, ready: isPromise(ready) ? ready : null };
  }

  /** A buffer for a chunk, which threads can decode into. */
  private take(): Buffer {
    return this.spare.pop() ?? Buffer.from(new SharedArrayBuffer(this.chunkBytes));
  }

  /** Reads a chunk that cannot be read as a whole sector by sector. */
  private salvage({ offset, bytes }: Chunk, error: unknown): void {
    const { onUnreadable } = this.options;
    if (onUnreadable === null || !(error instanceof EngineError)) {
      throw reworded(error, (message) => `error while reading at byte ${offset}: ${message}`);
    }
    for (let done = 0; done < bytes.length; done += SECTOR_SIZE) {
      const sector = bytes.subarray(done, done + SECTOR_SIZE);
      try {
        void this.source.read(offset + done, sector, false);
      } catch (problem) {
        if (!(problem instanceof EngineError)) {
          throw problem;
        }
        onUnreadable(offset + done, problem);
        sector.fill(0);
      }
    }
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
