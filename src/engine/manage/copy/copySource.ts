import { allEnded, type Awaitable } from '../../awaitable';
import type { Layer, OpenedChain } from '../../chain/layer';
import { openReader, type ChainReader } from '../../chain/chainReader';
import { dataSource } from '../../chain/layerStatus';
import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import { SECTOR_SIZE } from '../../formats/raw/size';
import type { ByteSource } from '../../io/source';
import type { LayerView } from '../../../protocol/place';
import { decodeAll } from './decodeAll';
import type { DecodeRequest } from './decodeProtocol';
import { DecodeThreads } from './decodeThreads';
import { StoredRuns } from './storedRun';

/** A disk, or a part of one made of several, that is copied from. */
export interface CopyInput {
  readonly chain: OpenedChain;
  readonly ciphers: ReadonlyMap<Layer, ClusterCipher>;
  readonly view: LayerView | undefined;
}

/** What of the only input is not copied: the target, or its backing file, has it. */
export interface LeftBelow {
  /** Index of the first layer of which nothing is copied. */
  readonly depth: number;
  /** Guest bytes from which on the target would have something else: what no layer has is zeroes there, and copied as such. */
  readonly end: number;
}

/** What is to be done with a stretch. */
export interface CopyExtent {
  /** `below`: not copied (see LeftBelow). */
  readonly kind: 'data' | 'zero' | 'below';
  /** Bytes, at least 1. */
  readonly length: number;
  /** Reading it means decompressing. */
  readonly compressed: boolean;
}

/** Bytes of a disk from which on starting threads costs less than decoding without them. */
const THREADS_PAY = 16 * 1024 * 1024;
/** Bytes of tables that are kept for an input. */
const CACHE = 32 * 1024 * 1024;

interface Input {
  readonly start: number;
  readonly end: number;
  readonly reader: ChainReader;
  readonly chain: OpenedChain;
  /** By depth, what the data of a layer lies in; null where it is not one file with holes. */
  readonly sparse: readonly (ByteSource | null)[];
  readonly stored: StoredRuns;
}

/** Data or a hole, in a file that data of a layer lies in. */
interface FileExtent {
  readonly file: ByteSource;
  readonly start: number;
  readonly end: number;
  readonly data: boolean;
}

/** The guest bytes of one chain, or of several one after the other. */
export class CopySource {
  /** Bytes; a multiple of 512. */
  readonly size: number;
  private readonly inputs: readonly Input[];
  private readonly threads: DecodeThreads | null;
  /** For what is read to be decoded. */
  private readonly spare: SharedArrayBuffer[] = [];
  private readonly left: LeftBelow | null;
  private current: Input;
  /** The last answer, and where it begins: finding the end of an extent may cost the file system a walk over all of its pages. */
  private known: { readonly start: number; readonly extent: CopyExtent } | null = null;
  private knownInFile: FileExtent | null = null;

  /** @throws EngineError as `openReader` */
  constructor(inputs: readonly CopyInput[], left: LeftBelow | null, threads: DecodeThreads | null = null) {
    let start = 0;
    this.inputs = inputs.map(({ chain, ciphers, view }): Input => {
      const reader = openReader(chain, { view, ciphers, cacheBytes: CACHE });
      const size = Math.ceil(reader.size / SECTOR_SIZE) * SECTOR_SIZE;
      const sparse = chain.layers.map((layer) => {
        const source = layer.detail.format === 'raw' ? null : dataSource(layer);
        return source && source.allocatedBytes < source.size ? source : null;
      });
      const stored = new StoredRuns(reader, chain, this.spare);
      const input = { start, end: start + size, reader, chain, sparse, stored };
      start += size;
      return input;
    });
    this.size = start;
    this.threads = threads ?? (start >= THREADS_PAY ? new DecodeThreads() : null);
    this.left = left;
    this.current = this.inputs[0]!;
  }

  /**
   * What the bytes from `offset` on are; at most `length` bytes. Sources do not change while they are copied.
   * @throws EngineError as `ChainReader.blockStatus`
   */
  extent(offset: number, length: number): CopyExtent {
    const { known } = this;
    const past = known === null ? 0 : offset - known.start;
    if (known === null || past < 0 || past >= known.extent.length) {
      const extent = this.findExtent(offset, this.size - offset);
      this.known = { start: offset, extent };
      return extent.length <= length ? extent : { ...extent, length };
    }
    return { ...known.extent, length: Math.min(length, known.extent.length - past) };
  }

