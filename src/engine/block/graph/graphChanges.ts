import { EngineError, invalidRequest, readOnlyImage } from '../../errors';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { QedNode } from '../../formats/qed/qedNode';
import { loading } from '../../io/loading';
import type { BlockNode } from '../blockNode';
import { requireNobodyBeside } from './cacheImages';
import { nodesAbove, type GraphNode } from './graphNode';
import { readAgain } from './layerOpening';
import type { NodesInUse } from './nodesInUse';
import { backingParent, jobParent } from './permissions';

/** Changes of a graph while its images are in use: what jobs do to chains. */
export class GraphChanges {
  private readonly nodes: NodesInUse;

  constructor(nodes: NodesInUse) {
    this.nodes = nodes;
  }

  /** An image further down a chain; null for what lies below all. @throws EngineError `request.invalid` for another */
  below(top: GraphNode, base: BlockNode | null): GraphNode | null {
    const found = base === null ? null : this.nodes.nodeOf(base);
    if (found && (found === top || !nodesAbove(top, null).includes(found))) {
      throw invalidRequest(`'${found.layer.filename}' is not in the backing chain of '${top.layer.filename}'.`);
    }
    return found;
  }

  /** As `OpenedImage.freeze`. */
  freeze(top: GraphNode, base: GraphNode | null, user: string): () => void {
    // The lowest image of a chain has no link: overlays that share it are streamed at the same time.
    const nodes = nodesAbove(top, base).filter((node) => node === top || node.backing !== null);
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

  /** As `OpenedImage.relink`. */
  async relink(node: GraphNode, base: GraphNode | null, record: (image: BlockNode) => Promise<void>): Promise<void> {
    const { tracked, backing: former } = node;
    // A copy on write that began with the former one must not go on beside a change.
    await tracked.requests.run(0, Infinity, true, async () => {
      const { image } = tracked;
      if (!(image instanceof Qcow2Node || image instanceof QedNode)) {
        throw readOnlyImage(node.layer.filename);
      }
      await record(image);
      image.replaceBacking(base?.tracked ?? null);
      node.backing = base;
      base?.parents.set(node, backingParent(node.layer.filename));
      this.nodes.drivers.epoch.value++;
    });
    node.layer = await loading(() => readAgain(node.layer));
    this.nodes.refreshWatches();
    if (former && former !== base) {
      await this.nodes.endUse(former, node);
    }
  }

  /** As `OpenedImage.pivot`. */
  async pivot(node: GraphNode, target: GraphNode, settle: () => Promise<void>): Promise<void> {
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
        await this.nodes.endUse(former, node);
      }
    }
  }

  /** As `OpenedImage.writeBelow`, in a turn of its own; so is the returned function to be called. */
  async writeBelow(top: GraphNode, base: GraphNode, user: string): Promise<() => Promise<void>> {
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
        requireNobodyBeside(node);
        await this.nodes.change(node, true);
      }
    }
    const use = {};
    for (const node of between.slice(1)) {
      node.parents.set(use, jobParent(user, false));
    }
    base.parents.set(use, jobParent(user, true));
    const end = async () => {
      for (const node of [...between.slice(1), base]) {
        await this.nodes.endUse(node, use);
      }
    };
    try {
      if (base.tracked.readOnly) {
        await this.nodes.change(base, false);
      }
    } catch (error) {
      await end();
      throw error;
    }
    return end;
  }

  /** Gives a node another one's place in the graph, which is gone then. */
  private replace(node: GraphNode, target: GraphNode): void {
    const { key, layer, locks, cipher, hooks, backing } = target;
    this.nodes.move(node, key);
    node.tracked.replaceImage(target.tracked.image);
    Object.assign(node, { layer, locks, cipher, hooks, backing });
    target.parents.clear();
    if (backing) {
      backing.parents.delete(target);
      backing.parents.set(node, backingParent(layer.filename));
    }
    this.nodes.drivers.epoch.value++;
    this.nodes.refreshWatches();
  }
}
