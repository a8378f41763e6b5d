import type { ImageFormat } from '../../../protocol/chain';
import type { LayerView } from '../../../protocol/place';
import { invalidFormat, invalidRequest, readOnlyImage } from '../../errors';
import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import { openCipher } from '../../formats/qcow2/crypto/open';
import { CompressedClusters } from '../../formats/qcow2/reader';
import { Qcow2Node, type Qcow2Hooks } from '../../formats/qcow2/write/qcow2Node';
import { QedNode } from '../../formats/qed/qedNode';
import { RawNode } from '../../formats/raw/rawNode';
import { DecompressedGrains } from '../../formats/vmdk/grains';
import type { OpeningGate } from '../../gate/gate';
import { remoteNameOf } from '../../gate/remoteName';
import { requireOpenableLayer } from '../../info/opening';
import { FileSource } from '../../io/file';
import { FileStorage } from '../../io/fileStorage';
import { acquireLocks, changeLocks, takeLocks, type ImageLock } from '../../io/imageLocks';
import { loading } from '../../io/loading';
import { openRemote } from '../../io/remote/openRemote';
import type { ByteSource } from '../../io/source';
import type { Storage } from '../../io/storage';
import type { BlockNode } from '../blockNode';
import { openChain } from '../chain';
import { requireComplete, requireSameParents } from '../complete';
import { backingReference, readDetail, virtualSizeOf } from '../detail';
import type { Layer, OpenedChain } from '../layer';
import { ReadableLayer, type Decompressed } from '../node';
import { ACTIVE_VIEW } from '../status';
import { TrackedNode } from '../trackedNode';
import { filesOf, readerLocks, writerRole } from './layerFiles';
import { backingParent, requireCompatible, rootParent, type NodeParent } from './permissions';
import { ReadOnlyNode, type GraphEpoch } from './readOnlyNode';

export interface BlockGraphOptions {
  /** Asked before anything is opened because an image names it. */
  readonly gate: OpeningGate;
  /** Folder for the names that QEMU takes relative to where it runs. */
  readonly currentFolder?: string | undefined;
  /** Bytes of tables that an image keeps in memory; 32 MiB when left out. */
  readonly cacheBytes?: number | undefined;
}

export interface OpenImageOptions {
  /** Null: by its first bytes, and then a raw image stays one (see RawNode). */
  readonly format: ImageFormat | null;
  readonly readOnly: boolean;
  /** Who uses the image, as messages call it: an export, a job. */
  readonly user: string;
  /** Reads an internal snapshot of the image; only `readOnly`. */
  readonly view?: LayerView | undefined;
  /** Neither takes locks nor heeds those of others; only `readOnly`. */
  readonly forceShare?: boolean | undefined;
  /** The passphrase of an encrypted image, null where there is none. */
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** Told of what happens to the active layer: its persistent bitmaps. */
  readonly hooks?: Qcow2Hooks | undefined;
  readonly signal?: AbortSignal | undefined;
  /** False: nothing of what is written is flushed (QEMU's `cache=unsafe`), for an image that is worth nothing before it is complete. */
  readonly durable?: boolean | undefined;
}

/** An image that somebody uses. */
export interface OpenedImage {
  /** The image's driver may be exchanged under it; whoever has several requests to make makes them here. */
  readonly node: TrackedNode;
  /** Changes between reading and writing, without anything in flight being lost. @throws EngineError as `BlockGraph.open` */
  setReadOnly(readOnly: boolean): Promise<void>;
  /** Ends the use; the last one closes the image, and those below it that nobody uses any more. */
  close(): Promise<void>;
}

const DEFAULT_CACHE = 32 * 1024 * 1024;
/** Of the bound for tables, what a reader of a whole chain keeps of where its bytes lie. */
const WINDOWS_SHARE = 4;
const READER_CACHE = 256 * 1024;

/** An image of the graph with those who use it. */
interface GraphNode {
  readonly tracked: TrackedNode;
  /** As it was opened last. */
  layer: Layer;
  readonly key: string;
  readonly parents: Map<unknown, NodeParent>;
  readonly backing: GraphNode | null;
  /** The locks that the image's files have; empty when it was opened without. */
  locks: readonly ImageLock[];
  readonly cipher: ClusterCipher | null;
  readonly hooks: Qcow2Hooks | undefined;
}

/**
 * The images that are in use, each once: chains that share a base share its node. Who may do what to a node at the same time is decided by
 * QEMU's permissions, within this process as by its locks between processes.
 */
