import { constants, deflateRawSync, zstdCompressSync } from 'node:zlib';

import { encode } from '../../layout/codec';
import { concatenate, concatenatePadded } from '../../layout/concatenate';
import { encodeHeader, type HeaderContents, type HeaderExtension } from './manage/header';
import {
  AUTOCLEAR,
  BITMAP_DIRECTORY_ENTRY,
  BITMAPS_EXTENSION,
  COMPATIBLE,
  EXTENSION,
  FEATURE,
  OFLAG_COMPRESSED,
  OFLAG_COPIED,
  OFLAG_ZERO,
  QCOW2_MAGIC,
  SNAPSHOT_ENTRY,
  SNAPSHOT_EXTRA,
} from './structures';

export interface BuilderOptions {
  /** Virtual size in bytes. */
  readonly size: number;
  readonly version?: 2 | 3;
  /** 9..21, default 16. */
  readonly clusterBits?: number;
  /** 0..6, default 4 (16 bits); version 2 has 4 only. */
  readonly refcountOrder?: number;
  readonly extendedL2?: boolean;
  readonly compression?: 'zlib' | 'zstd';
  readonly lazyRefcounts?: boolean;
  readonly backing?: { readonly name: string; readonly format: string | null };
}

/** What a guest cluster maps to. `host` and `offset` are byte offsets in the file. */
type Mapping =
  | { readonly kind: 'data'; readonly host: number }
  | { readonly kind: 'zero'; readonly host: number }
  | { readonly kind: 'compressed'; readonly offset: number; readonly length: number }
  | { readonly kind: 'subclusters'; readonly host: number; readonly allocated: number; readonly zero: number };

interface View {
  readonly mappings: ReadonlyMap<number, Mapping>;
  readonly snapshot: SnapshotInfo | null;
}

export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Seconds since 1970. */
  readonly dateSec: number;
  /** Seconds that the guest had been running. */
  readonly uptimeSec: number;
}

interface BitmapInfo {
  readonly name: string;
  readonly granularityBits: number;
  readonly flags: number;
  /** Guest byte ranges that are marked. */
  readonly dirty: readonly { readonly offset: number; readonly length: number }[];
}

/** Where a built image has its structures, for tests and for samples that break one on purpose. Byte offsets in the file. */
export interface BuiltLayout {
  readonly clusterSize: number;
  readonly l1TableOffset: number;
  /** By L1 index, of the active layer; 0 where there is no L2 table. */
  readonly l2TableOffsets: readonly number[];
  readonly refcountTableOffset: number;
  readonly refcountBlockOffsets: readonly number[];
  readonly fileSize: number;
}

export interface BuiltImage {
  readonly layout: BuiltLayout;
  /** Pieces of the file; what no piece covers is zero. */
  readonly pieces: readonly { readonly hostOffset: number; readonly bytes: Uint8Array }[];
}

/** The compression window that QEMU's readers allow for: 4 KiB. */
const WINDOW_BITS = 12;
const SECTOR = 512;

/**
 * Builds a consistent qcow2 image in memory, guest cluster by guest cluster, the way a guest would have filled it: clusters are laid out
 * in the order they are written, a snapshot shares what exists, and a later write to a shared cluster goes to a new one.
 */
export class Qcow2Builder {
  readonly clusterSize: number;
  private readonly options: BuilderOptions;
  private readonly pieces: { hostOffset: number; bytes: Uint8Array }[] = [];
  private readonly active = new Map<number, Mapping>();
  private readonly snapshots: View[] = [];
  private readonly bitmaps: BitmapInfo[] = [];
  /** Reference counts by host cluster. */
  private readonly references = new Map<number, number>();
  /** The header's own cluster is taken from the start. */
  private nextCluster = 1;
  /** Where the next compressed cluster may begin inside the last cluster used for compressed data; 0 when a new one is due. */
  private compressedTail = 0;

  constructor(options: BuilderOptions) {
    this.options = options;
    this.clusterSize = 2 ** (options.clusterBits ?? 16);
    this.refer(0, 1);
  }

  /** Maps a guest cluster to data; shorter contents are padded with zeroes. */
  write(guestCluster: number, contents: Uint8Array): this {
    const host = this.allocate(1);
    this.place(host, contents);
    this.active.set(guestCluster, { kind: 'data', host });
    return this;
  }

