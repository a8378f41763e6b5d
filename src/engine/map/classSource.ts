import type { MAP_OUTSIDE as Outside, MAP_TILE_SIDE as TileSide } from '../../protocol/inspect';
import type { Pace } from '../pace';

/** Value of cells outside the map. The types keep these two in step with the protocol, of which the engine uses nothing but types. */
export const MAP_OUTSIDE: typeof Outside = 255;
/** Side of a tile in cells. */
export const MAP_TILE_SIDE: typeof TileSide = 256;

/** Classes are numbers below this. */
export const MAX_CLASSES = MAP_OUTSIDE;

/** Receives the class of every cluster of a range, in address order. */
export interface ClassSink {
  /** `count` values from `values` on, one for each cluster from `first` on. The array is reused after the call. */
  classes(first: number, values: Uint8Array, count: number): void;
  /** `count` clusters from `first` on, all of one class. */
  fill(first: number, count: number, value: number): void;
}

export interface MapClass {
  readonly id: string;
  readonly label: string;
}

/** An address space cut into clusters, each of which has a class. */
export interface ClassSource {
  readonly clusters: number;
  readonly clusterSize: number;
  /** Bytes; the last cluster may be cut. */
  readonly length: number;
  /** The legend: a class's number is its index. */
  readonly classes: readonly MapClass[];
  /**
   * Tells the classes of the clusters `from` to `to` (exclusive). Scans of one source may run at the same time.
   * @throws EngineError `cancelled`, `file.io`
   */
  scan(from: number, to: number, sink: ClassSink, pace: Pace): Promise<void>;
  /** One sentence about a cluster. */
  describe(cluster: number): Promise<string>;
}

/** Collects classes in memory, one byte each. */
export class ClassArray implements ClassSink {
  readonly values: Uint8Array<ArrayBuffer>;
  private readonly from: number;

  /** @param from first cluster; `values[0]` belongs to it */
  constructor(from: number, values: Uint8Array<ArrayBuffer>) {
    this.from = from;
    this.values = values;
  }

  classes(first: number, values: Uint8Array, count: number): void {
    this.values.set(values.length === count ? values : values.subarray(0, count), first - this.from);
  }

  fill(first: number, count: number, value: number): void {
    this.values.fill(value, first - this.from, first - this.from + count);
  }
}

/** Counts classes. */
export class ClassCounter implements ClassSink {
  readonly counts = new Float64Array(MAX_CLASSES + 1);

  classes(_first: number, values: Uint8Array, count: number): void {
    const { counts } = this;
    for (let i = 0; i < count; i++) {
      counts[values[i]!]!++;
    }
  }

  fill(_first: number, count: number, value: number): void {
    this.counts[value]! += count;
  }
}