export class BlockGraph {
  private readonly options: BlockGraphOptions;
  private readonly nodes = new Map<string, GraphNode>();
  private readonly epoch: GraphEpoch = { value: 0 };
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
    const { gate, currentFolder } = this.options;
    const { format, readOnly, view = ACTIVE_VIEW, forceShare = false, signal } = options;
    if (!readOnly && (forceShare || view.kind === 'snapshot')) {
      throw invalidRequest(forceShare ? 'An image that is written cannot be shared by force.' : 'An internal snapshot is only read.');
    }
    const chain = await openChain(filename, { gate, currentFolder, format, signal, locks: null });
    const made: GraphNode[] = [];
    try {
      requireComplete(chain);
      for (const layer of chain.layers) {
        requireOpenableLayer(layer.detail);
      }
      requireSameParents(chain.layers);
      const top = await this.addChain(chain, options, view, made);
      const parent = rootParent(options.user, readOnly);
      requireCompatible(filename, top.parents.values(), parent);
      if (!readOnly && top.tracked.readOnly) {
        await this.change(top, false);
      }
      const use = {};
      top.parents.set(use, parent);
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
  private async addChain(chain: OpenedChain, options: OpenImageOptions, view: LayerView, made: GraphNode[]): Promise<GraphNode> {
    const keys = chain.layers.map((layer, index) => keyOf(layer, index === 0 ? view : ACTIVE_VIEW));
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

  private async addLayer(found: Layer, key: string, backing: GraphNode | null, options: OpenImageOptions): Promise<GraphNode> {
    const { readOnly, view = ACTIVE_VIEW, forceShare = false, passphraseOf, hooks, signal, durable } = options;
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
    const node: GraphNode = { key, layer, backing, locks, cipher, hooks, tracked: new TrackedNode(image), parents: new Map() };
    this.nodes.set(key, node);
    this.epoch.value++;
    return node;
  }

  private opened(top: GraphNode, use: object): OpenedImage {
    return {
      node: top.tracked,
      setReadOnly: (readOnly) => this.inTurn(() => this.setReadOnly(top, use, readOnly)),
      close: () =>
        this.inTurn(async () => {
          top.parents.delete(use);
          await this.releaseUnused(top);
        }),
    };
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
      const written = [after, ...node.parents.values()].some(({ uses }) => uses.has('write'));
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
      await old.flush();
      tracked.replaceImage(await (readOnly ? this.becomeReader(node) : this.becomeWriter(node)));
      this.epoch.value++;
      await old.close();
    });
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
      await node.tracked.close();
    } finally {
      if (node.backing) {
        node.backing.parents.delete(node);
        await this.releaseUnused(node.backing);
      }
    }
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

/** Equal for two names of one file, and different for what is seen of it. */
function keyOf({ source, filename }: Layer, view: LayerView): string {
  const file = source instanceof FileSource ? `${source.identity.device}:${source.identity.inode}` : filename;
  return view.kind === 'snapshot' ? `${file}@${view.index}` : file;
}

async function cipherOf(
  layer: Layer,
  passphraseOf: OpenImageOptions['passphraseOf'],
  signal: AbortSignal | undefined,
): Promise<ClusterCipher | null> {
  const { detail } = layer;
  return detail.format === 'qcow2' ? openCipher(detail.metadata, passphraseOf?.(layer) ?? null, signal) : null;
}

interface OpenedForWriting {
  readonly storages: readonly Storage[];
  readonly locks: readonly ImageLock[];
}

/** Opens the files of an image anew, to write them, and locks them. */
async function openForWriting(layer: Layer, lock: (wanted: readonly ImageLock[]) => void, durable = true): Promise<OpenedForWriting> {
  const storages: Storage[] = [];
  try {
    for (const file of filesOf(layer)) {
      storages.push(file instanceof FileSource ? FileStorage.reopen(file, { writable: true, durable }) : await openExport(layer, file));
    }
    const locks = readerLocks(withFiles(layer, storages)).map(({ file, role }) => ({ file, role: writerRole(role) }));
    lock(locks);
    return { storages, locks };
  } catch (error) {
    storages.forEach((storage) => storage.close());
    throw error;
  }
}

/** The image's own file on a server, to write it. @throws EngineError `request.readOnly` for what is only read, `network.failed` */
async function openExport({ filename, source }: Layer, file: ByteSource): Promise<Storage> {
  const remote = file === source ? remoteNameOf(filename) : null;
  if (!remote) {
    throw readOnlyImage(file.name);
  }
  return openRemote(remote, { writable: true });
}

/** The files of an image again, opened anew. */
function withFiles(layer: Layer, [source, ...others]: readonly ByteSource[]): Layer {
  const { detail } = layer;
  return { ...layer, source: source!, detail: detail.format === 'qcow2' ? { ...detail, dataFile: others[0] ?? null } : detail };
}

/**
 * What the files say of the image now.
 * @throws EngineError `format.invalid` when it is built on something else than before
 */
function reread(layer: Layer): Layer {
  const { source, detail } = layer;
  if (source instanceof FileSource) {
    source.refresh();
  }
  const now = readDetail(source, detail.format);
  if (JSON.stringify(backingReference(now)) !== JSON.stringify(backingReference(detail))) {
    throw invalidFormat(source.name, 'header', 0, 'Another program gave the image another backing file while it was opened.');
  }
  return {
    ...layer,
    virtualSize: virtualSizeOf(source, now),
    detail:
      now.format === 'qcow2' && detail.format === 'qcow2'
        ? { ...now, dataFile: detail.dataFile }
        : now.format === 'vmdk' && detail.format === 'vmdk'
          ? { ...now, extents: detail.extents }
          : now,
  };
}