  private findExtent(offset: number, length: number): CopyExtent {
    const input = this.inputAt(offset);
    const within = offset - input.start;
    if (within >= input.reader.size) {
      return { kind: 'zero', length: input.end - offset, compressed: false };
    }
    const extent = input.reader.blockStatus(within, Math.min(length, input.reader.size - within));
    const { class: kind } = extent;
    const { left } = this;
    if (left && (extent.depth === null || extent.depth >= left.depth)) {
      const beyond = extent.depth === null && within >= left.end;
      const reach = extent.depth === null && !beyond ? left.end - within : Infinity;
      return { kind: beyond ? 'zero' : 'below', length: Math.min(extent.length, reach), compressed: false };
    }
    if (kind === 'zero' || kind === 'unallocated') {
      return { kind: 'zero', length: extent.length, compressed: false };
    }
    const file = extent.depth === null || extent.compressed ? null : input.sparse[extent.depth];
    if (file && extent.hostOffset !== null) {
      // Preallocated clusters that were never written are holes of the file.
      if (extent.hostOffset >= file.size) {
        return { kind: 'zero', length: extent.length, compressed: false };
      }
      const { data, end } = this.fileExtent(file, extent.hostOffset);
      return { kind: data ? 'data' : 'zero', length: Math.min(extent.length, end - extent.hostOffset), compressed: false };
    }
    return { kind: 'data', length: extent.length, compressed: extent.compressed !== null };
  }

  private fileExtent(file: ByteSource, hostOffset: number): FileExtent {
    const { knownInFile } = this;
    if (knownInFile?.file === file && hostOffset >= knownInFile.start && hostOffset < knownInFile.end) {
      return knownInFile;
    }
    const { length, data } = file.extentAt(hostOffset);
    this.knownInFile = { file, start: hostOffset, end: hostOffset + length, data };
    return this.knownInFile;
  }

  /**
   * Fills `target`. What is compressed is decoded by threads, where they have time and the target lies in memory that they can see; the file
   * is read before this returns. Once it has thrown, or what it returned is settled, nothing writes into `target` any more.
   * @throws EngineError as `ChainReader.read`
   */
  read(offset: number, target: Uint8Array, compressed: boolean): Awaitable<void> {
    const waiting: Promise<void>[] = [];
    try {
      for (let done = 0; done < target.length;) {
        const input = this.inputAt(offset + done);
        const part = target.subarray(done, Math.min(target.length, done + input.end - offset - done));
        this.readInput(input, offset + done - input.start, part, compressed, waiting);
        done += part.length;
      }
    } catch (error) {
      if (waiting.length === 0) {
        throw error;
      }
      // What is being decoded goes into the same buffer, which nobody may use before.
      return allEnded(waiting).then(() => {
        throw error;
      });
    }
    return waiting.length === 0 ? undefined : allEnded(waiting);
  }

  /** Ends the threads; what they were doing is given up. */
  async close(): Promise<void> {
    await this.threads?.close();
  }

  /** @param waiting gets what is still being decoded into `target` */
  private readInput(input: Input, offset: number, target: Uint8Array, compressed: boolean, waiting: Promise<void>[]): void {
    const there = Math.max(0, Math.min(target.length, input.reader.size - offset));
    target.fill(0, there);
    const { threads } = this;
    const { buffer } = target;
    if (!compressed || !(buffer instanceof SharedArrayBuffer)) {
      input.reader.read(offset, target.subarray(0, there));
      return;
    }
    for (let done = 0; done < there;) {
      const at = offset + done;
      const run = input.stored.next(at, there - done, target.byteOffset + done);
      const part = target.subarray(done, done + (typeof run === 'number' ? run : run.length));
      done += part.length;
      if (typeof run === 'number') {
        input.reader.read(at, part);
        continue;
      }
      const { metadata, stored, clusters } = run;
      const request = { compression: metadata.compressionType, clusterSize: metadata.clusterSize, stored, target: buffer, clusters };
      // What goes wrong is found out by reading it once more, and told.
      const otherwise = () => input.reader.read(at, part);
      if (threads?.isFree(request.compression)) {
        waiting.push(this.decodeThere(threads, request, otherwise));
        continue;
      }
      const decoded = decodeAll(request);
      this.spare.push(stored);
      if (!decoded) {
        otherwise();
      }
    }
  }

  private async decodeThere(threads: DecodeThreads, request: Omit<DecodeRequest, 'id'>, otherwise: () => void): Promise<void> {
    const decoded = await threads.decode(request);
    this.spare.push(request.stored);
    if (!decoded) {
      otherwise();
    }
  }

  private inputAt(offset: number): Input {
    const { current } = this;
    if (offset >= current.start && offset < current.end) {
      return current;
    }
    this.current = this.inputs.find(({ start, end }) => offset >= start && offset < end) ?? current;
    return this.current;
  }
}
