import { after, isPromise, type Awaitable } from '../../awaitable';
import type { BlockNode, NodeStatus, Preallocation, WriteOptions, ZeroOptions } from '../../block/blockNode';
import { RequestsInFlight } from '../../block/inFlight';
import { repairQed } from '../../check/qedRepair';
import { corruptImage, EngineError, invalidRequest, readOnlyImage, unsupportedRequest } from '../../errors';
import { loading } from '../../io/loading';
import type { Storage } from '../../io/storage';
import { SECTOR_SIZE } from '../raw/size';
import { QedFlusher } from './flusher';
import { QedHeaderWriter } from './headerWriter';
import { readQedMetadata, requireOpenableQed, type QedMetadata } from './metadata';
import { NewClusters, readBacking } from './newClusters';
import { advance, Serialised } from './serialised';
import { QedTables, type QedRun } from './tables';
import { QedTidier, type IdleTimer } from './tidier';

export interface QedNodeOptions {
  readonly nodeName: string;
  /** The image's name as QEMU has it in messages. */
  readonly filename: string;
  /** Opened for what unallocated ranges are read from; it stays its owner's to close. */
  readonly backing: BlockNode | null;
  /** Nothing is written, not even the mark of an image that needs a check. The file may be open for reading only. */
  readonly readOnly: boolean;
  /** Bytes of tables to keep; 4 MiB when left out. */
  readonly cacheBytes?: number | undefined;
  readonly idleTimer?: IdleTimer | undefined;
}

const DEFAULT_CACHE = 4 * 1024 * 1024;
const ZERO_CLUSTER = 1;

/**
 * A QED image as a node. Requests run at the same time; only those that take clusters or change entries wait for one another. The order of
 * writes is told in `QedFlusher`.
 */
export class QedNode implements BlockNode {
  readonly driver = 'qed';
  readonly nodeName: string;
  readonly filename: string;
  readonly readOnly: boolean;
  readonly clusterSize: number;
  private readonly storage: Storage;
  private readonly metadata: QedMetadata;
  private readonly header: QedHeaderWriter;
  private readonly tables: QedTables;
  private readonly allocations = new Serialised();
  private readonly flusher: QedFlusher;
  private readonly tidier: QedTidier;
  private readonly newClusters: NewClusters;
  private readonly requests: RequestsInFlight;
  private backingNode: BlockNode | null;
  private bytes: number;
  /** Set when metadata contradicts itself: nothing is written any more. */
  private corruption: EngineError | null = null;

  private constructor(storage: Storage, metadata: QedMetadata, options: QedNodeOptions) {
    this.storage = storage;
    this.metadata = metadata;
    this.nodeName = options.nodeName;
    this.filename = options.filename;
    this.readOnly = options.readOnly;
    this.backingNode = options.backing;
    this.requests = new RequestsInFlight(options.filename);
    this.clusterSize = metadata.clusterSize;
    this.bytes = metadata.size;
    this.header = new QedHeaderWriter(storage, metadata);
    this.tables = new QedTables(storage, metadata, metadata.size, options.cacheBytes ?? DEFAULT_CACHE);
    this.flusher = new QedFlusher(storage, this.tables, this.allocations);
    const { header, tables, flusher, allocations } = this;
    this.tidier = new QedTidier(
      { storage, header, tables, flusher, allocations, damaged: () => this.corruption !== null },
      options.idleTimer,
    );
    this.newClusters = new NewClusters(storage, tables, metadata.clusterSize);
  }

  /**
   * Opens an image; the node owns `storage` from then on. For writing, one that was not closed cleanly is checked and repaired first, and
   * features that a writer must clear are cleared.
   * @throws EngineError `format.invalid`, `format.unsupported`, `file.io`, `request.readOnly` when the storage cannot be written but must
   */
  static async open(storage: Storage, options: QedNodeOptions): Promise<QedNode> {
    if (!options.readOnly && !storage.writable) {
      throw readOnlyImage(options.filename);
    }
    let metadata = await loading(() => readQedMetadata(storage));
    requireOpenableQed(metadata);
    let damaged = false;
    if (!options.readOnly) {
      const header = new QedHeaderWriter(storage, metadata);
      if (header.hasUnknownAutoclear) {
        await header.clearAutoclear();
        await storage.flush();
      }
      if (header.needCheck) {
        damaged = !(await repairQed(storage, metadata)).clean;
        if (!damaged) {
          await header.setNeedCheck(false);
          await storage.flush();
        }
      }
      metadata = await loading(() => readQedMetadata(storage));
    }
    const node = await loading(() => new QedNode(storage, metadata, options));
    if (damaged) {
      const message = 'The check before use found clusters with more than one user.';
      node.corruption = corruptImage(storage.name, 'L2 table', metadata.l1TableOffset, message);
    }
    node.requireSeparateTables();
    return node;
  }

