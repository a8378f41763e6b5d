import type { CheckCounts } from '../../../src/protocol/check';

/*
 * A checker that is slow and plain: one big integer after the other, in the order in which QEMU goes over an image, with a Map from
 * cluster to references. It shares no code with the engine. Follows what qemu-img check 7.2 was seen to do.
 */

export type ReferenceCounts = Pick<
  CheckCounts,
  | 'checkErrors'
  | 'corruptions'
  | 'leaks'
  | 'imageEndOffset'
  | 'totalClusters'
  | 'allocatedClusters'
  | 'fragmentedClusters'
  | 'compressedClusters'
>;

const OFFSET = 0x00fffffffffffe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

/** Counts of a check, or `refused` when QEMU gives up or does not open the image; `file` reads as zeroes past its end. */
export function referenceCheck(file: Uint8Array): ReferenceCounts | 'refused' {
  return new Reference(file).check();
}

class Reference {
  private readonly bytes: DataView;
  private readonly clusterBits: number;
  private readonly clusterSize: bigint;
  private readonly fileLength: bigint;
  private readonly refcountBits: number;
  private readonly extended: boolean;
  private readonly dataFile: boolean;
  private readonly version: number;
  private readonly references = new Map<bigint, bigint>();
  private clusters: bigint;
  private corruptions = 0;
  private checkErrors = 0;
  private leaks = 0;
  private allocated = 0;
  private fragmented = 0;
  private compressed = 0;

  constructor(file: Uint8Array) {
    this.bytes = new DataView(file.buffer, file.byteOffset, file.byteLength);
    this.version = this.u32(4n);
    this.clusterBits = this.u32(20n);
    this.clusterSize = 1n << BigInt(this.clusterBits);
    this.fileLength = BigInt(Math.ceil(file.length / 512) * 512);
    this.clusters = (this.fileLength + this.clusterSize - 1n) / this.clusterSize;
    const features = this.version === 3 ? this.u64(72n) : 0n;
    this.refcountBits = this.version === 3 ? 1 << this.u32(96n) : 16;
    this.extended = (features & 16n) !== 0n;
    this.dataFile = (features & 4n) !== 0n;
  }

  check(): ReferenceCounts | 'refused' {
    const snapshotsOffset = this.u64(64n);
    const snapshotCount = this.u32(60n);
    if (snapshotCount > 65536 || snapshotsOffset % this.clusterSize !== 0n || snapshotsOffset >= 1n << 62n) {
      return 'refused';
    }
    const snapshots: { l1: bigint; entries: number }[] = [];
    let at = snapshotsOffset;
    for (let i = 0; i < snapshotCount; i++) {
      at = ((at + 7n) / 8n) * 8n;
      const extra = this.u32(at + 36n);
      if (extra > 1024) {
        return 'refused';
      }
      if (this.version === 3 && extra < 16) {
        this.corruptions++;
      }
      snapshots.push({ l1: this.u64(at), entries: this.u32(at + 8n) });
      at += 40n + BigInt(extra + this.u16(at + 12n) + this.u16(at + 14n));
      if (at - snapshotsOffset > 64n * 1024n * 1024n) {
        return 'refused';
      }
    }
    this.refer(0n, this.clusterSize);
    this.table(this.u64(40n), this.u32(36n), true);
    if (this.dataFile && snapshotCount > 0) {
      this.corruptions++;
    }
    for (const { l1, entries } of snapshots) {
      if (l1 % this.clusterSize !== 0n || entries > 4 * 1024 * 1024) {
        this.corruptions++;
      } else if (entries > 0 && l1 + BigInt(entries * 8) > (1n << 63n) - (1n << 30n)) {
        return 'refused';
      } else {
        this.table(l1, entries, false);
      }
    }
    this.refer(snapshotsOffset, at - snapshotsOffset);
    this.refer(this.u64(48n), BigInt(this.u32(56n)) * this.clusterSize);
    if (!this.bitmaps()) {
      return 'refused';
    }
    this.refcountBlocks();
    const highest = this.compare();
    this.copiedFlags();
    const size = (this.u64(24n) / 512n) * 512n;
    return {
      checkErrors: this.checkErrors,
      corruptions: this.corruptions,
      leaks: this.leaks,
      imageEndOffset: Number((highest + 1n) * this.clusterSize),
      totalClusters: Number((size + this.clusterSize - 1n) / this.clusterSize),
      allocatedClusters: this.allocated,
      fragmentedClusters: this.fragmented,
      compressedClusters: this.compressed,
    };
  }

