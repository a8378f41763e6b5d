import type { EngineError } from '../errors';
import type { ByteSource } from '../io/source';
import type { Pace } from '../pace';
import type { UnitKind, Window } from './window';

/** How one layer of a chain maps guest bytes, for walks over whole chains. */
export interface LayerMapping {
  /** 0 is the active layer. */
  readonly depth: number;
  /** Guest bytes, a multiple of 512. */
  readonly length: number;
  /** Bytes of a cluster; 0 where there are none (raw). */
  readonly clusterSize: number;
  /** Bytes of the smallest piece with a state of its own (a subcluster, or the cluster). */
  readonly grain: number;
  /** What the units are that no table entry decides: null leaves it to the layer below, or to the end of the chain. */
  readonly remainder: UnitKind | null;
  /** The file in which host offsets count; null when it could not be opened, or when there are several. */
  readonly dataSource: ByteSource | null;
  /** For layers whose data lies in several files (VMDK): the one in which a guest offset's host offset counts, and up to which guest offset. */
  fileAt?(guestOffset: number): { readonly source: ByteSource | null; readonly end: number };

  /** A guest offset at or before the first allocated byte at or after `guestOffset`; Infinity when nothing follows. */
  nextAllocated(guestOffset: number): number;
  /**
   * Takes the unowned units of the window that this layer supplies, and returns how many. `bottom` says that what stays unallocated reads
   * as zeroes: then it also takes, as `absentAllocated`, units without data that have a host cluster all the same.
   */
  fill(window: Window, bottom: boolean): number;
  /**
   * Whether QEMU asks the file below for holes within data: it does where the host clusters seem to have been allocated without ever
   * being written.
   * @throws EngineError `cancelled`
   */
  holesWithinData(pace: Pace): Promise<boolean>;
  /** What is wrong with the entries that map `guestOffset`, for a unit of kind `invalid`. */
  invalidAt(guestOffset: number): EngineError;
}