  get size(): number {
    return this.bytes;
  }

  get backing(): BlockNode | null {
    return this.backingNode;
  }

  /** Reads unallocated ranges from another node from now on; whoever changes it sees to the guest's bytes staying the same. */
  replaceBacking(backing: BlockNode | null): void {
    this.backingNode = backing;
  }

  /**
   * Records another backing file, or none, in the header.
   * @param format only that it is `raw` can be recorded; any other is guessed by whoever opens the image
   * @throws EngineError `request.readOnly`, `request.invalid` for a name without room, `request.unsupported`, `file.io`
   */
  async changeBackingFile(name: string | null, format: string | null): Promise<void> {
    this.requireWritable();
    await this.requests.track(this.allocations.run(() => this.header.setBacking(name, format)));
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.requests.require(guestOffset, target.length, this.bytes);
    return this.requests.track(
      advance(guestOffset, guestOffset + target.length, (at, rest) => {
        const run = this.lookup(at, rest);
        return isPromise(run)
          ? run.then((found) => this.readRun(found, at, guestOffset, target))
          : this.readRun(run, at, guestOffset, target);
      }),
    );
  }

  write(guestOffset: number, bytes: Uint8Array, options: WriteOptions = {}): Awaitable<void> {
    this.requests.require(guestOffset, bytes.length, this.bytes);
    const done = this.advanceWriting(guestOffset, guestOffset + bytes.length, (run, at) => {
      const part = bytes.subarray(at - guestOffset, at - guestOffset + run.length);
      return run.kind === 'data' ? this.writeInPlace(run, part) : this.allocate(at, part);
    });
    return this.requests.track(options.fua ? Promise.resolve(done).then(() => this.flush()) : done);
  }

  writeZeroes(guestOffset: number, length: number, options: ZeroOptions = {}): Awaitable<void> {
    this.requests.require(guestOffset, length, this.bytes);
    const done = this.zeroRange(guestOffset, guestOffset + length, options);
    return this.requests.track(options.fua ? Promise.resolve(done).then(() => this.flush()) : done);
  }

  /** The format cannot give clusters back: nothing changes, as with QEMU's driver. */
  discard(guestOffset: number, length: number): void {
    this.requests.require(guestOffset, length, this.bytes);
    this.requireWritable();
  }

  async flush(): Promise<void> {
    if (this.readOnly) {
      return;
    }
    await this.requests.track(this.flusher.flush());
    this.tidier.report();
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    this.requests.require(guestOffset, length, this.bytes);
    if (length === 0) {
      throw invalidRequest('The status of no bytes was asked for.');
    }
    return after(this.lookup(guestOffset, length), ({ kind, length: reached, hostOffset }) => ({
      class: kind,
      length: reached,
      hostOffset: kind === 'data' ? hostOffset : null,
    }));
  }

  reserve(guestOffset: number, length: number): Awaitable<boolean> {
    this.requests.require(guestOffset, length, this.bytes);
    this.requireWritable();
    return after(this.lookup(guestOffset, length), (run) => {
      const there = run.kind === 'data' && run.length >= length && run.hostOffset + length <= this.storage.size;
      return there && (this.storage.reserve?.(run.hostOffset, length) ?? false);
    });
  }

  async resize(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.requireWritable();
    const { tableEntries, l2Coverage } = this.metadata;
    if (preallocation !== 'off') {
      throw unsupportedRequest(`Unsupported preallocation mode '${preallocation}'`);
    }
    if (size < this.bytes) {
      throw unsupportedRequest('Shrinking images is currently not supported');
    }
    if (!(size % SECTOR_SIZE === 0 && size <= Math.min(tableEntries * l2Coverage, Number.MAX_SAFE_INTEGER))) {
      throw invalidRequest('Invalid image size specified');
    }
    await this.requests.track(this.grow(size));
  }

