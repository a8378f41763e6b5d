import { isPromise, type Awaitable } from '../../../awaitable';
import type { BlockNode, NodeStatus, Preallocation, WriteOptions, ZeroOptions } from '../../../block/blockNode';
import { RequestsInFlight } from '../../../block/inFlight';
import { corruptImage, invalidRequest, readOnlyImage } from '../../../errors';
import { loading, NotLoaded } from '../../../io/loading';
import type { Storage } from '../../../io/storage';
import { Qcow2ClusterMap } from '../clusterMap';
import { readQcow2Metadata, type Qcow2Metadata } from '../metadata';
import { FEATURE } from '../structures';
import { BitmapKeeper } from '../manage/bitmapKeeper';
import { Claims } from './claims';
import { Corruption } from './corruption';
import { EntryCodec } from './clusterEntry';
import { CompressedWriter } from './compressedWriter';
import { Discarder } from './discarder';
import { emptyAtOnce } from './emptier';
import { GuestData } from './guestData';
import { GuestEntries } from './guestEntries';
import { GuestWriter } from './guestWriter';
import { HeaderFields } from './headerFields';
import type { ImageParts } from './imageParts';
import { MetadataOrder } from './order';
import type { Qcow2Hooks, Qcow2NodeOptions } from './nodeOptions';
import { openMetadata } from './opening';
import { Preparation } from './preparation';
import { NOT_HERE, QuickPlaces } from './quickPlaces';
import { Refcounts } from './refcounts';
import { REGION, Regions } from './regions';
import { Reserver } from './reserver';
import { Resizer } from './resizer';
import { run, wait, type Steps } from './steps';
import { registerStructures, requireSeparateStructures } from './structureRegions';
import { ActiveTables } from './tables';
import { ZeroWriter } from './zeroWriter';

const DEFAULT_CACHE = 32 * 1024 * 1024;
/** Decompressed clusters that are kept. */
const COMPRESSED_BYTES = 8 * 1024 * 1024;
/**
 * A qcow2 image as a node. The order in which its metadata reaches the disk is told in `MetadataOrder`; requests that do not touch the
 * same clusters run at the same time.
 */
export class Qcow2Node implements BlockNode {
  readonly driver = 'qcow2';
  readonly nodeName: string;
  readonly filename: string;
  readonly readOnly: boolean;
  readonly clusterSize: number;
  readonly storage: Storage;
  readonly dataFile: Storage | null;
  readonly header: HeaderFields;
  readonly regions: Regions;
  readonly refcounts: Refcounts;
  readonly tables: ActiveTables;
  readonly order: MetadataOrder;
  readonly codec: EntryCodec;
  readonly hooks: Qcow2Hooks;
  private readonly data: GuestData;
  private readonly writer: GuestWriter;
  private readonly zeroes: ZeroWriter;
  private readonly discarder: Discarder;
  private readonly compressor: CompressedWriter;
  private readonly reserver: Reserver;
  private readonly resizer: Resizer;
  private readonly corruption: Corruption;
  private readonly claims = new Claims();
  private readonly requests: RequestsInFlight;
  private readonly places: QuickPlaces;
  private current: Qcow2Metadata;
  private map: Qcow2ClusterMap;
  private readonly preparation: Preparation;

