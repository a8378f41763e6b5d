import { Election } from '../../cache/election';
import { FileSource } from '../../io/file';
import type { OpenedChain } from '../../chain/layer';
import { ACTIVE_VIEW } from '../../chain/layerStatus';
import { mayWarm, quotaOf } from './cacheImages';
import type { GraphNode } from './graphNode';
import { keyOf } from './layerOpening';
import type { NodesInUse } from './nodesInUse';

/** How often it is looked whether others are still in the way, in milliseconds. */
const STANDARD_MS = 5000;

/** Cache images that are to be warmed: at once, or when nobody else warms or reads them any more. */
export class WarmingCandidates {
  private readonly nodes: NodesInUse;
  private readonly inTurn: (work: () => Promise<void>) => Promise<void>;
  private readonly periodMs: number;
  private readonly waiting = new Set<GraphNode>();
  private timer: NodeJS.Timeout | null = null;

  /** @param inTurn runs what changes the graph's shape */
  constructor(nodes: NodesInUse, inTurn: (work: () => Promise<void>) => Promise<void>, periodMs = STANDARD_MS) {
    this.nodes = nodes;
    this.inTurn = inTurn;
    this.periodMs = periodMs;
  }

  /** To be held while the cache images of a chain are opened, until it is known who warms them; those that are in use here need none. */
  async elections({ layers }: OpenedChain): Promise<readonly Election[]> {
    const elections: Election[] = [];
    for (const layer of layers.slice(1)) {
      if (quotaOf(layer) !== null && layer.source instanceof FileSource && !this.nodes.get(keyOf(layer, ACTIVE_VIEW))) {
        const election = await Election.begin(layer.source);
        elections.push(...(election ? [election] : []));
      }
    }
    return elections;
  }

  /** Warms an image if it is a cache image, now or later. */
  async warm(node: GraphNode): Promise<void> {
    if (await this.nodes.warm(node)) {
      this.waiting.add(node);
      this.timer ??= setInterval(() => this.look(), this.periodMs).unref();
    }
  }

  private look(): void {
    for (const node of this.waiting) {
      const over = node.warming !== null || !this.isInUse(node);
      if (over || mayWarm(node)) {
        this.waiting.delete(node);
      }
      if (!over && !this.waiting.has(node)) {
        // It does not fail: what goes wrong is the image's problem.
        void this.inTurn(() => (this.isInUse(node) ? this.warm(node) : Promise.resolve()));
      }
    }
    if (this.waiting.size === 0 && this.timer) {
      clearInterval(this.timer);
      this.timer = null;
    }
  }

  private isInUse(node: GraphNode): boolean {
    return this.nodes.get(node.key) === node;
  }
}
