import type { ImageFormat } from '../../../protocol/chain';
import type { LayerView } from '../../../protocol/place';
import { EngineError, invalidRequest, readOnlyImage } from '../../errors';
import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import type { CacheStatus } from '../../../protocol/exports';
import { CompressedClusters } from '../../formats/qcow2/reader';
import type { Qcow2Hooks } from '../../formats/qcow2/write/nodeOptions';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { QedNode } from '../../formats/qed/qedNode';
import { RawNode } from '../../formats/raw/rawNode';
import { DecompressedGrains } from '../../formats/vmdk/grains';
import type { OpeningGate } from '../../gate/gate';
import { requireOpenableLayer } from '../../info/opening';
import { FileSource } from '../../io/file';
import { FileStorage } from '../../io/fileStorage';
import { acquireLocks, changeLocks, takeLocks, type ImageLock } from '../../io/imageLocks';
import { loading } from '../../io/loading';
import type { ByteSource } from '../../io/source';
import type { Storage } from '../../io/storage';
import type { BlockNode } from '../blockNode';
import type { Openers } from '../follow';
import { openChain } from '../chain';
import { backingReference } from '../detail';
import { requireComplete, requireSameParents } from '../complete';
import type { Layer, OpenedChain } from '../layer';
import { ReadableLayer, type Decompressed } from '../node';
import { ACTIVE_VIEW } from '../status';
import { TrackedNode, type GuestObserver } from '../trackedNode';
import { cacheStatusOf, quotaOf, startWarming } from './cacheImages';
import { nodesAbove, type GraphNode } from './graphNode';
import { filesOf, readerLocks, writerRole } from './layerFiles';
import { cipherOf, keyOf, openForWriting, readAgain, reread, withFiles } from './layerOpening';
import { backingParent, changes, jobParent, fillingParent, requireCompatible, rootParent } from './permissions';
import { ReadOnlyNode, type GraphEpoch } from './readOnlyNode';
import { GuestWatch } from './guestWatch';

export interface BlockGraphOptions {
  /** Asked before anything is opened because an image names it. */
  readonly gate: OpeningGate;
  /** Folder for the names that QEMU takes relative to where it runs. */
  readonly currentFolder?: string | undefined;
  /** How files and servers are opened for reading; each in its usual way when left out. */
  readonly open?: Openers | undefined;
  /** Bytes of tables that an image keeps in memory; 32 MiB when left out. */
  readonly cacheBytes?: number | undefined;
  /** Told once for each cache image that cannot take in what is read any more; whoever reads is not disturbed by it. */
  readonly onCacheProblem?: ((filename: string, problem: unknown) => void) | undefined;
}

export interface OpenImageOptions {
  /** Null: by its first bytes, and then a raw image stays one (see RawNode). */
  readonly format: ImageFormat | null;
  readonly readOnly: boolean;
  /** Who uses the image, as messages call it: an export, a job. */
  readonly user: string;
  /** What is written changes nothing of what is read: images that are in use as backing files may be written so. Not with `readOnly`. */
  readonly unchanged?: boolean | undefined;
  /** Reads an internal snapshot of the image, perhaps chosen when the image is seen; only `readOnly`. */
  readonly view?: LayerView | ((image: Layer) => LayerView) | undefined;
  /** Neither takes locks nor heeds those of others; only `readOnly`. */
  readonly forceShare?: boolean | undefined;
  /** The passphrase of an encrypted image, null where there is none. */
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** Told of what happens to the active layer: its persistent bitmaps. */
  readonly hooks?: Qcow2Hooks | undefined;
  readonly signal?: AbortSignal | undefined;
  /** False: nothing of what is written is flushed (QEMU's `cache=unsafe`), for an image that is worth nothing before it is complete. */
  readonly durable?: boolean | undefined;
  /** Cache images (docs/cache-image.md) below it take in what is read through them. */
  readonly warmCaches?: boolean | undefined;
}

type SeenImageOptions = OpenImageOptions & { readonly view: LayerView };

