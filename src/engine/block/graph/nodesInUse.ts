import { invalidRequest } from '../../errors';
import { fileKey, FileSource, type FileIdentity } from '../../io/file';
import type { BlockNode } from '../blockNode';
import type { GuestObserver } from '../trackedNode';
import { quotaOf, requireNobodyBeside, startWarming } from './cacheImages';
import { nodesAbove, type GraphNode } from './graphNode';
import { GuestWatch } from './guestWatch';
import type { ImageDrivers } from './imageDrivers';
import { filesOf } from './layerFiles';
import type { BlockGraphOptions } from './openedImage';
import { changes, requireCompatible, rootParent, type NodeParent } from './permissions';

/** What a graph does with a file. */
export interface FileUse {
  /** An export, a job; or the overlay that reads from it. */
  readonly user: string;
  readonly writes: boolean;
}

/** The images of a graph: who uses each of them, and for what. An image is written while somebody changes it, and closed with its last use. */
export class NodesInUse {
  readonly drivers: ImageDrivers;
  private readonly onCacheProblem: BlockGraphOptions['onCacheProblem'];
  private readonly nodes = new Map<string, GraphNode>();
  private readonly watches = new Set<GuestWatch>();

  constructor(drivers: ImageDrivers, onCacheProblem: BlockGraphOptions['onCacheProblem']) {
    this.drivers = drivers;
    this.onCacheProblem = onCacheProblem;
  }

  get(key: string): GraphNode | undefined {
    return this.nodes.get(key);
  }

  add(node: GraphNode): void {
    this.nodes.set(node.key, node);
    this.drivers.epoch.value++;
  }

  /** Makes a node the one of another file, in place of that which the file had. */
  move(node: GraphNode, key: string): void {
    this.nodes.delete(node.key);
    this.nodes.set(key, node);
    node.key = key;
    this.drivers.epoch.value++;
  }

  /** The node of an image. @throws EngineError `request.invalid` when nobody uses it any more */
  nodeOf(image: BlockNode): GraphNode {
    for (const node of this.nodes.values()) {
      if (node.tracked === image) {
        return node;
      }
    }
    throw invalidRequest(`${image.filename} is not in use any more.`);
  }

  /** Who uses a file, before others whoever changes it, and whether it is written; null for nobody. */
  useOf(identity: FileIdentity): FileUse | null {
    const key = fileKey(identity);
    const users = [...this.nodes.values()]
      .filter(({ layer }) => filesOf(layer).some((file) => file instanceof FileSource && fileKey(file.identity) === key))
      .flatMap(({ parents, tracked }) => [...parents.values()].map((parent) => ({ parent, writes: !tracked.readOnly })));
    const user = users.find(({ parent }) => changes(parent)) ?? users.find(({ writes }) => writes) ?? users[0];
    return user ? { user: user.parent.name, writes: user.writes } : null;
  }

  /** Adds a use. @throws EngineError `file.locked` where another does not allow it; as the drivers */
  async use(node: GraphNode, use: object, parent: NodeParent): Promise<void> {
    requireCompatible(node.layer.filename, node.parents.values(), parent);
    if (changes(parent) && node.warming) {
      // Entries that change again, and clusters that are used again, are not for those who read beside.
      requireNobodyBeside(node);
      await this.change(node, true);
    }
    if (changes(parent) && node.tracked.readOnly) {
      await this.change(node, false);
    }
    node.parents.set(use, parent);
    this.refreshWatches();
  }

  /** The last one closes the image. */
  async endUse(node: GraphNode, use: object): Promise<void> {
    if (!node.parents.delete(use)) {
      return;
    }
    this.refreshWatches();
    await this.releaseUnused(node);
    await this.stopWriting(node);
  }

  /** As `OpenedImage.setReadOnly`. */
  async setReadOnly(node: GraphNode, use: object, readOnly: boolean): Promise<void> {
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
  async change(node: GraphNode, readOnly: boolean): Promise<void> {
    const { tracked } = node;
    await tracked.requests.run(0, Infinity, true, async () => {
      const old = tracked.image;
      if (node.warming) {
        await this.stopWarming(node);
        return;
      }
      await old.flush();
      tracked.replaceImage(await (readOnly ? this.drivers.becomeReader(node) : this.drivers.becomeWriter(node)));
      this.drivers.epoch.value++;
      await old.close();
    });
  }

  /**
   * Lets a cache image take in what is read through it, if it is one and nobody else does that.
   * @returns whether others are in the way, which may end
   */
  async warm(node: GraphNode): Promise<boolean> {
    if (quotaOf(node.layer) === null || node.warming) {
      return false;
    }
    return node.tracked.requests.run(0, Infinity, true, async () => {
      const former = await startWarming(node, {
        nodeName: this.drivers.nameNode(),
        cacheBytes: this.drivers.cacheBytes,
        onProblem: (filename, problem) => this.onCacheProblem?.(filename, problem),
      });
      if (former === 'locked') {
        return true;
      }
      if (former) {
        this.drivers.epoch.value++;
        await former.close();
      }
      return false;
    });
  }

  /** Closes a node that nobody uses, and then those below it. */
  async releaseUnused(node: GraphNode): Promise<void> {
    if (node.parents.size > 0 || this.nodes.get(node.key) !== node) {
      return;
    }
    this.nodes.delete(node.key);
    this.drivers.epoch.value++;
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

  /** Tells of the requests of everybody whose disk the image is a part of, until the returned function is called. */
  watchGuests(node: GraphNode, observer: GuestObserver): () => void {
    const watch = new GuestWatch(node, observer);
    this.watches.add(watch);
    watch.refresh();
    return () => {
      this.watches.delete(watch);
      watch.stop();
    };
  }

  /** To be called when the graph's shape has changed. */
  refreshWatches(): void {
    for (const watch of this.watches) {
      watch.refresh();
    }
  }

  /** Others who are built on an image, without going through the active one. */
  dependents(active: GraphNode, changed: GraphNode): readonly string[] {
    const chain = new Set<unknown>(nodesAbove(active, null));
    return [...changed.parents].flatMap(([parent, { name, role }]) => (role === 'backing' && !chain.has(parent) ? [name] : []));
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

  /** A cache image becomes a reader's; what it could not write is no concern of its readers. */
  private async stopWarming(node: GraphNode): Promise<void> {
    const { tracked, warming } = node;
    const old = tracked.image;
    warming?.end();
    await old.flush().catch((error: unknown) => warming?.noteFailure(error));
    tracked.replaceImage(await this.drivers.becomeReader(node));
    node.warming = null;
    this.drivers.epoch.value++;
    await old.close().catch((error: unknown) => warming?.noteFailure(error));
  }
}
