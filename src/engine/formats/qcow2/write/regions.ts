/** What lies in a host cluster that guest data must never be written to. */
export const REGION = {
  header: 1,
  activeL1: 2,
  activeL2: 4,
  refcountTable: 8,
  refcountBlock: 16,
  snapshotTable: 32,
  inactiveL1: 64,
  inactiveL2: 128,
  bitmapDirectory: 256,
  /** Bitmap tables and their bits. */
  bitmap: 512,
  encryptionHeader: 1024,
} as const;

const TITLES: Readonly<Record<number, string>> = {
  [REGION.header]: 'qcow2 header',
  [REGION.activeL1]: 'active L1 table',
  [REGION.activeL2]: 'active L2 table',
  [REGION.refcountTable]: 'refcount table',
  [REGION.refcountBlock]: 'refcount block',
  [REGION.snapshotTable]: 'snapshot table',
  [REGION.inactiveL1]: 'inactive L1 table',
  [REGION.inactiveL2]: 'inactive L2 table',
  [REGION.bitmapDirectory]: 'bitmap directory',
  [REGION.bitmap]: 'bitmap',
  [REGION.encryptionHeader]: 'encryption header',
};

/** Snapshots share L2 tables with one another and with the guest's disk. */
const SHARED = REGION.activeL2 | REGION.inactiveL2;

export function regionTitle(kinds: number): string {
  return TITLES[kinds & -kinds] ?? 'metadata';
}

const EMPTY = -1;

/** Which clusters hold metadata: a hash table of host clusters, ten bytes for each (a terabyte has some thousands of them). */
export class Regions {
  private readonly clusterSize: number;
  private keys = new Float64Array(1024).fill(EMPTY);
  private kinds = new Uint16Array(1024);
  private used = 0;

  constructor(clusterSize: number) {
    this.clusterSize = clusterSize;
  }

  add(kind: number, hostOffset: number, length = this.clusterSize): void {
    this.each(hostOffset, length, (slot) => {
      this.kinds[slot]! |= kind;
    });
  }

  remove(kind: number, hostOffset: number, length = this.clusterSize): void {
    this.each(hostOffset, length, (slot) => {
      this.kinds[slot]! &= ~kind;
    });
  }

  clear(): void {
    this.keys = new Float64Array(1024).fill(EMPTY);
    this.kinds = new Uint16Array(1024);
    this.used = 0;
  }

  /** The first cluster that two structures claim which cannot share it; null when each has its own. */
  overlap(): { readonly hostOffset: number; readonly kinds: number } | null {
    let first: { readonly hostOffset: number; readonly kinds: number } | null = null;
    for (let slot = 0; slot < this.kinds.length; slot++) {
      const kinds = this.kinds[slot]!;
      const hostOffset = this.keys[slot]! * this.clusterSize;
      if ((kinds & (kinds - 1)) !== 0 && (kinds & ~SHARED) !== 0 && (first === null || hostOffset < first.hostOffset)) {
        first = { hostOffset, kinds };
      }
    }
    return first;
  }

  /** `REGION` bits of the clusters that a range touches. */
  at(hostOffset: number, length: number): number {
    const end = this.endOf(hostOffset, length);
    let found = 0;
    for (let cluster = Math.floor(hostOffset / this.clusterSize); cluster < end; cluster++) {
      const slot = this.find(cluster);
      if (this.keys[slot] === cluster) {
        found |= this.kinds[slot]!;
      }
    }
    return found;
  }

  private each(hostOffset: number, length: number, change: (slot: number) => void): void {
    const end = this.endOf(hostOffset, length);
    for (let cluster = Math.floor(hostOffset / this.clusterSize); cluster < end; cluster++) {
      let slot = this.find(cluster);
      if (this.keys[slot] !== cluster) {
        if ((this.used + 1) * 2 > this.keys.length) {
          this.grow();
          slot = this.find(cluster);
        }
        this.keys[slot] = cluster;
        this.used++;
      }
      change(slot);
    }
  }

  /** Past the range's last cluster; no file reaches past 2^53-1, and from there on clusters cannot be counted one by one. */
  private endOf(hostOffset: number, length: number): number {
    const end = hostOffset + length;
    return end <= Number.MAX_SAFE_INTEGER ? Math.ceil(end / this.clusterSize) : 0;
  }

  /** The cluster's slot, or the empty one where it would go. */
  private find(cluster: number): number {
    const { keys } = this;
    const mask = keys.length - 1;
    let slot = (Math.imul(cluster ^ (cluster / 2 ** 32), 0x9e3779b1) >>> 7) & mask;
    while (keys[slot] !== EMPTY && keys[slot] !== cluster) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  private grow(): void {
    const { keys, kinds } = this;
    const live = kinds.reduce((count, kind) => count + (kind === 0 ? 0 : 1), 0);
    let size = 1024;
    while (size < live * 4) {
      size *= 2;
    }
    this.keys = new Float64Array(size).fill(EMPTY);
    this.kinds = new Uint16Array(size);
    this.used = 0;
    for (let i = 0; i < keys.length; i++) {
      if (kinds[i] !== 0) {
        const slot = this.find(keys[i]!);
        this.keys[slot] = keys[i]!;
        this.kinds[slot] = kinds[i]!;
        this.used++;
      }
    }
  }
}
