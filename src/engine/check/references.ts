import type { ScanLoops } from './scanLoops';

/** What refers to a host cluster. A cluster of guest data has one role in a sound image, and so has a cluster of tables. */
export const ROLE = {
  /** Header, L1, refcount, snapshot or bitmap table, refcount block, bitmap data, encryption header. */
  structure: 1,
  l2Table: 2,
  /** A standard L2 entry that the active layer reaches. */
  data: 4,
  /** A compressed cluster; many of them may share a host cluster. */
  compressed: 8,
  /** A standard L2 entry that only internal snapshots reach. */
  snapshotData: 16,
} as const;

/** What is wrong with the references of a cluster, whatever its refcount says. */
export const CLASH = {
  /** Guest data lies where metadata lies. */
  dataIntoMetadata: 1,
  /** Two standard entries of the active layer, or one and compressed data, use it. */
  doublyUsed: 2,
  /** Two metadata structures lie there. */
  tablesOverlap: 4,
} as const;

const METADATA = ROLE.structure | ROLE.l2Table;

/** References to the host clusters of one window. Clusters are counted from the window's start. */
export interface References {
  /**
   * Counts references to a cluster.
   * @param active how many come from the active layer (or from a structure of the image as a whole)
   * @param snapshots how many come from internal snapshots
   */
  add(x: number, active: number, snapshots: number, role: number): void;
  count(x: number): number;
  /** `CLASH` bits. */
  clashes(x: number): number;
  /**
   * Whether this could not keep what it was given, within the memory that it may use or for what it can tell apart. Nothing it says is
   * of use then; the window is gone through again with a denser representation.
   */
  readonly exceeded: boolean;
}

/** Clusters with more than one reference that are worth a Map; with more of them a dense array is smaller and faster. */
const MOST_EXTRA = 20_000;

/**
 * For the usual image: nearly every cluster has no reference or one. The second words of the scan's map say which; a cluster with more
 * stands in a Map. Cannot tell active layer and snapshots apart.
 */
export class SparseReferences implements References {
  exceeded = false;
  /** References beyond the first, and clashes in the low three bits, by cluster. */
  readonly extra = new Map<number, number>();
  private readonly map: Int32Array;
  private readonly metadata: Int32Array;

  /** @param metadata a bit for every cluster of the window, all zero */
  constructor(loops: ScanLoops, metadata: Int32Array) {
    this.map = loops.map;
    this.metadata = metadata;
  }

  add(x: number, active: number, snapshots: number, role: number): void {
    const { map, metadata, extra } = this;
    const word = x >>> 5;
    const bit = 1 << (x & 31);
    const seen = ((map[word * 2 + 1] ?? 0) & bit) !== 0;
    const isMetadata = ((metadata[word] ?? 0) & bit) !== 0;
    if ((role & METADATA) !== 0) {
      metadata[word] = (metadata[word] ?? 0) | bit;
    }
    if (snapshots > 0) {
      this.exceeded = true;
    }
    if (!seen && active === 1) {
      map[word * 2 + 1] = (map[word * 2 + 1] ?? 0) | bit;
      return;
    }
    let clash = 0;
    if ((role & METADATA) !== 0) {
      clash = seen && !isMetadata ? CLASH.dataIntoMetadata : CLASH.tablesOverlap;
    } else if (seen && isMetadata) {
      clash = CLASH.dataIntoMetadata;
    } else if (role === ROLE.compressed) {
      // It may share the cluster with other compressed data, which is as it should be, or with a standard entry's: not known here.
      this.exceeded = true;
    } else {
      clash = CLASH.doublyUsed;
    }
    map[word * 2 + 1] = (map[word * 2 + 1] ?? 0) | bit;
    const before = extra.get(x) ?? 0;
    extra.set(x, (Math.floor(before / 8) + active - (seen ? 0 : 1)) * 8 + ((before & 7) | clash));
    if (extra.size > MOST_EXTRA) {
      this.exceeded = true;
    }
  }

  count(x: number): number {
    const seen = (((this.map[(x >>> 5) * 2 + 1] ?? 0) >>> (x & 31)) & 1) !== 0;
    return seen ? 1 + Math.floor((this.extra.get(x) ?? 0) / 8) : 0;
  }

  clashes(x: number): number {
    return (this.extra.get(x) ?? 0) & 7;
  }
}

/** More than this many references are counted as this many. QEMU would need hours to count them. */
const MOST_REFERENCES = 0xffffffff;

/** A count that stands for itself in a byte; larger ones stand in a Map. */
const MOST_IN_A_BYTE = 254;

const DOUBLY_USED = 32;
const TABLES_OVERLAP = 64;

/**
 * For images with snapshots or with compressed data, and for broken ones: a count and the roles of every cluster, two bytes or, where many
 * counts are large, five.
 */
export class DenseReferences implements References {
  exceeded = false;
  private readonly counts: Uint8Array | Uint32Array;
  /** `ROLE` bits and the two clashes that the roles alone do not tell. */
  private readonly roles: Uint8Array;
  private readonly large = new Map<number, number>();
  private readonly narrow: boolean;

  /** @param counts and @param roles one for every cluster of the window, all zero */
  constructor(counts: Uint8Array | Uint32Array, roles: Uint8Array) {
    this.counts = counts;
    this.roles = roles;
    this.narrow = counts.BYTES_PER_ELEMENT === 1;
  }

  add(x: number, active: number, snapshots: number, role: number): void {
    const { roles } = this;
    this.set(x, Math.min(this.count(x) + active + snapshots, MOST_REFERENCES));
    const before = roles[x] ?? 0;
    let after = before | role;
    if (role === ROLE.data) {
      if (active > 1 || (before & (ROLE.data | ROLE.compressed)) !== 0) {
        after |= DOUBLY_USED;
      }
    } else if (role === ROLE.compressed) {
      if ((before & ROLE.data) !== 0) {
        after |= DOUBLY_USED;
      }
    } else if ((role & METADATA) !== 0 && (active > 1 || (before & METADATA) !== 0)) {
      after |= TABLES_OVERLAP;
    }
    roles[x] = after;
  }

  count(x: number): number {
    const count = this.counts[x] ?? 0;
    return this.narrow && count > MOST_IN_A_BYTE ? (this.large.get(x) ?? 0) : count;
  }

  clashes(x: number): number {
    const roles = this.roles[x] ?? 0;
    const mixed = (roles & METADATA) !== 0 && (roles & (ROLE.data | ROLE.compressed | ROLE.snapshotData)) !== 0;
    return (
      (mixed ? CLASH.dataIntoMetadata : 0) |
      ((roles & DOUBLY_USED) !== 0 ? CLASH.doublyUsed : 0) |
      ((roles & TABLES_OVERLAP) !== 0 ? CLASH.tablesOverlap : 0)
    );
  }

  private set(x: number, count: number): void {
    if (this.narrow && count > MOST_IN_A_BYTE) {
      this.counts[x] = MOST_IN_A_BYTE + 1;
      this.large.set(x, count);
      this.exceeded ||= this.large.size > MOST_EXTRA;
    } else {
      this.counts[x] = count;
    }
  }
}