  /** Maps a guest cluster to compressed data; contents that do not get smaller are stored as they are. */
  writeCompressed(guestCluster: number, contents: Uint8Array): this {
    const whole = new Uint8Array(this.clusterSize);
    whole.set(contents);
    const packed =
      this.options.compression === 'zstd'
        ? zstdCompressSync(whole)
        : deflateRawSync(whole, { windowBits: WINDOW_BITS, level: constants.Z_BEST_COMPRESSION });
    if (packed.length >= this.clusterSize) {
      return this.write(guestCluster, contents);
    }
    const left = this.compressedTail === 0 ? 0 : this.clusterSize - (this.compressedTail % this.clusterSize);
    // Narrow refcounts cannot count several compressed clusters in one host cluster.
    if (left < packed.length || (this.options.refcountOrder ?? 4) < 4) {
      this.compressedTail = this.allocate(1);
    }
    const offset = this.compressedTail;
    this.place(offset, packed);
    // The next one begins right behind; when that is the cluster's end, a new cluster is due.
    const end = offset + packed.length;
    this.compressedTail = end % this.clusterSize === 0 ? 0 : end;
    this.active.set(guestCluster, { kind: 'compressed', offset, length: packed.length });
    return this;
  }

  /** Maps a guest cluster to zeroes, keeping a host cluster behind it when `preallocated`. Version 3 only. */
  zero(guestCluster: number, preallocated = false): this {
    this.active.set(guestCluster, { kind: 'zero', host: preallocated ? this.allocate(1) : 0 });
    return this;
  }

  /** Extended L2: maps single subclusters; bit 0 is the first. */
  writeSubclusters(guestCluster: number, contents: Uint8Array, allocated: number, zero: number): this {
    const host = this.allocate(1);
    this.place(host, contents);
    this.active.set(guestCluster, { kind: 'subclusters', host, allocated, zero });
    return this;
  }

  /** Forgets a guest cluster's mapping; its host cluster stays while a snapshot uses it. */
  discard(guestCluster: number): this {
    this.active.delete(guestCluster);
    return this;
  }

  snapshot(info: SnapshotInfo): this {
    this.snapshots.push({ mappings: new Map(this.active), snapshot: info });
    return this;
  }

  bitmap(info: BitmapInfo): this {
    this.bitmaps.push(info);
    return this;
  }

  /** Takes a cluster that nothing refers to: a leak. Returns its byte offset. */
  leak(contents: Uint8Array): number {
    const host = this.allocate(1);
    this.place(host, contents);
    this.refer(host / this.clusterSize, 1);
    return host;
  }

  build(): BuiltImage {
    const views: View[] = [{ mappings: this.active, snapshot: null }, ...this.snapshots];
    for (const view of views) {
      for (const mapping of view.mappings.values()) {
        this.referMapping(mapping);
      }
    }
    const tables = this.buildMappingTables(views);
    const snapshotTable = this.buildSnapshotTable(tables.l1Offsets.slice(1), tables.l1Size);
    const bitmapDirectory = this.buildBitmaps();
    const refcounts = this.buildRefcounts();
    this.place(0, this.buildHeader(tables, snapshotTable, bitmapDirectory, refcounts));
    return {
      pieces: this.pieces,
      layout: {
        clusterSize: this.clusterSize,
        l1TableOffset: tables.l1Offsets[0] ?? 0,
        l2TableOffsets: tables.activeL2Offsets,
        refcountTableOffset: refcounts.tableOffset,
        refcountBlockOffsets: refcounts.blockOffsets,
        fileSize: this.nextCluster * this.clusterSize,
      },
    };
  }

  private allocate(clusters: number): number {
    const host = this.nextCluster * this.clusterSize;
    this.nextCluster += clusters;
    return host;
  }

  private place(hostOffset: number, bytes: Uint8Array): void {
    this.pieces.push({ hostOffset, bytes });
  }

  private refer(cluster: number, count: number): void {
    this.references.set(cluster, (this.references.get(cluster) ?? 0) + count);
  }

  /** Allocates clusters for a structure, places it, and refers to each of them once. */
  private placeStructure(bytes: Uint8Array): number {
    const clusters = Math.max(1, Math.ceil(bytes.length / this.clusterSize));
    const host = this.allocate(clusters);
    this.place(host, bytes);
    for (let index = 0; index < clusters; index++) {
      this.refer(host / this.clusterSize + index, 1);
    }
    return host;
  }

