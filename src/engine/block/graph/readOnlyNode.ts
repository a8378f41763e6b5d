import { after, isPromise, type Awaitable } from '../../awaitable';
import { invalidFormat, invalidRequest, readOnlyImage } from '../../errors';
import { grainSizeOf } from '../../formats/vmdk/extents';
import { loading } from '../../io/loading';
import type { ByteSource } from '../../io/source';
import { dataAhead } from '../above';
import type { BlockNode, DataAhead, NodeStatus } from '../blockNode';
import { requireInside } from '../inFlight';
import type { LayerDetail } from '../../chain/layer';
import type { ReadableLayer } from '../../chain/chainReader';
import { ReadStack, type StackLayer } from '../../chain/readStack';
import { TrackedNode } from '../trackedNode';

/** Counts the changes of a graph's shape: what was found out of chains before the last one is no longer so. */
export interface GraphEpoch {
  value: number;
  /** Reads that wait for a server, perhaps for one image while another one of their chain is to be closed. */
  readonly reading: Set<Promise<void>>;
}

export interface ReadOnlyNodeOptions {
  readonly nodeName: string;
  readonly layer: ReadableLayer;
  /** Closed with the node. */
  readonly files: readonly ByteSource[];
  readonly backing: BlockNode | null;
  readonly epoch: GraphEpoch;
  /** Bound for what is kept of where bytes lie in this image and those below it. */
  readonly cacheBytes: number;
}

/**
 * An image of any format that nobody here writes. It reads itself and the images below it, as far as they are such ones too, as one stack,
 * so that the depth of a chain costs nothing.
 */
export class ReadOnlyNode implements BlockNode {
  readonly readOnly = true;
  readonly nodeName: string;
  readonly filename: string;
  readonly driver: LayerDetail['format'];
  readonly clusterSize: number | null;
  readonly size: number;
  readonly layer: ReadableLayer;
  private readonly files: readonly ByteSource[];
  private readonly epoch: GraphEpoch;
  private readonly cacheBytes: number;
  private backingNode: BlockNode | null;
  private stack: { readonly layers: ReadStack; readonly below: BlockNode | null; readonly epoch: number } | null = null;
  private closed = false;

  constructor({ nodeName, layer, files, backing, epoch, cacheBytes }: ReadOnlyNodeOptions) {
    this.nodeName = nodeName;
    this.layer = layer;
    this.files = files;
    this.epoch = epoch;
    this.cacheBytes = cacheBytes;
    this.backingNode = backing;
    this.filename = layer.layer.filename;
    this.driver = layer.layer.detail.format;
    this.size = layer.size;
    this.clusterSize = clusterSizeOf(layer.layer.detail);
  }

  get backing(): BlockNode | null {
    return this.backingNode;
  }

  /** What the image's metadata says, as read when it was opened. */
  get detail(): LayerDetail {
    return this.layer.layer.detail;
  }

  /** Reads unallocated ranges from another node from now on. */
  replaceBacking(backing: BlockNode | null): void {
    this.backingNode = backing;
    this.stack = null;
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.requireInside(guestOffset, target.length);
    const { layers, below } = this.currentStack();
    if (layers.readKnown(guestOffset, target)) {
      return;
    }
    const reading = loading(() => layers.read(guestOffset, target, below));
    return isPromise(reading) ? this.follow(reading) : reading;
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    this.requireInside(guestOffset, Math.max(1, length));
    return loading((): NodeStatus => {
      const { class: kind, length: reached, hostOffset, problem } = this.layer.blockStatusWithHoles(guestOffset, length);
      if (kind === 'unknown') {
        throw invalidFormat(this.filename, problem!.structure, problem!.hostOffset, problem!.message);
      }
      return { class: kind, length: reached, hostOffset };
    });
  }

  dataAhead(guestOffset: number, length: number): Awaitable<DataAhead> {
    this.requireInside(guestOffset, Math.max(1, length));
    const { layers, below } = this.currentStack();
    return after(
      loading(() => layers.place(guestOffset, length)),
      (extent): Awaitable<DataAhead> =>
        extent.class === 'unallocated' && extent.below && below !== null && guestOffset < below.size
          ? dataAhead(below, guestOffset, Math.min(extent.length, below.size - guestOffset))
          : { data: extent.class === 'data' || extent.class === 'compressed', length: extent.length },
    );
  }

  willRead(guestOffset: number, length: number): void {
    const { layers, below } = this.currentStack();
    layers.willRead(guestOffset, length, below);
  }

  write(): never {
    throw readOnlyImage(this.filename);
  }

  writeZeroes(): never {
    throw readOnlyImage(this.filename);
  }

  discard(): never {
    throw readOnlyImage(this.filename);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  resize(): Promise<void> {
    return Promise.reject(readOnlyImage(this.filename));
  }

  async close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      // A read that began before a change of the graph goes through the images as they were then.
      await Promise.allSettled(this.epoch.reading);
      for (const file of this.files) {
        file.close();
      }
    }
  }

  private follow(reading: Promise<void>): Promise<void> {
    const done = () => void this.epoch.reading.delete(reading);
    this.epoch.reading.add(reading);
    reading.then(done, done);
    return reading;
  }

  private currentStack(): NonNullable<typeof this.stack> {
    if (this.stack?.epoch !== this.epoch.value) {
      const layers: StackLayer[] = [this.layer];
      let below = this.backingNode;
      while (below instanceof TrackedNode && below.image instanceof ReadOnlyNode) {
        layers.push(below.image.layer);
        below = below.image.backing;
      }
      this.stack = { below, layers: new ReadStack(layers, this.cacheBytes), epoch: this.epoch.value };
    }
    return this.stack;
  }

  private requireInside(guestOffset: number, length: number): void {
    requireInside(guestOffset, length, this.size);
    if (this.closed) {
      throw invalidRequest(`${this.filename} is closed.`);
    }
  }
}

function clusterSizeOf(detail: LayerDetail): number | null {
  switch (detail.format) {
    case 'qcow2':
    case 'qed':
      return detail.metadata.clusterSize;
    case 'vmdk':
      return grainSizeOf(detail.metadata, detail.extents);
    case 'raw':
      return null;
  }
}