/** An image that somebody uses. */
export interface OpenedImage {
  /** The image's driver may be exchanged under it; whoever has several requests to make makes them here. */
  readonly node: TrackedNode;
  /** Changes between reading and writing, without anything in flight being lost. @throws EngineError as `BlockGraph.open` */
  setReadOnly(readOnly: boolean): Promise<void>;
  /** Ends the use; the last one closes the image, and those below it that nobody uses any more. */
  close(): Promise<void>;
  /** The image and those it is built on, itself first, as they are now. */
  chain(): readonly ChainImage[];
  /**
   * Keeps the backing links from this image down to `base` (without its own; null for all) as they are until the returned function is called.
   * @throws EngineError `file.locked` when somebody else needs one of them
   */
  freeze(base: BlockNode | null, user: string): () => void;
  /**
   * Builds the image on another one that is open: one further down its chain, or any other that shows the guest the same.
   * @param record writes that into the image, while no request is in flight
   */
  relink(base: BlockNode | null, record: () => Promise<void>): Promise<void>;
  /**
   * Makes all users of this image use another, open for writing, from now on.
   * @param settle makes both show the guest the same, while no request that changes this image is in flight
   */
  pivot(target: BlockNode, settle: () => Promise<void>): Promise<void>;
  /**
   * Lets a job write one of the images below, and so change what those between read. Everybody else keeps away from them until the returned
   * function is called.
   * @throws EngineError `file.locked` when somebody outside the chain uses one of them
   */
  writeBelow(top: BlockNode, base: BlockNode, user: string): Promise<() => Promise<void>>;
  /** Tells of the requests of everybody whose disk this image is a part of, until the returned function is called. */
  watchGuests(observer: GuestObserver): () => void;
  /** Others who are built on one of this image's chain, without going through the image itself. */
  dependents(node: BlockNode): readonly string[];
}

/** One image of a chain that is in use. */
export interface ChainImage {
  readonly node: TrackedNode;
  /** Absolute. */
  readonly path: string;
  /** As QEMU has it in messages. */
  readonly filename: string;
  readonly format: ImageFormat;
  /** The name of its backing file that it had recorded when it was opened; null for none. */
  readonly backingName: string | null;
  /** For a cache image, how it does now. */
  readonly cache: CacheStatus | null;
}

const DEFAULT_CACHE = 32 * 1024 * 1024;
/** Of the bound for tables, what a reader of a whole chain keeps of where its bytes lie. */
const WINDOWS_SHARE = 4;
const READER_CACHE = 256 * 1024;

/**
 * The images that are in use, each once: chains that share a base share its node. Who may do what to a node at the same time is decided by
 * QEMU's permissions, within this process as by its locks between processes.
 */
export class BlockGraph {
  private readonly options: BlockGraphOptions;
  private readonly nodes = new Map<string, GraphNode>();
  private readonly epoch: GraphEpoch = { value: 0, reading: new Set() };
  private readonly watches = new Set<GuestWatch>();
  private readonly decompressed: Decompressed;
  private turn: Promise<unknown> = Promise.resolve();
  private nextNode = 0;

  constructor(options: BlockGraphOptions) {
    this.options = options;
    this.decompressed = {
      clusters: new CompressedClusters(this.cacheBytes / 2),
      grains: new DecompressedGrains(this.cacheBytes / 4),
    };
  }

  /**
   * Opens an image with all that it is built on; the images below it for reading.
   * @throws EngineError for what QEMU's drivers refuse; `file.locked`, `file.notFound`, `chain.refused`, `chain.loop`, `data.passphrase`
   */
  open(filename: string, options: OpenImageOptions): Promise<OpenedImage> {
    return this.inTurn(() => this.openNow(filename, options));
  }