  async close(): Promise<void> {
    if (this.requests.ended) {
      return;
    }
    const ended = this.requests.end();
    this.tidier.stop();
    await ended;
    try {
      await this.tidier.settle();
      if (!this.readOnly) {
        await this.tidier.markClean();
        this.tidier.report();
      }
    } finally {
      this.storage.close();
    }
  }

  private lookup(guestOffset: number, length: number): Awaitable<QedRun> {
    return loading(() => this.tables.lookup(guestOffset, length));
  }

  private readRun(run: QedRun, at: number, start: number, target: Uint8Array): Awaitable<number> {
    const part = target.subarray(at - start, at - start + run.length);
    switch (run.kind) {
      case 'data':
        return after(
          loading(() => this.storage.read(part, run.hostOffset)),
          (count) => {
            part.fill(0, count);
            return part.length;
          },
        );
      case 'zero':
        part.fill(0);
        return part.length;
      case 'unallocated':
        return after(readBacking(this.backingNode, at, part), () => part.length);
    }
  }

  /** Goes over runs for a request that changes them. @param step returns when its run, or as many bytes as it says, are done */
  private advanceWriting(from: number, end: number, step: (run: QedRun, at: number) => Awaitable<number>): Awaitable<void> {
    this.requireWritable();
    return advance(from, end, (at, rest) => {
      if (this.tables.full) {
        return this.flusher.flush().then(() => after(this.lookupForWriting(at, rest), (run) => step(run, at)));
      }
      return after(this.lookupForWriting(at, rest), (run) => step(run, at));
    });
  }

  /** At most as far as one L2 table reaches, whether there is one or not. A contradiction in the tables ends all writing. */
  private lookupForWriting(guestOffset: number, length: number): Awaitable<QedRun> {
    this.requireWritable();
    const { l2Coverage } = this.metadata;
    const inTable = l2Coverage - (guestOffset % l2Coverage);
    return this.guarded(() => this.lookup(guestOffset, Math.min(length, inTable)));
  }

  private guarded<T>(operation: () => Awaitable<T>): Awaitable<T> {
    try {
      const result = operation();
      return isPromise(result) ? result.catch((error: unknown) => this.stopWriting(error)) : result;
    } catch (error) {
      return this.stopWriting(error);
    }
  }

  private stopWriting(error: unknown): never {
    if (!(error instanceof EngineError && (error.code === 'format.invalid' || error.code === 'image.corrupt'))) {
      throw error;
    }
    const { structure = 'L2 table', hostOffset = 0 } = error.place;
    this.corruption ??=
      error.code === 'image.corrupt'
        ? error
        : corruptImage(this.storage.name, structure, hostOffset, error.message.slice(error.message.lastIndexOf(': ') + 2));
    throw this.corruption;
  }

  private writeInPlace(run: QedRun, part: Uint8Array): Awaitable<number> {
    this.requirePlace(run);
    return after(this.storage.write(part, run.hostOffset), () => part.length);
  }

  private requirePlace(run: QedRun): void {
    void this.guarded(() => this.tables.requireNoMetadata(run.hostOffset, run.length));
  }

  /** Writes bytes of one run that was not data when it was looked up. */
  private allocate(guestOffset: number, part: Uint8Array): Awaitable<number> {
    return this.changing(guestOffset, part.length, (run) => {
      const here = part.subarray(0, run.length);
      return run.kind === 'data' ? this.writeInPlace(run, here) : this.allocateRun(run, guestOffset, here.length, here);
    });
  }

  /** Looks again when it is this request's turn: another one may have been there first. */
  private changing(guestOffset: number, length: number, change: (run: QedRun) => Awaitable<number>): Awaitable<number> {
    return this.allocations.run(() =>
      after(this.lookupForWriting(guestOffset, length), (run) =>
        run.kind === 'data' ? change(run) : after(this.prepare(), () => change(run)),
      ),
    );
  }

  /** Before the first change of a table: what lies past the last whole cluster goes, and the image is marked. */
  private prepare(): Awaitable<void> {
    this.tidier.noteChange();
    if (this.header.needCheck) {
      return;
    }
    return this.markInUse();
  }

  private async markInUse(): Promise<void> {
    if (this.storage.size > this.tables.allocationEnd) {
      await this.storage.truncate(this.tables.allocationEnd);
    }
    await this.header.setNeedCheck(true);
    await this.storage.flush();
    this.tidier.arm();
  }