  private constructor(metadata: Qcow2Metadata, options: Qcow2NodeOptions) {
    const { storage, dataFile = null, cacheBytes = DEFAULT_CACHE } = options;
    this.storage = storage;
    this.dataFile = dataFile;
    this.nodeName = options.nodeName;
    this.filename = options.filename ?? storage.name;
    this.readOnly = options.readOnly;
    this.hooks = options.hooks ?? new BitmapKeeper();
    this.current = metadata;
    const { clusterSize } = metadata;
    this.clusterSize = clusterSize;
    this.requests = new RequestsInFlight(this.filename);
    this.preparation = new Preparation(() => this.prepare());
    this.header = new HeaderFields(storage, metadata);
    this.regions = new Regions(clusterSize);
    this.regions.add(REGION.header, 0);
    this.data = new GuestData(
      dataFile ?? storage,
      metadata,
      options.backing,
      options.cipher ?? null,
      Math.min(COMPRESSED_BYTES, cacheBytes),
    );
    this.refcounts = new Refcounts(storage, metadata, this.header, this.regions, cacheBytes / 4, {
      onFree: (cluster) => {
        this.data.generation++;
        this.compressor.clusterFreed(cluster);
      },
      onTableMoved: (hostOffset, length) => {
        this.order.free(hostOffset, length);
      },
      alone: (work) => this.order.alone(work),
    });
    this.tables = new ActiveTables(storage, metadata, this.regions, this.refcounts, (cacheBytes / 4) * 3);
    this.order = new MetadataOrder({
      storage,
      dataFile,
      header: this.header,
      refcounts: this.refcounts,
      tables: this.tables,
      regions: this.regions,
      clusterSize,
    });
    this.corruption = new Corruption(storage, this.header, this.order);
    this.tables.attach(this.order);
    this.codec = new EntryCodec(metadata);
    this.places = new QuickPlaces(metadata, this.tables, !options.cipher);
    this.map = new Qcow2ClusterMap(metadata, this.tables, metadata.size);
    const parts: ImageParts = {
      storage,
      metadata,
      codec: this.codec,
      refcounts: this.refcounts,
      tables: this.tables,
      order: this.order,
      regions: this.regions,
      claims: this.claims,
      data: this.data,
      map: () => this.map,
      prepare: () => this.preparation.ensure(),
    };
    const entries = new GuestEntries(parts);
    this.writer = new GuestWriter(parts, entries);
    this.zeroes = new ZeroWriter(parts, entries, this.writer);
    this.discarder = new Discarder(parts, entries);
    this.compressor = new CompressedWriter(parts, entries, this.writer);
    this.reserver = new Reserver(parts, entries, this.writer);
    const writers = { entries, zeroes: this.zeroes, discarder: this.discarder, reserver: this.reserver };
    this.resizer = new Resizer(parts, writers, this.header, (size) => {
      this.current = { ...this.current, size };
      this.map = new Qcow2ClusterMap(metadata, this.tables, size);
    });
    if (!this.readOnly) {
      registerStructures(this.regions, metadata);
    }
  }

  /**
   * Opens an image. For writing, one that was not closed cleanly gets its refcounts counted anew first, and features that a writer must
   * clear are cleared.
   * @throws EngineError `format.invalid`, `format.unsupported`, `file.io`, `image.corrupt` for writing what is marked as corrupt,
   * `request.readOnly` when the storage cannot be written but must
   */
  static async open(options: Qcow2NodeOptions): Promise<Qcow2Node> {
    const metadata = await openMetadata(options);
    return loading(() => new Qcow2Node(metadata, options));
  }

  /** What the header says; after a change of it, as it is then. */
  get metadata(): Qcow2Metadata {
    return this.current;
  }

  get size(): number {
    return this.map.size;
  }

  get backing(): BlockNode | null {
    return this.data.backing;
  }

  /** Reads unallocated ranges from another node from now on; whoever changes it sees to the guest's bytes staying the same. */
  replaceBacking(backing: BlockNode | null): void {
    this.data.backing = backing;
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.requests.require(guestOffset, target.length, this.size);
    const host = this.places.toRead(guestOffset, target.length);
    if (host >= 0 && this.readAt(host, target)) {
      return;
    }
    const { backing } = this.data;
    if (host === NOT_HERE && backing !== null && guestOffset + target.length <= backing.size) {
      return this.requests.track(backing.read(guestOffset, target));
    }
    return this.requests.track(this.guarded(() => run(this.data.read(this.map, guestOffset, target))));
  }

  /** False where the bytes have to be fetched first. */
  private readAt(host: number, target: Uint8Array): boolean {
    try {
      const count = this.data.file.read(target, host);
      if (count < target.length) {
        target.fill(0, count);
      }
      return true;
    } catch (error) {
      if (!(error instanceof NotLoaded)) {
        throw error;
      }
      return false;
    }
  }

  willRead(guestOffset: number, length: number): void {
    const host = this.places.known(guestOffset, length);
    if (host >= 0) {
      this.data.file.willRead?.(host, length);
    } else if (host === NOT_HERE) {
      this.backing?.willRead?.(guestOffset, length);
    }
  }

  write(guestOffset: number, bytes: Uint8Array, options?: WriteOptions): Awaitable<void> {
    this.requests.require(guestOffset, bytes.length, this.size);
    this.requireWritable();
    const host = this.claims.none && this.preparation.done ? this.places.toWrite(guestOffset, bytes.length) : -1;
    if (host >= 0 && (this.dataFile !== null || this.regions.at(host, bytes.length) === 0)) {
      this.hooks.onGuestChange?.(guestOffset, bytes.length);
      const done = this.data.file.write(bytes, host);
      if (!isPromise(done) && options?.fua !== true) {
        return;
      }
      // Whoever changes these clusters' entries waits until the bytes are there.
      return this.changing(() => this.claims.during(guestOffset, guestOffset + bytes.length, () => wait(done)), options);
    }
    return this.changing(() => this.writeSteps(guestOffset, bytes), options);
  }