  private async openNow(filename: string, options: OpenImageOptions): Promise<OpenedImage> {
    const { gate, currentFolder, open } = this.options;
    const { format, readOnly, unchanged = false, view: wanted = ACTIVE_VIEW, forceShare = false, signal } = options;
    if (!readOnly && (forceShare || typeof wanted === 'function' || wanted.kind === 'snapshot')) {
      throw invalidRequest(forceShare ? 'An image that is written cannot be shared by force.' : 'An internal snapshot is only read.');
    }
    const chain = await openChain(filename, { gate, currentFolder, format, signal, locks: null, open });
    const made: GraphNode[] = [];
    try {
      requireComplete(chain);
      for (const layer of chain.layers) {
        requireOpenableLayer(layer.detail);
      }
      requireSameParents(chain.layers);
      const view = typeof wanted === 'function' ? wanted(chain.layers[0]!) : wanted;
      const top = await this.addChain(chain, { ...options, view }, made);
      const parent = unchanged ? fillingParent(options.user) : rootParent(options.user, readOnly);
      requireCompatible(filename, top.parents.values(), parent);
      if (!readOnly && top.tracked.readOnly) {
        await this.change(top, false);
      }
      const use = {};
      top.parents.set(use, parent);
      this.refreshWatches();
      if (options.warmCaches === true) {
        for (const node of nodesAbove(top, null).slice(1)) {
          await this.warm(node);
        }
      }
      return this.opened(top, use);
    } catch (error) {
      for (const node of made.reverse()) {
        await this.releaseUnused(node);
      }
      chain.close();
      throw error;
    }
  }

  /** Nodes for the layers of a chain, from the base up; those that are there already are used. */
  private async addChain(chain: OpenedChain, options: SeenImageOptions, made: GraphNode[]): Promise<GraphNode> {
    const keys = chain.layers.map((layer, index) => keyOf(layer, index === 0 ? options.view : ACTIVE_VIEW));
    const there = keys.findIndex((key) => this.nodes.has(key));
    let below = there < 0 ? null : this.nodes.get(keys[there]!)!;
    for (let index = (there < 0 ? keys.length : there) - 1; index >= 0; index--) {
      const layer = chain.layers[index]!;
      if (below) {
        // The overlay's use of it; that the base is written by somebody is found out here.
        requireCompatible(below.layer.filename, below.parents.values(), backingParent(layer.filename));
      }
      const node: GraphNode = await this.addLayer(layer, keys[index]!, below, index === 0 ? options : { ...options, readOnly: true });
      below?.parents.set(node, backingParent(layer.filename));
      made.push(node);
      below = node;
    }
    // What is used already was opened for nothing.
    for (const layer of there < 0 ? [] : chain.layers.slice(there)) {
      filesOf(layer).forEach((file) => file.close());
    }
    const top = below!;
    if (there >= 0 && options.format !== null && top.layer.detail.format !== options.format) {
      throw invalidRequest(`${top.layer.filename} is in use as ${top.layer.detail.format}, not as ${options.format}.`);
    }
    return top;
  }

  private async addLayer(found: Layer, key: string, backing: GraphNode | null, options: SeenImageOptions): Promise<GraphNode> {
    const { readOnly, view, forceShare = false, passphraseOf, hooks, signal, durable } = options;
    const cipher = await cipherOf(found, passphraseOf, signal);
    let locks: readonly ImageLock[] = [];
    let layer = found;
    let image: BlockNode;
    if (readOnly) {
      if (!forceShare) {
        locks = readerLocks(layer);
        acquireLocks(locks);
        // What was read before the lock may be old.
        layer = await loading(() => reread(layer));
      }
      image = this.reader(layer, backing, cipher, key === keyOf(layer, ACTIVE_VIEW) ? ACTIVE_VIEW : view);
    } else {
      if (!(layer.source instanceof FileSource)) {
        // A server may take one client at a time.
        layer.source.close();
      }
      const written = await openForWriting(layer, acquireLocks, durable);
      locks = written.locks;
      try {
        image = await this.writer(layer, written.storages, backing, cipher, hooks);
      } catch (error) {
        written.storages.forEach((storage) => storage.close());
        throw error;
      }
      filesOf(layer).forEach((file) => file.close());
      layer = withFiles(layer, written.storages);
    }
    const node: GraphNode = {
      key,
      layer,
      backing,
      locks,
      cipher,
      hooks,
      frozenBy: null,
      warming: null,
      cacheProblem: null,
      tracked: new TrackedNode(image),
      parents: new Map(),
    };
    this.nodes.set(key, node);
    this.epoch.value++;
    return node;
  }