  private referMapping(mapping: Mapping): void {
    if (mapping.kind === 'compressed') {
      const last = compressedEnd(mapping.offset, mapping.length) - 1;
      for (let cluster = Math.floor(mapping.offset / this.clusterSize); cluster <= Math.floor(last / this.clusterSize); cluster++) {
        this.refer(cluster, 1);
      }
    } else if (mapping.host !== 0) {
      this.refer(mapping.host / this.clusterSize, 1);
    }
  }

  /** COPIED is kept in the active layer's tables only, as QEMU does. */
  private entryWords(mapping: Mapping, active: boolean): readonly bigint[] {
    const copied = (host: number) => (active && (this.references.get(host / this.clusterSize) ?? 0) === 1 ? OFLAG_COPIED : 0n);
    switch (mapping.kind) {
      case 'data':
        return [BigInt(mapping.host) | copied(mapping.host), 0xffffffffn];
      case 'zero':
        if (this.options.extendedL2) {
          return [mapping.host === 0 ? 0n : BigInt(mapping.host) | copied(mapping.host), 0xffffffff00000000n];
        }
        return [OFLAG_ZERO | (mapping.host === 0 ? 0n : BigInt(mapping.host) | copied(mapping.host)), 0n];
      case 'subclusters':
        return [BigInt(mapping.host) | copied(mapping.host), (BigInt(mapping.zero) << 32n) | BigInt(mapping.allocated)];
      case 'compressed': {
        const shift = BigInt(62 - ((this.options.clusterBits ?? 16) - 8));
        const sectors = (compressedEnd(mapping.offset, mapping.length) - Math.floor(mapping.offset / SECTOR) * SECTOR) / SECTOR;
        return [OFLAG_COMPRESSED | (BigInt(sectors - 1) << shift) | BigInt(mapping.offset), 0n];
      }
    }
  }

  private buildMappingTables(views: readonly View[]): { l1Offsets: number[]; l1Size: number; activeL2Offsets: number[] } {
    const entryBytes = this.options.extendedL2 ? 16 : 8;
    const l2Entries = this.clusterSize / entryBytes;
    const l1Size = Math.max(1, Math.ceil(this.options.size / (l2Entries * this.clusterSize)));
    // L2 tables whose mappings are the same objects in two views are one shared table, as after a snapshot in QEMU.
    const shared = new Map<string, { host: number; users: number }>();
    const identity = new Map<Mapping, number>();
    const idOf = (mapping: Mapping) => {
      const id = identity.get(mapping) ?? identity.size;
      identity.set(mapping, id);
      return id;
    };
    const viewTables = views.map((view, viewIndex) => {
      const byIndex = new Map<number, [number, Mapping][]>();
      for (const [guestCluster, mapping] of [...view.mappings].sort(([a], [b]) => a - b)) {
        const index = Math.floor(guestCluster / l2Entries);
        const entries = byIndex.get(index) ?? [];
        entries.push([guestCluster % l2Entries, mapping]);
        byIndex.set(index, entries);
      }
      return [...byIndex].map(([index, entries]) => {
        const key = `${index}:${entries.map(([slot, mapping]) => `${slot}=${idOf(mapping)}`).join()}`;
        let table = shared.get(key);
        if (!table) {
          table = { host: this.placeStructure(this.encodeL2(entries, entryBytes, viewIndex === 0)), users: 0 };
          shared.set(key, table);
        } else {
          this.refer(table.host / this.clusterSize, 1);
        }
        table.users++;
        return { index, table };
      });
    });
    const l1Offsets = viewTables.map((tables, viewIndex) => {
      const l1 = new DataView(new ArrayBuffer(l1Size * 8));
      for (const { index, table } of tables) {
        // Only the active table carries COPIED; a snapshot's L1 never does.
        l1.setBigUint64(index * 8, BigInt(table.host) | (viewIndex === 0 && table.users === 1 ? OFLAG_COPIED : 0n));
      }
      return this.placeStructure(new Uint8Array(l1.buffer));
    });
    const activeL2Offsets = Array.from(
      { length: l1Size },
      (_, index) => viewTables[0]?.find((entry) => entry.index === index)?.table.host ?? 0,
    );
    return { l1Offsets, l1Size, activeL2Offsets };
  }

