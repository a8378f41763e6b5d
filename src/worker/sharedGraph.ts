import { BlockGraph } from '../engine/block/graph/blockGraph';
import type { FileUse } from '../engine/block/graph/nodesInUse';
import { watchingConnections } from '../engine/chain/follow';
import type { OpeningGate } from '../engine/gate/gate';
import type { FileIdentity } from '../engine/io/file';
import type { Connection } from '../engine/io/remote/rangeFetcher';
import type { CacheFailure, UnreachableImage } from '../protocol/exports';

/** The images that the worker's exports and jobs use: in one graph, so that a job may work on what a guest uses. */
export class SharedGraph {
  private readonly gate: OpeningGate;
  private readonly onCacheFailure: (failure: CacheFailure) => void;
  private graph: BlockGraph | null = null;
  private users = 0;
  /** Of the servers that the images lie on, by the images' names, when it is other than `online`. */
  private readonly connections = new Map<string, Exclude<Connection, 'online'>>();
  private readonly listeners: (() => void)[] = [];

  constructor(gate: OpeningGate, onCacheFailure: (failure: CacheFailure) => void) {
    this.gate = gate;
    this.onCacheFailure = onCacheFailure;
  }

  /** @param cacheBytes bytes for tables of each image; those of the first user hold until there is none any more */
  acquire(cacheBytes?: number): BlockGraph {
    this.graph ??= new BlockGraph({
      gate: this.gate,
      cacheBytes,
      onCacheProblem: (filename, problem) =>
        this.onCacheFailure({ filename, reason: problem instanceof Error ? problem.message : String(problem) }),
      open: watchingConnections((filename, state) => this.connected(filename, state)),
    });
    this.users++;
    return this.graph;
  }

  release(): void {
    this.users--;
    if (this.users === 0) {
      this.graph = null;
      this.connections.clear();
    }
  }

  /** As `BlockGraph.useOf`. */
  useOf(file: FileIdentity): FileUse | null {
    return this.graph?.useOf(file) ?? null;
  }

  /** Those of these images whose server cannot be reached at the moment. */
  unreachable(filenames: readonly string[]): readonly UnreachableImage[] {
    return filenames.flatMap((name) => {
      const state = this.connections.get(name);
      return state === undefined ? [] : [{ name, state }];
    });
  }

  /** What its users know of the server that an image lies on. */
  connectionOf(filename: string): Connection {
    return this.connections.get(filename) ?? 'online';
  }

  /** Calls back when a server goes out of reach or comes back. */
  onDidChangeConnections(listener: () => void): void {
    this.listeners.push(listener);
  }

  private connected(filename: string, state: Connection): void {
    if (state === 'online') {
      this.connections.delete(filename);
    } else {
      this.connections.set(filename, state);
    }
    this.listeners.forEach((listener) => listener());
  }
}