  private opened(top: GraphNode, use: object): OpenedImage {
    const image: OpenedImage = {
      node: top.tracked,
      setReadOnly: (readOnly) => this.inTurn(() => this.setReadOnly(top, use, readOnly)),
      close: () => this.inTurn(() => this.endUse(top, use)),
      chain: () =>
        nodesAbove(top, null).map((node) => ({
          node: node.tracked,
          path: node.layer.path,
          filename: node.layer.filename,
          format: node.layer.detail.format,
          backingName: backingReference(node.layer.detail)?.recordedName ?? null,
          cache: cacheStatusOf(node),
        })),
      freeze: (base, user) => this.freeze(top, this.below(top, base), user),
      relink: (base, record) => this.inTurn(() => this.relink(top, base === null ? null : this.nodeOf(base), record)),
      pivot: (target, settle) => this.inTurn(() => this.pivot(top, this.nodeOf(target), settle)),
      writeBelow: (from, base, user) => this.inTurn(() => this.writeBelow(this.nodeOf(from), this.nodeOf(base), user)),
      watchGuests: (observer) => this.watchGuests(top, observer),
      dependents: (node) => this.dependents(top, this.nodeOf(node)),
    };
    return image;
  }

  private async endUse(node: GraphNode, use: object): Promise<void> {
    if (!node.parents.delete(use)) {
      return;
    }
    this.refreshWatches();
    await this.releaseUnused(node);
    await this.stopWriting(node);
  }

  /** An image that nobody writes any more is a reader's again. */
  private async stopWriting(node: GraphNode): Promise<void> {
    const { tracked, key, parents, layer } = node;
    if (node.warming && [...parents.values()].some(({ role }) => role === 'backing')) {
      return;
    }
    const unwritten = this.nodes.get(key) === node && !tracked.readOnly && ![...parents.values()].some(changes);
    // A server may take one client at a time.
    if (unwritten && filesOf(layer).every((file) => file instanceof FileSource)) {
      await this.change(node, true);
    }
  }

  private async setReadOnly(node: GraphNode, use: object, readOnly: boolean): Promise<void> {
    const before = node.parents.get(use);
    if (!before) {
      throw invalidRequest(`${node.layer.filename} is closed.`);
    }
    const after = rootParent(before.name, readOnly);
    node.parents.delete(use);
    try {
      requireCompatible(node.layer.filename, node.parents.values(), after);
      const written = [after, ...node.parents.values()].some(changes);
      if (node.tracked.readOnly === written) {
        await this.change(node, !written);
      }
      node.parents.set(use, after);
    } catch (error) {
      node.parents.set(use, before);
      throw error;
    }
  }

  /** Exchanges the image's driver: requests in flight end before, others wait. */
  private async change(node: GraphNode, readOnly: boolean): Promise<void> {
    const { tracked } = node;
    await tracked.requests.run(0, Infinity, true, async () => {
      const old = tracked.image;
      if (node.warming) {
        await this.stopWarming(node);
        return;
      }
      await old.flush();
      tracked.replaceImage(await (readOnly ? this.becomeReader(node) : this.becomeWriter(node)));
      this.epoch.value++;
      await old.close();
    });
  }

  /** Lets a cache image take in what is read through it, if it is one and nobody else does that. */
  private async warm(node: GraphNode): Promise<void> {
    if (quotaOf(node.layer) === null || node.warming) {
      return;
    }
    await node.tracked.requests.run(0, Infinity, true, async () => {
      const former = await startWarming(node, {
        nodeName: this.nameNode(),
        cacheBytes: this.cacheBytes,
        onProblem: (filename, problem) => this.options.onCacheProblem?.(filename, problem),
      });
      if (former) {
        this.epoch.value++;
        await former.close();
      }
    });
  }

  /** A cache image becomes a reader's; what it could not write is no concern of its readers. */
  private async stopWarming(node: GraphNode): Promise<void> {
    const { tracked, warming } = node;
    const old = tracked.image;
    warming?.end();
    await old.flush().catch((error: unknown) => warming?.noteFailure(error));
    tracked.replaceImage(await this.becomeReader(node));
    node.warming = null;
    this.epoch.value++;
    await old.close().catch((error: unknown) => warming?.noteFailure(error));
  }