  private encodeL2(entries: readonly [number, Mapping][], entryBytes: number, active: boolean): Uint8Array {
    const table = new DataView(new ArrayBuffer(this.clusterSize));
    for (const [slot, mapping] of entries) {
      const [word = 0n, bitmap = 0n] = this.entryWords(mapping, active);
      table.setBigUint64(slot * entryBytes, word);
      if (entryBytes === 16) {
        table.setBigUint64(slot * entryBytes + 8, bitmap);
      }
    }
    return new Uint8Array(table.buffer);
  }

  private buildSnapshotTable(l1Offsets: readonly number[], l1Size: number): number {
    if (this.snapshots.length === 0) {
      return 0;
    }
    const encoder = new TextEncoder();
    const entries = this.snapshots.map(({ snapshot }, index) => {
      const id = encoder.encode(snapshot?.id);
      const name = encoder.encode(snapshot?.name);
      const fixed = encode(SNAPSHOT_ENTRY, {
        l1_table_offset: l1Offsets[index] ?? 0,
        l1_size: l1Size,
        id_str_size: id.length,
        name_size: name.length,
        date_sec: snapshot?.dateSec ?? 0,
        vm_clock_nsec: BigInt(snapshot?.uptimeSec ?? 0) * 1_000_000_000n,
        extra_data_size: SNAPSHOT_EXTRA.length,
      });
      const extra = encode(SNAPSHOT_EXTRA, { disk_size: this.options.size, icount: 0xffffffffffffffffn });
      return concatenatePadded(8, fixed, extra, id, name);
    });
    return this.placeStructure(concatenate(entries));
  }

  private buildBitmaps(): { offset: number; size: number } {
    if (this.bitmaps.length === 0) {
      return { offset: 0, size: 0 };
    }
    const entries = this.bitmaps.map((info) => {
      const name = new TextEncoder().encode(info.name);
      const bits = this.bitmapBits(info);
      const tableEntries = Math.ceil(bits.length / this.clusterSize);
      const table = new DataView(new ArrayBuffer(tableEntries * 8));
      for (let index = 0; index < tableEntries; index++) {
        const part = bits.subarray(index * this.clusterSize, (index + 1) * this.clusterSize);
        table.setBigUint64(index * 8, part.some((byte) => byte !== 0) ? BigInt(this.placeStructure(part)) : 0n);
      }
      const fixed = encode(BITMAP_DIRECTORY_ENTRY, {
        bitmap_table_offset: this.placeStructure(new Uint8Array(table.buffer)),
        bitmap_table_size: tableEntries,
        flags: info.flags,
        type: 1,
        granularity_bits: info.granularityBits,
        name_size: name.length,
      });
      return concatenatePadded(8, fixed, name);
    });
    const directory = concatenate(entries);
    return { offset: this.placeStructure(directory), size: directory.length };
  }

  private bitmapBits(info: BitmapInfo): Uint8Array {
    const granularity = 2 ** info.granularityBits;
    const bits = new Uint8Array(Math.ceil(Math.ceil(this.options.size / granularity) / 8));
    for (const { offset, length } of info.dirty) {
      for (let bit = Math.floor(offset / granularity); bit * granularity < offset + length; bit++) {
        // Least significant bit first.
        bits[bit >> 3] = (bits[bit >> 3] ?? 0) | (1 << (bit & 7));
      }
    }
    return bits;
  }

  /** Refcount blocks count themselves and the table that names them, so their number is found by repetition. */
  private buildRefcounts(): { tableOffset: number; tableClusters: number; blockOffsets: number[] } {
    const order = this.options.refcountOrder ?? 4;
    const perBlock = (this.clusterSize * 8) / 2 ** order;
    const perTableCluster = this.clusterSize / 8;
    let blocks = 0;
    let tableClusters = 1;
    for (;;) {
      const clusters = this.nextCluster + blocks + tableClusters;
      const blocksNeeded = Math.ceil(clusters / perBlock);
      const tableNeeded = Math.ceil(blocksNeeded / perTableCluster);
      if (blocksNeeded === blocks && tableNeeded === tableClusters) {
        break;
      }
      blocks = blocksNeeded;
      tableClusters = tableNeeded;
    }
    const tableOffset = this.allocate(tableClusters);
    const blockOffsets = Array.from({ length: blocks }, () => this.allocate(1));
    for (let cluster = tableOffset / this.clusterSize; cluster < this.nextCluster; cluster++) {
      this.refer(cluster, 1);
    }
    const table = new DataView(new ArrayBuffer(tableClusters * this.clusterSize));
    blockOffsets.forEach((blockOffset, index) => {
      table.setBigUint64(index * 8, BigInt(blockOffset));
      this.place(blockOffset, this.encodeRefcountBlock(index * perBlock, perBlock, order));
    });
    this.place(tableOffset, new Uint8Array(table.buffer));
    return { tableOffset, tableClusters, blockOffsets };
  }