  private byte(at: bigint): number {
    return at >= 0n && at < BigInt(this.bytes.byteLength) ? this.bytes.getUint8(Number(at)) : 0;
  }

  private u16(at: bigint): number {
    return this.byte(at) * 256 + this.byte(at + 1n);
  }

  private u32(at: bigint): number {
    return this.u16(at) * 65536 + this.u16(at + 2n);
  }

  private u64(at: bigint): bigint {
    return (BigInt(this.u32(at)) << 32n) | BigInt(this.u32(at + 4n));
  }

  private get most(): bigint {
    return (1n << BigInt(this.refcountBits)) - 1n;
  }

  private refer(offset: bigint, length: bigint): void {
    if (length <= 0n) {
      return;
    }
    if (offset + length - this.fileLength >= this.clusterSize) {
      this.corruptions++;
      return;
    }
    for (let cluster = offset / this.clusterSize; cluster <= (offset + length - 1n) / this.clusterSize; cluster++) {
      if (cluster >= this.clusters) {
        this.clusters = cluster + 1n;
      }
      const before = this.references.get(cluster) ?? 0n;
      if (before === this.most) {
        this.corruptions++;
      } else {
        this.references.set(cluster, before + 1n);
      }
    }
  }

  private table(l1: bigint, entries: number, active: boolean): void {
    if (entries === 0) {
      return;
    }
    this.refer(l1, BigInt(entries) * 8n);
    for (let i = 0; i < entries; i++) {
      const entry = this.u64(l1 + BigInt(i) * 8n);
      if (entry === 0n) {
        continue;
      }
      this.corruptions += (entry & 0x7f000000000001ffn) !== 0n ? 1 : 0;
      const l2 = entry & OFFSET;
      this.refer(l2, this.clusterSize);
      this.corruptions += l2 % this.clusterSize !== 0n ? 1 : 0;
      this.l2(l2, active);
    }
  }

  private *l2Entries(l2: bigint): Generator<{ entry: bigint; bitmap: bigint }> {
    const width = this.extended ? 16n : 8n;
    for (let at = l2; at < l2 + this.clusterSize; at += width) {
      yield { entry: this.u64(at), bitmap: this.extended ? this.u64(at + 8n) : 0n };
    }
  }

  /** Whether a standard entry has a host cluster. */
  private mapped(entry: bigint): boolean {
    if ((entry & OFFSET) !== 0n) {
      return true;
    }
    const zero = !this.extended && (entry & 1n) !== 0n;
    return this.dataFile && !zero && (entry & COPIED) !== 0n;
  }

  private l2(l2: bigint, active: boolean): void {
    let next = 0n;
    for (const { entry, bitmap } of this.l2Entries(l2)) {
      const allocated = bitmap & 0xffffffffn;
      const zeroes = bitmap >> 32n;
      if ((entry & COMPRESSED) !== 0n) {
        this.corruptions += (entry & COPIED) !== 0n ? 1 : 0;
        if (this.dataFile || bitmap !== 0n) {
          this.corruptions++;
          continue;
        }
        const x = BigInt(62 - (this.clusterBits - 8));
        const offset = entry & ((1n << x) - 1n);
        const sectors = ((entry & (COMPRESSED - 1n)) >> x) + 1n;
        this.refer(offset, sectors * 512n - (offset & 511n));
        if (active) {
          this.allocated++;
          this.compressed++;
          this.fragmented++;
        }
        continue;
      }
      this.corruptions += (entry & 0x3f000000000001fen) !== 0n ? 1 : 0;
      if (!this.mapped(entry)) {
        const zero = !this.extended && (entry & 1n) !== 0n;
        this.corruptions += !zero && allocated !== 0n ? 1 : 0;
        continue;
      }
      const offset = entry & OFFSET;
      this.corruptions += (allocated & zeroes) !== 0n ? 1 : 0;
      this.corruptions += offset % this.clusterSize !== 0n ? 1 : 0;
      if (active) {
        this.allocated++;
        this.fragmented += next !== 0n && offset !== next ? 1 : 0;
        next = offset + this.clusterSize;
      }
      if (!this.dataFile) {
        this.refer(offset, this.clusterSize);
      }
    }
  }