  private *writeSteps(guestOffset: number, bytes: Uint8Array): Steps<void> {
    yield* this.preparation.ensure();
    this.hooks.onGuestChange?.(guestOffset, bytes.length);
    yield* this.writer.write(guestOffset, bytes);
  }

  writeZeroes(guestOffset: number, length: number, options: ZeroOptions = {}): Awaitable<void> {
    this.requests.require(guestOffset, length, this.size);
    return this.changing(() => this.zeroSteps(guestOffset, length, options), options);
  }

  private *zeroSteps(guestOffset: number, length: number, options: ZeroOptions): Steps<void> {
    yield* this.preparation.ensure();
    this.hooks.onGuestChange?.(guestOffset, length);
    yield* this.zeroes.zero(guestOffset, length, options);
  }

  discard(guestOffset: number, length: number): Awaitable<void> {
    this.requests.require(guestOffset, length, this.size);
    return this.changing(() => this.discardSteps(guestOffset, length));
  }

  private *discardSteps(guestOffset: number, length: number): Steps<void> {
    yield* this.preparation.ensure();
    this.hooks.onGuestChange?.(guestOffset, length);
    yield* this.discarder.discard(guestOffset, length, false);
  }

  /** Makes all clusters unallocated, so that what lies below shows through (QEMU's `make_empty`). */
  async makeEmpty(): Promise<void> {
    await this.changing(() => this.emptySteps());
  }

  private *emptySteps(): Steps<void> {
    yield* this.preparation.ensure();
    if (!(yield* this.claims.during(0, Infinity, () => this.emptyAtOnce()))) {
      yield* this.discarder.discard(0, this.size, true);
    }
  }

  private *emptyAtOnce(): Steps<boolean> {
    yield* this.order.settle();
    return yield* this.order.alone(() => this.emptyAlone());
  }

  private *emptyAlone(): Steps<boolean> {
    const { storage, current: metadata, header, tables, refcounts } = this;
    const l1Table = { hostOffset: tables.l1TableOffset, length: tables.l1Size * 8 };
    let unchanged = false;
    try {
      unchanged = !(yield* emptyAtOnce({ storage, metadata, header, l1Table, refcountTable: refcounts.tablePlace }));
    } finally {
      // Where it failed the disk has the old state or the new one, and this knows not which.
      if (!unchanged) {
        this.reload();
      }
    }
    return !unchanged;
  }

  /**
   * Writes one whole cluster compressed, or plain where that does not make it smaller. For filling new images.
   * @param guestOffset a multiple of the cluster size
   * @param bytes a cluster; the last one of the disk may be shorter
   */
  writeCompressed(guestOffset: number, bytes: Uint8Array): Awaitable<void> {
    this.requests.require(guestOffset, bytes.length, this.size);
    return this.changing(() => this.compressedSteps(guestOffset, bytes));
  }

  private *compressedSteps(guestOffset: number, bytes: Uint8Array): Steps<void> {
    yield* this.preparation.ensure();
    this.hooks.onGuestChange?.(guestOffset, bytes.length);
    yield* this.compressor.write(guestOffset, bytes);
  }

  async flush(): Promise<void> {
    if (this.readOnly) {
      return;
    }
    await this.requests.track(this.corruption.guard(() => this.order.commit()));
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    this.requests.require(guestOffset, length, this.size);
    if (length === 0) {
      throw invalidRequest('The status of no bytes was asked for.');
    }
    return this.guarded(() => loading(() => this.statusOf(guestOffset, length)));
  }

  private statusOf(guestOffset: number, length: number): NodeStatus {
    const { class: kind, length: reached, hostOffset, problem } = this.map.blockStatus(guestOffset, length);
    if (kind === 'unknown') {
      throw corruptImage(this.storage.name, problem?.structure ?? 'L2 table', problem?.hostOffset ?? 0, problem?.message ?? '');
    }
    return { class: kind, length: reached, hostOffset: kind === 'compressed' ? null : hostOffset };
  }

  async resize(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    await this.changing(() => this.resizeSteps(size, preallocation));
  }

