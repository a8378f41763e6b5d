import { isPromise, type Awaitable } from '../awaitable';
import { dataAhead } from './above';
import type { BlockNode, DataAhead, NodeStatus, Preallocation, WriteOptions, ZeroOptions } from './blockNode';
import { CopyOnRead, type CopyOnReadOptions, type ReadCounts } from './copyOnRead';
import { populate, type Populated } from './populate';
import { RequestTracker } from './requests';

/** Sees the guest's requests come and go. */
export interface GuestObserver {
  requestBegan(): void;
  requestEnded(): void;
}

/** A range that a guest has changed, or tried to. */
export interface GuestChange {
  readonly offset: number;
  readonly length: number;
  /** An unknown part of the change took place. */
  readonly failed: boolean;
  /** Makes the same change to another node. */
  apply(node: BlockNode): Awaitable<void>;
}

/**
 * An image as its guests and its jobs see it: every change is known while it is in flight, so that a job's copy and a guest's write never
 * meet, and reads may be copied into the layer on the way (QEMU's copy-on-read), switched on and off while the guest runs.
 */
export class TrackedNode implements BlockNode {
  readonly requests = new RequestTracker();
  private readonly copyOnRead = new CopyOnRead(this.requests, () => this.current);
  private readonly observers = new Set<GuestObserver>();
  private readonly changeListeners = new Set<(change: GuestChange) => Awaitable<void>>();
  private current: BlockNode;

  constructor(image: BlockNode) {
    this.current = image;
  }

  /** What the requests go to. */
  get image(): BlockNode {
    return this.current;
  }

  /** Requests that wait or come later go to another image; to be called while none is in flight (see `requests`). */
  replaceImage(image: BlockNode): void {
    this.current = image;
  }

  get nodeName(): string {
    return this.image.nodeName;
  }

  get driver(): BlockNode['driver'] {
    return this.image.driver;
  }

  get filename(): string {
    return this.image.filename;
  }

  get size(): number {
    return this.image.size;
  }

  get readOnly(): boolean {
    return this.image.readOnly;
  }

  get clusterSize(): number | null {
    return this.image.clusterSize;
  }

  get backing(): BlockNode | null {
    return this.image.backing;
  }

  /** Counted since the node was opened, while copy-on-read was on. */
  get readCounts(): ReadCounts {
    return this.copyOnRead.counts;
  }

  /** Null switches it off. Copies in flight end as they are. */
  setCopyOnRead(options: CopyOnReadOptions | null): void {
    this.copyOnRead.options = options;
  }

  /** Tells of guest requests until the returned function is called. */
  observe(observer: GuestObserver): () => void {
    this.observers.add(observer);
    return () => this.observers.delete(observer);
  }

  /**
   * Tells of every change that a guest makes from now on, before the guest is told: it waits for the listener. Changes that overlap come
   * one after the other then, so that they end alike wherever the listener makes them too. Of those that are in flight already nothing is
   * told; `requests.drain` waits for them.
   */
  onDidChange(listener: (change: GuestChange) => Awaitable<void>): () => void {
    this.changeListeners.add(listener);
    return () => this.changeListeners.delete(listener);
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    return this.observers.size === 0
      ? this.copyOnRead.read(guestOffset, target)
      : this.observed(() => this.copyOnRead.read(guestOffset, target));
  }

  write(guestOffset: number, bytes: Uint8Array, options?: WriteOptions): Awaitable<void> {
    return this.change(guestOffset, bytes.length, (node) => node.write(guestOffset, bytes, options));
  }

  writeZeroes(guestOffset: number, length: number, options?: ZeroOptions): Awaitable<void> {
    return this.change(guestOffset, length, (node) => node.writeZeroes(guestOffset, length, options));
  }

  discard(guestOffset: number, length: number): Awaitable<void> {
    return this.change(guestOffset, length, (node) => node.discard(guestOffset, length));
  }

  flush(): Promise<void> {
    return this.image.flush();
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    return this.image.blockStatus(guestOffset, length);
  }

  dataAhead(guestOffset: number, length: number): Awaitable<DataAhead> {
    return dataAhead(this.image, guestOffset, length);
  }

  willRead(guestOffset: number, length: number): void {
    this.image.willRead?.(guestOffset, length);
  }

  /** Waits for everything in flight, and everything that comes later waits for it. */
  resize(size: number, preallocation?: Preallocation): Promise<void> {
    return Promise.resolve(this.requests.run(0, Infinity, true, () => this.image.resize(size, preallocation)));
  }

  async close(): Promise<void> {
    await this.requests.drain();
    await this.image.close();
  }

  /**
   * Copies into the image, from `offset` on, what the chain above `base` has and the image has not; one step. See `populate`.
   * @throws EngineError of the node that was read or written
   */
  populate(base: BlockNode | null, offset: number, length: number, chunkBytes?: number): Awaitable<Populated> {
    return populate({ node: this.image, requests: this.requests, base, chunkBytes }, offset, length);
  }

  private change(offset: number, length: number, apply: GuestChange['apply']): Awaitable<void> {
    return this.observed(() => this.requests.run(offset, length, this.changeListeners.size > 0, () => this.told(offset, length, apply)));
  }

  private told(offset: number, length: number, apply: GuestChange['apply']): Awaitable<void> {
    if (this.changeListeners.size === 0) {
      return apply(this.current);
    }
    return this.applyAndTell(offset, length, apply);
  }

  private async applyAndTell(offset: number, length: number, apply: GuestChange['apply']): Promise<void> {
    let failed = true;
    try {
      await apply(this.current);
      failed = false;
    } finally {
      for (const listener of [...this.changeListeners]) {
        await listener({ offset, length, failed, apply });
      }
    }
  }

  private observed<T>(request: () => Awaitable<T>): Awaitable<T> {
    if (this.observers.size === 0) {
      return request();
    }
    const observers = [...this.observers];
    const ended = () => {
      for (const observer of observers) {
        observer.requestEnded();
      }
    };
    for (const observer of observers) {
      observer.requestBegan();
    }
    let result: Awaitable<T>;
    try {
      result = request();
    } catch (error) {
      ended();
      throw error;
    }
    if (isPromise(result)) {
      return result.finally(ended);
    }
    ended();
    return result;
  }
}