  private encodeRefcountBlock(firstCluster: number, count: number, order: number): Uint8Array {
    const block = new Uint8Array(this.clusterSize);
    const view = new DataView(block.buffer);
    for (let index = 0; index < count; index++) {
      const references = this.references.get(firstCluster + index) ?? 0;
      if (references === 0) {
        continue;
      }
      if (references > 2 ** Math.min(32, 2 ** order) - 1) {
        throw new RangeError(`${references} references do not fit refcounts of ${2 ** order} bits`);
      }
      switch (order) {
        case 6:
          view.setBigUint64(index * 8, BigInt(references));
          break;
        case 5:
          view.setUint32(index * 4, references);
          break;
        case 4:
          view.setUint16(index * 2, references);
          break;
        default: {
          // Below 16 bits refcounts are packed from the least significant bit of each byte.
          const bits = 2 ** order;
          const at = (index * bits) >> 3;
          block[at] = (block[at] ?? 0) | (references << ((index * bits) & 7));
        }
      }
    }
    return block;
  }

  private buildHeader(
    tables: { l1Offsets: readonly number[]; l1Size: number },
    snapshotTableOffset: number,
    bitmapDirectory: { offset: number; size: number },
    refcounts: { tableOffset: number; tableClusters: number },
  ): Uint8Array {
    const { options } = this;
    const { backing } = options;
    const encoder = new TextEncoder();
    const extensions: HeaderExtension[] = [];
    if (backing?.format) {
      extensions.push({ type: EXTENSION.backingFormat, data: encoder.encode(backing.format) });
    }
    if (this.bitmaps.length > 0) {
      extensions.push({
        type: EXTENSION.bitmaps,
        data: encode(BITMAPS_EXTENSION, {
          nb_bitmaps: this.bitmaps.length,
          bitmap_directory_size: bitmapDirectory.size,
          bitmap_directory_offset: bitmapDirectory.offset,
        }),
      });
    }
    const contents: HeaderContents = {
      fields: {
        magic: BigInt(QCOW2_MAGIC),
        version: BigInt(options.version ?? 3),
        cluster_bits: BigInt(options.clusterBits ?? 16),
        size: BigInt(options.size),
        crypt_method: 0n,
        l1_size: BigInt(tables.l1Size),
        l1_table_offset: BigInt(tables.l1Offsets[0] ?? 0),
        refcount_table_offset: BigInt(refcounts.tableOffset),
        refcount_table_clusters: BigInt(refcounts.tableClusters),
        nb_snapshots: BigInt(this.snapshots.length),
        snapshots_offset: BigInt(snapshotTableOffset),
        incompatible_features:
          (options.extendedL2 ? FEATURE.extendedL2 : 0n) | (options.compression === 'zstd' ? FEATURE.compressionType : 0n),
        compatible_features: options.lazyRefcounts ? COMPATIBLE.lazyRefcounts : 0n,
        autoclear_features: this.bitmaps.length > 0 ? AUTOCLEAR.bitmaps : 0n,
        refcount_order: BigInt(options.refcountOrder ?? 4),
        compression_type: options.compression === 'zstd' ? 1n : 0n,
      },
      unknownFields: new Uint8Array(0),
      extensions,
      backingName: backing ? encoder.encode(backing.name) : null,
    };
    return encodeHeader(contents, 'image');
  }
}

/** A compressed cluster occupies whole sectors; the last may be shared with the next. */
function compressedEnd(offset: number, length: number): number {
  return Math.ceil((offset + length) / SECTOR) * SECTOR;
}
