import type { Awaitable } from '../../../awaitable';
import type { Storage } from '../../../io/storage';
import type { Qcow2Metadata } from '../metadata';

/** The refcount allocator, as managing uses it. Changes reach the disk with `flush`, and none of them before data that was written before. */
export interface ManagedClusters {
  /** New clusters for `length` bytes, one after the other in the file, each with refcount 1. Returns their byte offset. */
  allocate(length: number): Awaitable<number>;
  /** One reference less to each cluster that `length` bytes from `hostOffset` touch; those without any are free. */
  release(hostOffset: number, length: number): Awaitable<void>;
  /** One reference more to each of those clusters. @throws EngineError `request.invalid` when its refcount is as wide as it gets */
  reference(hostOffset: number, length: number): Awaitable<void>;
  /** References to the cluster at `hostOffset`. */
  refcount(hostOffset: number): Awaitable<number>;
  /** Ends when refcounts are on the disk. */
  flush(): Promise<void>;
}

/**
 * An image that is open for writing, as managing its snapshots, bitmaps and header sees it: `Qcow2Node` is one.
 */
export interface ManagedImage {
  readonly storage: Storage;
  /** What the header says now; read again after each change of it. */
  readonly metadata: Qcow2Metadata;
  /**
   * Runs `change` while no request is in flight and everything cached is on the disk. Afterwards the header and the tables are read anew,
   * also when it fails: what `change` did to the file is then what counts.
   */
  exclusively<T>(change: (clusters: ManagedClusters) => Promise<T>): Promise<T>;
}