  /** False when QEMU gives up. Only sound directories are judged here; the interop tests have the others. */
  private bitmaps(): boolean {
    if (this.version !== 3 || (this.u64(88n) & 1n) === 0n) {
      return true;
    }
    let at = BigInt(this.u32(100n));
    while (this.u32(at) !== 0x23852875) {
      if (this.u32(at) === 0 || at >= this.clusterSize) {
        return true;
      }
      at += 8n + BigInt(Math.ceil(this.u32(at + 4n) / 8) * 8);
    }
    const count = this.u32(at + 8n);
    const length = this.u64(at + 16n);
    const directory = this.u64(at + 24n);
    this.refer(directory, length);
    let entry = directory;
    for (let i = 0; i < count; i++) {
      const table = this.u64(entry);
      const entries = this.u32(entry + 8n);
      this.refer(table, BigInt(entries) * 8n);
      for (let k = 0n; k < BigInt(entries); k++) {
        const offset = this.u64(table + k * 8n) & OFFSET;
        if (offset !== 0n) {
          this.refer(offset, this.clusterSize);
        }
      }
      entry += ((24n + BigInt(this.u16(entry + 18n)) + 7n) / 8n) * 8n;
    }
    return true;
  }

  private get blockCount(): bigint {
    return (BigInt(this.u32(56n)) * this.clusterSize) / 8n;
  }

  private blockEntry(block: bigint): bigint {
    return block < this.blockCount ? this.u64(this.u64(48n) + block * 8n) : 0n;
  }

  private refcountBlocks(): void {
    for (let block = 0n; block < this.blockCount; block++) {
      const entry = this.blockEntry(block);
      const offset = entry & ~0x1ffn;
      if ((entry & 0x1ffn) !== 0n || offset % this.clusterSize !== 0n || offset / this.clusterSize >= this.clusters) {
        this.corruptions++;
      } else if (offset !== 0n) {
        this.refer(offset, this.clusterSize);
        this.corruptions += (this.references.get(offset / this.clusterSize) ?? 0n) !== 1n ? 1 : 0;
      }
    }
  }

  /** Null where it cannot be known. */
  private refcount(cluster: bigint): bigint | null {
    const perBlock = (this.clusterSize * 8n) / BigInt(this.refcountBits);
    const offset = this.blockEntry(cluster / perBlock) & ~0x1ffn;
    if (offset === 0n) {
      return 0n;
    }
    if (offset % this.clusterSize !== 0n || offset >= (1n << 63n) - (1n << 30n)) {
      return null;
    }
    const index = cluster % perBlock;
    if (this.refcountBits < 8) {
      const perByte = 8n / BigInt(this.refcountBits);
      return (BigInt(this.byte(offset + index / perByte)) >> ((index % perByte) * BigInt(this.refcountBits))) & this.most;
    }
    let value = 0n;
    for (let i = 0n; i < BigInt(this.refcountBits) / 8n; i++) {
      value = value * 256n + BigInt(this.byte(offset + (index * BigInt(this.refcountBits)) / 8n + i));
    }
    return value;
  }

  private compare(): bigint {
    let highest = 0n;
    for (let cluster = 0n; cluster < this.clusters; cluster++) {
      const refcount = this.refcount(cluster);
      const references = this.references.get(cluster) ?? 0n;
      if (refcount === null) {
        this.checkErrors++;
        continue;
      }
      if (refcount > 0n || references > 0n) {
        highest = cluster;
      }
      this.leaks += refcount > references ? 1 : 0;
      this.corruptions += refcount < references ? 1 : 0;
    }
    return highest;
  }

  private copiedFlags(): void {
    for (let i = 0n; i < BigInt(this.u32(36n)); i++) {
      const entry = this.u64(this.u64(40n) + i * 8n);
      const l2 = entry & OFFSET;
      const refcount = this.refcount(l2 / this.clusterSize);
      if (l2 === 0n || refcount === null) {
        continue;
      }
      this.corruptions += (refcount === 1n) !== ((entry & COPIED) !== 0n) ? 1 : 0;
      for (const { entry: data } of this.l2Entries(l2)) {
        if ((data & COMPRESSED) !== 0n || !this.mapped(data)) {
          continue;
        }
        const dataRefcount = this.dataFile ? 1n : this.refcount((data & OFFSET) / this.clusterSize);
        if (dataRefcount !== null) {
          this.corruptions += (dataRefcount === 1n) !== ((data & COPIED) !== 0n) ? 1 : 0;
        }
      }
    }
  }
}
