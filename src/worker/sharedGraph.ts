import { BlockGraph } from '../engine/block/graph/blockGraph';
import type { OpeningGate } from '../engine/gate/gate';

/** The images that the worker's exports and jobs use: in one graph, so that a job may work on what a guest uses. */
export class SharedGraph {
  private readonly gate: OpeningGate;
  private graph: BlockGraph | null = null;
  private users = 0;

  constructor(gate: OpeningGate) {
    this.gate = gate;
  }

  /** @param cacheBytes bytes for tables of each image; those of the first user hold until there is none any more */
  acquire(cacheBytes?: number): BlockGraph {
    this.graph ??= new BlockGraph({ gate: this.gate, cacheBytes });
    this.users++;
    return this.graph;
  }

  release(): void {
    this.users--;
    if (this.users === 0) {
      this.graph = null;
    }
  }
}
