import type { LayerView } from '../../../protocol/place';
import type { Election } from '../../cache/election';
import { invalidRequest } from '../../errors';
import { requireOpenableLayer } from '../../info/opening';
import { FileSource, type FileIdentity } from '../../io/file';
import { acquireLocks, type ImageLock } from '../../io/imageLocks';
import { loading } from '../../io/loading';
import type { BlockNode } from '../blockNode';
import { openChain } from '../../chain/openChain';
import { requireComplete, requireSameParents } from '../../chain/complete';
import { backingReference } from '../../chain/detail';
import type { Layer, OpenedChain } from '../../chain/layer';
import { ACTIVE_VIEW } from '../../chain/layerStatus';
import { TrackedNode } from '../trackedNode';
import { cacheStatusOf } from './cacheImages';
import { GraphChanges } from './graphChanges';
import { nodesAbove, type GraphNode } from './graphNode';
import { ImageDrivers } from './imageDrivers';
import { filesOf, readerLocks } from './layerFiles';
import { cipherOf, keyOf, openForWriting, reread, withFiles } from './layerOpening';
import { NodesInUse, type FileUse } from './nodesInUse';
import type { BlockGraphOptions, OpenedImage, OpenImageOptions } from './openedImage';
import { backingParent, fillingParent, requireCompatible, rootParent, stableParent, type NodeParent } from './permissions';
import { WarmingCandidates } from './warmingCandidates';

type SeenImageOptions = OpenImageOptions & { readonly view: LayerView };

/**
 * The images that are in use, each once: chains that share a base share its node. Who may do what to a node at the same time is decided by
 * QEMU's permissions, within this process as by its locks between processes.
 */
export class BlockGraph {
  private readonly options: BlockGraphOptions;
  private readonly drivers: ImageDrivers;
  private readonly nodes: NodesInUse;
  private readonly changes: GraphChanges;
  private readonly candidates: WarmingCandidates;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(options: BlockGraphOptions) {
    this.options = options;
    this.drivers = new ImageDrivers(options.cacheBytes);
    this.nodes = new NodesInUse(this.drivers, options.onCacheProblem);
    this.changes = new GraphChanges(this.nodes);
    this.candidates = new WarmingCandidates(this.nodes, (work) => this.inTurn(work), options.candidacyMs);
  }

  /**
   * Opens an image with all that it is built on; the images below it for reading.
   * @throws EngineError for what QEMU's drivers refuse; `file.locked`, `file.notFound`, `chain.refused`, `chain.loop`, `data.passphrase`
   */
  open(filename: string, options: OpenImageOptions): Promise<OpenedImage> {
    return this.inTurn(() => this.openNow(filename, options));
  }

  /** Who uses a file of one of the images, and whether it is written; null for nobody. */
  useOf(file: FileIdentity): FileUse | null {
    return this.nodes.useOf(file);
  }

  private async openNow(filename: string, options: OpenImageOptions): Promise<OpenedImage> {
    const { gate, currentFolder, open } = this.options;
    const { format, readOnly, view: wanted = ACTIVE_VIEW, forceShare = false, signal } = options;
    if (!readOnly && (forceShare || typeof wanted === 'function' || wanted.kind === 'snapshot')) {
      throw invalidRequest(forceShare ? 'An image that is written cannot be shared by force.' : 'An internal snapshot is only read.');
    }
    const chain = await openChain(filename, { gate, currentFolder, format, signal, locks: null, open });
    const made: GraphNode[] = [];
    const elections: Election[] = [];
    try {
      requireComplete(chain);
      for (const layer of chain.layers) {
        requireOpenableLayer(layer.detail);
      }
      requireSameParents(chain.layers);
      const view = typeof wanted === 'function' ? wanted(chain.layers[0]!) : wanted;
      if (options.warmCaches === true) {
        elections.push(...(await this.candidates.elections(chain)));
      }
      const top = await this.addChain(chain, { ...options, view }, made);
      const parent = parentOf(options);
      const use = {};
      await this.nodes.use(top, use, parent);
      if (options.warmCaches === true) {
        for (const node of nodesAbove(top, null).slice(1)) {
          await this.candidates.warm(node);
        }
      }
      return this.opened(top, use);
    } catch (error) {
      for (const node of made.reverse()) {
        await this.nodes.releaseUnused(node);
      }
      chain.close();
      throw error;
    } finally {
      elections.forEach((election) => election.end());
    }
  }

  /** Nodes for the layers of a chain, from the base up; those that are there already are used. */
  private async addChain(chain: OpenedChain, options: SeenImageOptions, made: GraphNode[]): Promise<GraphNode> {
    const keys = chain.layers.map((layer, index) => keyOf(layer, index === 0 ? options.view : ACTIVE_VIEW));
    const there = keys.findIndex((key) => this.nodes.get(key));
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
      image = this.drivers.reader(layer, backing, cipher, key === keyOf(layer, ACTIVE_VIEW) ? ACTIVE_VIEW : view);
    } else {
      if (!(layer.source instanceof FileSource)) {
        // A server may take one client at a time.
        layer.source.close();
      }
      const written = await openForWriting(layer, acquireLocks, durable);
      locks = written.locks;
      try {
        image = await this.drivers.writer(layer, written.storages, backing, cipher, hooks);
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
    this.nodes.add(node);
    return node;
  }

  private opened(top: GraphNode, use: object): OpenedImage {
    const image: OpenedImage = {
      node: top.tracked,
      setReadOnly: (readOnly) => this.inTurn(() => this.nodes.setReadOnly(top, use, readOnly)),
      close: () => this.inTurn(() => this.nodes.endUse(top, use)),
      chain: () =>
        nodesAbove(top, null).map((node) => ({
          node: node.tracked,
          path: node.layer.path,
          filename: node.layer.filename,
          format: node.layer.detail.format,
          backingName: backingReference(node.layer.detail)?.recordedName ?? null,
          cache: cacheStatusOf(node),
        })),
      freeze: (base, user) => this.changes.freeze(top, this.changes.below(top, base), user),
      relink: (base, record) => this.inTurn(() => this.changes.relink(top, base === null ? null : this.nodes.nodeOf(base), record)),
      pivot: (target, settle) => this.inTurn(() => this.changes.pivot(top, this.nodes.nodeOf(target), settle)),
      writeBelow: async (from, base, user) => {
        const end = await this.inTurn(() => this.changes.writeBelow(this.nodes.nodeOf(from), this.nodes.nodeOf(base), user));
        return () => this.inTurn(end);
      },
      watchGuests: (observer) => this.nodes.watchGuests(top, observer),
      dependents: (node) => this.nodes.dependents(top, this.nodes.nodeOf(node)),
    };
    return image;
  }

  /** The graph's shape changes one step at a time. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}

function parentOf({ user, readOnly, unchanged = false, stable = false }: OpenImageOptions): NodeParent {
  return unchanged ? fillingParent(user) : stable ? stableParent(user) : rootParent(user, readOnly);
}