  /**
   * Gives a run clusters, and fills them: with `part`, and with what the guest reads around it.
   * @param part null for zeroes
   */
  private allocateRun(run: QedRun, guestOffset: number, length: number, part: Uint8Array | null): Awaitable<number> {
    void this.guarded(() => this.tables.provideTable(guestOffset));
    const backing = run.kind === 'unallocated' ? this.backingNode : null;
    return after(this.newClusters.fill({ guestOffset, length, part, backing, size: this.bytes }), () => length);
  }

  /** @param end may lie past the end of the disk while it grows */
  private zeroRange(from: number, end: number, options: ZeroOptions): Awaitable<void> {
    return this.advanceWriting(from, end, (run, at) => {
      switch (run.kind) {
        case 'zero':
          return run.length;
        case 'data':
          return this.zeroInPlace(run, options);
        case 'unallocated':
          return this.changing(at, run.length, (now) =>
            now.kind === 'data' ? this.zeroInPlace(now, options) : now.kind === 'zero' ? now.length : this.zeroRun(now, at, options),
          );
      }
    });
  }

  private zeroInPlace(run: QedRun, options: ZeroOptions): Awaitable<number> {
    if (options.noFallback) {
      throw unsupportedRequest('QED cannot zero allocated clusters without writing them.');
    }
    this.requirePlace(run);
    return after(this.storage.writeZeroes(run.hostOffset, run.length, { unmap: options.mayUnmap ?? false }), () => run.length);
  }

  /** Makes zero clusters of an unallocated run, and of its ends too if the guest reads zeroes around it anyway. */
  private zeroRun(run: QedRun, guestOffset: number, options: ZeroOptions): Awaitable<number> {
    const { clusterSize } = this;
    const last = guestOffset + run.length;
    const first = this.isZeroBelow(Math.floor(guestOffset / clusterSize) * clusterSize, guestOffset)
      ? Math.floor(guestOffset / clusterSize) * clusterSize
      : Math.ceil(guestOffset / clusterSize) * clusterSize;
    const lastEnd = Math.ceil(last / clusterSize) * clusterSize;
    const behind = this.isZeroBelow(last, lastEnd) ? lastEnd : Math.floor(last / clusterSize) * clusterSize;
    if (first <= guestOffset && first < behind) {
      const clusters = (behind - first) / clusterSize;
      void this.guarded(() => this.tables.provideTable(first));
      this.tables.map(first, clusters, ZERO_CLUSTER);
      return Math.min(last, behind) - guestOffset;
    }
    if (options.noFallback) {
      throw unsupportedRequest('QED cannot zero parts of clusters without writing them.');
    }
    const clusterEnd = (Math.floor(guestOffset / clusterSize) + 1) * clusterSize;
    return this.allocateRun(run, guestOffset, Math.min(last, clusterEnd) - guestOffset, null);
  }

  /** Whether there is no backing file for any of these bytes. */
  private isZeroBelow(from: number, end: number): boolean {
    return from >= Math.min(end, this.bytes, this.backingNode?.size ?? 0);
  }

  private async grow(size: number): Promise<void> {
    const before = this.bytes;
    await loading(() => this.tables.extendTo(size));
    const backed = Math.min(size, this.backingNode?.size ?? 0);
    // What a longer backing file has there, or an earlier writer left in the last cluster, must not come to light.
    const lastCluster = Math.min(size, Math.ceil(before / this.clusterSize) * this.clusterSize);
    if (before < lastCluster && (await this.lookup(before, lastCluster - before)).kind === 'data') {
      await this.zeroRange(before, lastCluster, {});
    }
    if (before < backed) {
      await this.zeroRange(before, backed, {});
    }
    await this.flusher.flush();
    await this.allocations.run(() => this.header.setSize(size));
    await this.storage.flush();
    this.bytes = size;
  }

  private requireSeparateTables(): void {
    if (this.readOnly) {
      return;
    }
    try {
      this.tables.requireSeparateTables();
    } catch (error) {
      if (!(error instanceof EngineError && error.code === 'image.corrupt')) {
        throw error;
      }
      // Looking at it does no harm.
      this.corruption ??= error;
    }
  }

  private requireWritable(): void {
    if (this.readOnly) {
      throw readOnlyImage(this.filename);
    }
    if (this.corruption) {
      throw this.corruption;
    }
  }
}