  private *resizeSteps(size: number, preallocation: Preallocation): Steps<void> {
    yield* this.preparation.ensure();
    if (size !== this.size) {
      yield* wait(this.hooks.beforeResize?.());
    }
    yield* this.resizer.resize(size, preallocation);
    this.hooks.afterResize?.(size);
    yield this.order.commit();
  }

  reserve(guestOffset: number, length: number): Awaitable<boolean> {
    this.requests.require(guestOffset, length, this.size);
    this.requireWritable();
    return this.guarded(() => loading(() => this.reserveInPlace(guestOffset, guestOffset + length)));
  }

  private reserveInPlace(guestOffset: number, end: number): boolean {
    const { file } = this.data;
    for (let at = guestOffset; at < end;) {
      const place = this.writer.inPlace(at, end);
      if (!place || place.host + place.length > file.size || file.reserve?.(place.host, place.length) !== true) {
        return false;
      }
      at += place.length;
    }
    return true;
  }

  /**
   * Gives clusters that read as zero space of their own: none that a snapshot has too, and with blocks of the file system. What the guest
   * reads stays; what shows through from below, and what holds data, is left as it is.
   * @param guestOffset and `length` whole clusters, or up to the end of the disk
   */
  async reserveZeroes(guestOffset: number, length: number): Promise<void> {
    this.requests.require(guestOffset, length, this.size);
    await this.changing(() => this.reserveZeroSteps(guestOffset, guestOffset + length));
  }

  private *reserveZeroSteps(guestOffset: number, end: number): Steps<void> {
    yield* this.preparation.ensure();
    for (let at = guestOffset; at < end;) {
      at = (yield* this.reserver.reserve(at, end, 'blocks')).next;
    }
  }

  async close(): Promise<void> {
    if (this.requests.ended) {
      return;
    }
    await this.requests.end();
    try {
      if (!this.readOnly && !this.corruption.found) {
        await this.hooks.beforeClose?.(this);
        await run(this.settle());
      }
    } finally {
      this.storage.close();
      this.dataFile?.close();
    }
  }

  /** Before the first change after opening: what contradicts itself is refused, hooks are told, and refcounts may lag behind from then on. */
  private *prepare(): Steps<void> {
    this.refcounts.requireConsistent();
    this.tables.requireConsistent();
    requireSeparateStructures(this.regions, this.metadata);
    yield* wait(this.hooks.beforeFirstChange?.(this));
    if (this.metadata.lazyRefcounts) {
      yield* this.header.update({ incompatible_features: this.header.bigint('incompatible_features') | FEATURE.dirty });
      yield this.storage.flush();
      this.order.lazy = true;
    }
  }

  /** Writes everything, and marks the image clean. */
  *settle(): Steps<void> {
    yield* this.order.settle();
    if ((this.header.bigint('incompatible_features') & FEATURE.dirty) !== 0n && this.metadata.version >= 3) {
      yield* this.header.update({ incompatible_features: this.header.bigint('incompatible_features') & ~FEATURE.dirty });
      yield this.storage.flush();
      this.preparation.done = false;
    }
  }

  /** Reads header and tables again that someone else has changed, after `settle` and without requests in flight. */
  reload(): void {
    const metadata = readQcow2Metadata(this.storage);
    this.current = metadata;
    this.header.reload(metadata);
    this.regions.clear();
    this.regions.add(REGION.header, 0);
    this.refcounts.reload({ hostOffset: metadata.refcountTableOffset, length: metadata.refcountTableClusters * this.clusterSize });
    this.tables.reload(metadata);
    this.map = new Qcow2ClusterMap(metadata, this.tables, metadata.size);
    this.data.generation++;
    this.compressor.reset();
    registerStructures(this.regions, metadata);
    this.preparation.done = false;
  }

  private changing(steps: () => Steps<void>, options?: WriteOptions): Awaitable<void> {
    this.requireWritable();
    const done = this.corruption.guard(() => run(steps()));
    return this.requests.track(options?.fua ? Promise.resolve(done).then(() => this.flush()) : done);
  }

  /** A writer's contradictions are noted also where a read meets them. */
  private guarded<T>(work: () => Awaitable<T>): Awaitable<T> {
    return this.readOnly ? work() : this.corruption.guard(work);
  }

  private requireWritable(): void {
    if (this.readOnly || this.data.cipher?.writable === false) {
      throw readOnlyImage(this.filename);
    }
    this.corruption.requireNone();
  }
}
