/** Distinct L2 tables that one set holds at most; what a larger image has comes in several sets. */
const MOST_TABLES = 65_536;

/** Index of no snapshot: the active layer. */
export const ACTIVE = -1;

/**
 * L2 tables by host offset, each with who refers to it: the active layer's L1 table and those of internal snapshots share most of them,
 * and each table is to be read once. At most 4 MiB whatever the image says.
 */
export class L2TableSet {
  length = 0;
  /** Byte offset in the file; a multiple of 512. */
  readonly hostOffset: Float64Array;
  /** L1 entries of the active layer that refer to it with the COPIED flag set, and without. */
  readonly activeCopied: Uint32Array;
  readonly activePlain: Uint32Array;
  /** L1 entries of snapshots that refer to it. */
  readonly snapshots: Uint32Array;
  /** The first reference: the snapshot's index or `ACTIVE`, and the row of that L1 table. The active layer's comes before any snapshot's. */
  readonly view: Int32Array;
  readonly l1Index: Uint32Array;
  /** Host clusters that its entries name: the first, and the one after the last; filled by the pass that needs them. */
  readonly lowest: Uint32Array;
  readonly highestEnd: Uint32Array;
  private readonly capacity: number;
  private readonly slots: Int32Array;

  /** @param references L1 entries that there are at most */
  constructor(references: number) {
    const capacity = Math.max(1, Math.min(references, MOST_TABLES));
    this.capacity = capacity;
    this.hostOffset = new Float64Array(capacity);
    this.activeCopied = new Uint32Array(capacity);
    this.activePlain = new Uint32Array(capacity);
    this.snapshots = new Uint32Array(capacity);
    this.view = new Int32Array(capacity);
    this.l1Index = new Uint32Array(capacity);
    this.lowest = new Uint32Array(capacity);
    this.highestEnd = new Uint32Array(capacity);
    this.slots = new Int32Array(capacity * 2);
  }

  get full(): boolean {
    return this.length === this.capacity;
  }

  clear(): void {
    this.length = 0;
    this.slots.fill(0);
  }

  /** Counts a reference; the set must not be full. */
  add(hostOffset: number, view: number, l1Index: number, copied: boolean): void {
    let slot = hash(hostOffset) % this.slots.length;
    for (;;) {
      const found = (this.slots[slot] ?? 0) - 1;
      if (found < 0) {
        break;
      }
      if (this.hostOffset[found] === hostOffset) {
        this.count(found, view, copied);
        return;
      }
      slot = (slot + 1) % this.slots.length;
    }
    const index = this.length++;
    this.slots[slot] = index + 1;
    this.hostOffset[index] = hostOffset;
    this.activeCopied[index] = 0;
    this.activePlain[index] = 0;
    this.snapshots[index] = 0;
    this.view[index] = view;
    this.l1Index[index] = l1Index;
    this.count(index, view, copied);
  }

  /** Tables by ascending offset, so that neighbours are read together and a disk's head moves one way. */
  inFileOrder(): Uint32Array {
    const { hostOffset, length } = this;
    const order = Uint32Array.from({ length }, (_, index) => index);
    let sorted = true;
    for (let i = 1; i < length && sorted; i++) {
      sorted = (hostOffset[i - 1] ?? 0) < (hostOffset[i] ?? 0);
    }
    return sorted ? order : order.sort((a, b) => (hostOffset[a] ?? 0) - (hostOffset[b] ?? 0));
  }

  private count(index: number, view: number, copied: boolean): void {
    const counter = view !== ACTIVE ? this.snapshots : copied ? this.activeCopied : this.activePlain;
    counter[index] = Math.min((counter[index] ?? 0) + 1, 0xffffffff);
  }
}

function hash(hostOffset: number): number {
  const sector = hostOffset / 512;
  const low = sector >>> 0;
  const high = Math.floor(sector / 2 ** 32);
  return Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1) >>> 0;
}