  private async becomeReader(node: GraphNode): Promise<BlockNode> {
    const files: ByteSource[] = [];
    try {
      for (const file of filesOf(node.layer)) {
        files.push(file instanceof FileSource ? FileStorage.reopen(file, { writable: false }) : file);
      }
      const layer = await loading(() => reread(withFiles(node.layer, files)));
      const locks = node.locks.length === 0 ? [] : readerLocks(layer);
      // Its writer, who is to be closed, keeps others away still.
      takeLocks(locks);
      const image = this.reader(layer, node.backing, node.cipher, ACTIVE_VIEW);
      Object.assign(node, { layer, locks });
      return image;
    } catch (error) {
      files.forEach((file) => file.close());
      throw error;
    }
  }

  private async becomeWriter(node: GraphNode): Promise<BlockNode> {
    const changed: ImageLock[] = [];
    const undo = () => {
      for (const { file, role } of changed) {
        changeLocks(file, writerRole(role), role);
      }
    };
    try {
      for (const lock of node.locks) {
        changeLocks(lock.file, lock.role, writerRole(lock.role));
        changed.push(lock);
      }
      const { storages, locks } = await openForWriting(node.layer, takeLocks);
      try {
        const image = await this.writer(node.layer, storages, node.backing, node.cipher, node.hooks);
        Object.assign(node, { locks, layer: withFiles(node.layer, storages) });
        return image;
      } catch (error) {
        storages.forEach((storage) => storage.close());
        throw error;
      }
    } catch (error) {
      undo();
      throw error;
    }
  }

  private reader(layer: Layer, backing: GraphNode | null, cipher: ClusterCipher | null, view: LayerView): ReadOnlyNode {
    return new ReadOnlyNode({
      nodeName: this.nameNode(),
      layer: new ReadableLayer(layer, view, READER_CACHE, this.decompressed, cipher),
      files: filesOf(layer),
      backing: backing?.tracked ?? null,
      epoch: this.epoch,
      cacheBytes: this.cacheBytes / WINDOWS_SHARE,
    });
  }

  private async writer(
    layer: Layer,
    [storage, dataFile]: readonly Storage[],
    backing: GraphNode | null,
    cipher: ClusterCipher | null,
    hooks: Qcow2Hooks | undefined,
  ): Promise<BlockNode> {
    const common = { nodeName: this.nameNode(), filename: layer.filename, readOnly: false, backing: backing?.tracked ?? null };
    switch (layer.detail.format) {
      case 'qcow2':
        return Qcow2Node.open({ ...common, storage: storage!, dataFile, cipher, hooks, cacheBytes: this.cacheBytes });
      case 'qed':
        return QedNode.open(storage!, { ...common, cacheBytes: this.cacheBytes });
      case 'raw':
        return new RawNode(storage!, { ...common, probed: !layer.formatRecorded });
      case 'vmdk':
        throw readOnlyImage(layer.filename);
    }
  }

  /** Closes a node that nobody uses, and then those below it. */
  private async releaseUnused(node: GraphNode): Promise<void> {
    if (node.parents.size > 0 || this.nodes.get(node.key) !== node) {
      return;
    }
    this.nodes.delete(node.key);
    this.epoch.value++;
    try {
      node.warming?.end();
      await node.tracked.close();
    } catch (error) {
      if (!node.warming) {
        throw error;
      }
      node.warming.noteFailure(error);
    } finally {
      if (node.backing) {
        await this.endUse(node.backing, node);
      }
    }
  }

  private nodeOf(image: BlockNode): GraphNode {
    for (const node of this.nodes.values()) {
      if (node.tracked === image) {
        return node;
      }
    }
    throw invalidRequest(`${image.filename} is not in use any more.`);
  }

  private below(top: GraphNode, base: BlockNode | null): GraphNode | null {
    const found = base === null ? null : this.nodeOf(base);
    if (found && (found === top || !nodesAbove(top, null).includes(found))) {
      throw invalidRequest(`'${found.layer.filename}' is not in the backing chain of '${top.layer.filename}'.`);
    }
    return found;
  }

  private freeze(top: GraphNode, base: GraphNode | null, user: string): () => void {
    // The lowest image of a chain has no link: overlays that share it are streamed at the same time.
    const nodes = nodesAbove(top, base).filter(({ backing }) => backing !== null);
    for (const { frozenBy, layer } of nodes) {
      if (frozenBy !== null) {
        throw new EngineError('file.locked', `The backing file of '${layer.filename}' must stay as it is: ${frozenBy} needs it.`, {
          file: layer.filename,
          remedy: 'Wait until that has ended, or cancel it.',
        });
      }
    }
    for (const node of nodes) {
      node.frozenBy = user;
    }
    return () => {
      for (const node of nodes) {
        node.frozenBy = null;
      }
    };
  }

