import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import type { CacheWarming } from '../../cache/warming';
import type { Qcow2Hooks } from '../../formats/qcow2/write/nodeOptions';
import type { ImageLock } from '../../io/imageLocks';
import type { Layer } from '../../chain/layer';
import type { TrackedNode } from '../trackedNode';
import type { NodeParent } from './permissions';

/** An image of the graph with those who use it. */
export interface GraphNode {
  readonly tracked: TrackedNode;
  /** As it was opened last. */
  layer: Layer;
  key: string;
  readonly parents: Map<unknown, NodeParent>;
  backing: GraphNode | null;
  /** The locks that the image's files have; empty when it was opened without. */
  locks: readonly ImageLock[];
  cipher: ClusterCipher | null;
  hooks: Qcow2Hooks | undefined;
  /** Who needs its backing link to stay as it is. */
  frozenBy: string | null;
  /** A cache image that takes in what is read through it. */
  warming: CacheWarming | null;
  /** Why a cache image takes in nothing. */
  cacheProblem: string | null;
}

/** The images from one down to another, without that; null for the whole chain. */
export function nodesAbove(top: GraphNode, base: GraphNode | null): readonly GraphNode[] {
  const nodes: GraphNode[] = [];
  for (let node: GraphNode | null = top; node !== null && node !== base; node = node.backing) {
    nodes.push(node);
  }
  return nodes;
}