  private async relink(node: GraphNode, base: GraphNode | null, record: () => Promise<void>): Promise<void> {
    const { tracked, backing: former } = node;
    const image = () => {
      const { image: driver } = tracked;
      if (!(driver instanceof Qcow2Node || driver instanceof QedNode)) {
        throw readOnlyImage(node.layer.filename);
      }
      return driver;
    };
    image();
    await record();
    // A copy on write that began with the former one must not go on beside a change.
    await tracked.requests.run(0, Infinity, true, () => {
      image().replaceBacking(base?.tracked ?? null);
      node.backing = base;
      base?.parents.set(node, backingParent(node.layer.filename));
      this.epoch.value++;
      return Promise.resolve();
    });
    node.layer = await loading(() => readAgain(node.layer));
    this.refreshWatches();
    if (former && former !== base) {
      await this.endUse(former, node);
    }
  }

  private async pivot(node: GraphNode, target: GraphNode, settle: () => Promise<void>): Promise<void> {
    const { tracked, backing: former } = node;
    const { image: old } = tracked;
    await tracked.requests.run(0, Infinity, true, async () => {
      await settle();
      this.replace(node, target);
    });
    try {
      await old.close();
    } finally {
      if (former && former !== node.backing) {
        await this.endUse(former, node);
      }
    }
  }

  /** Gives a node another one's place in the graph, which is gone then. */
  private replace(node: GraphNode, target: GraphNode): void {
    const { key, layer, locks, cipher, hooks, backing } = target;
    this.nodes.delete(node.key);
    this.nodes.set(key, node);
    node.tracked.replaceImage(target.tracked.image);
    Object.assign(node, { key, layer, locks, cipher, hooks, backing });
    target.parents.clear();
    if (backing) {
      backing.parents.delete(target);
      backing.parents.set(node, backingParent(layer.filename));
    }
    this.epoch.value++;
    this.refreshWatches();
  }

  private async writeBelow(top: GraphNode, base: GraphNode, user: string): Promise<() => Promise<void>> {
    const between = nodesAbove(top, base);
    const chain = new Set<unknown>(between);
    for (const node of [...between.slice(1), base]) {
      for (const [parent, { name }] of node.parents) {
        if (!chain.has(parent)) {
          throw new EngineError('file.locked', `'${node.layer.filename}' is in use by ${name}, and would change under it.`, {
            file: node.layer.filename,
            remedy: 'End that use first.',
          });
        }
      }
    }
    for (const node of [...between.slice(1), base]) {
      if (node.warming) {
        await this.change(node, true);
      }
    }
    const use = {};
    for (const node of between.slice(1)) {
      node.parents.set(use, jobParent(user, false));
    }
    base.parents.set(use, jobParent(user, true));
    const end = async () => {
      for (const node of [...between.slice(1), base]) {
        await this.endUse(node, use);
      }
    };
    try {
      if (base.tracked.readOnly) {
        await this.change(base, false);
      }
    } catch (error) {
      await end();
      throw error;
    }
    return () => this.inTurn(end);
  }

  private watchGuests(node: GraphNode, observer: GuestObserver): () => void {
    const watch = new GuestWatch(node, observer);
    this.watches.add(watch);
    watch.refresh();
    return () => {
      this.watches.delete(watch);
      watch.stop();
    };
  }

  private refreshWatches(): void {
    for (const watch of this.watches) {
      watch.refresh();
    }
  }

  private dependents(active: GraphNode, changed: GraphNode): readonly string[] {
    const chain = new Set<unknown>(nodesAbove(active, null));
    return [...changed.parents].flatMap(([parent, { name, role }]) => (role === 'backing' && !chain.has(parent) ? [name] : []));
  }

  private get cacheBytes(): number {
    return this.options.cacheBytes ?? DEFAULT_CACHE;
  }

  private nameNode(): string {
    return `#block${String(this.nextNode++).padStart(3, '0')}`;
  }

  /** The graph's shape changes one step at a time. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}
