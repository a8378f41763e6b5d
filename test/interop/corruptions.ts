import * as fs from 'node:fs';
import type { Random } from './random';

/*
 * Random damage to qcow2 and QED images. Reads the tables by itself, with none of the engine's code: an image is bytes here.
 */

/** Damages an image in `count` places and says how, one line for each. */
export function corrupt(random: Random, path: string, format: 'qcow2' | 'qed', count: number): string[] {
  const fd = fs.openSync(path, 'r+');
  try {
    const image = format === 'qcow2' ? new Qcow2Bytes(fd) : new QedBytes(fd);
    const done: string[] = [];
    for (let i = 0; i < count; i++) {
      const what = image.damage(random);
      if (what !== null) {
        done.push(what);
      }
    }
    return done;
  } finally {
    fs.closeSync(fd);
  }
}

const OFFSET = 0x00fffffffffffe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

class Bytes {
  protected readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  get size(): number {
    return fs.fstatSync(this.fd).size;
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    if (offset >= 0 && offset < 2 ** 50) {
      fs.readSync(this.fd, bytes, 0, length, offset);
    }
    return bytes;
  }

  write(offset: number, bytes: Buffer): void {
    // Far away writes would only make the file enormous.
    if (offset >= 0 && offset < this.size) {
      fs.writeSync(this.fd, bytes, 0, Math.min(bytes.length, this.size - offset), offset);
    }
  }

  u32(offset: number): number {
    return this.read(offset, 4).readUInt32BE();
  }

  u64(offset: number): bigint {
    return this.read(offset, 8).readBigUInt64BE();
  }

  setU32(offset: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value >>> 0);
    this.write(offset, bytes);
  }

  setU64(offset: number, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
    this.write(offset, bytes);
  }

  flip(random: Random, offset: number, length: number): string {
    const at = offset + random.below(length);
    const bit = random.below(8);
    const byte = this.read(at, 1).readUInt8();
    this.write(at, Buffer.from([byte ^ (1 << bit)]));
    return `bit ${bit} of byte 0x${at.toString(16)}`;
  }

  /** Cuts the file or appends to it. */
  resize(random: Random, clusterSize: number): string {
    const { size } = this;
    const end = random.chance(0.6) ? Math.max(4096, size - random.below(clusterSize * 4)) : size + random.below(clusterSize * 3);
    fs.ftruncateSync(this.fd, end);
    return `file length ${size} -> ${end}`;
  }
}

interface Table {
  readonly name: string;
  readonly offset: number;
  readonly entries: number;
}

class Qcow2Bytes extends Bytes {
  private readonly clusterBits: number;
  private readonly clusterSize: number;
  private readonly refcountBits: number;
  private readonly l2EntryBytes: number;

  constructor(fd: number) {
    super(fd);
    this.clusterBits = this.u32(20);
    this.clusterSize = 2 ** this.clusterBits;
    const modern = this.u32(4) === 3;
    this.refcountBits = modern ? 2 ** this.u32(96) : 16;
    this.l2EntryBytes = modern && (this.u64(72) & 16n) !== 0n ? 16 : 8;
  }

  damage(random: Random): string | null {
    const kinds = [
      () => this.damageL2(random),
      () => this.damageL2(random),
      () => this.damageL2(random),
      () => this.damageL1(random),
      () => this.damageRefcount(random),
      () => this.damageRefcount(random),
      () => this.damageRefcountTable(random),
      () => this.damageSnapshots(random),
      () => this.damageBitmaps(random),
      () => this.damageHeader(random),
      () => `truncated: ${this.resize(random, this.clusterSize)}`,
    ];
    return random.pick(kinds)?.() ?? null;
  }

  private activeL1(): Table {
    return { name: 'active L1', offset: Number(this.u64(40)), entries: Math.min(this.u32(36), 65536) };
  }

  private snapshotEntries(): { offset: number; length: number; l1: Table }[] {
    const found = [];
    let at = Number(this.u64(64));
    for (let i = 0; i < Math.min(this.u32(60), 20) && at < this.size; i++) {
      const head = this.read(at, 40);
      const length = 40 + head.readUInt32BE(36) + head.readUInt16BE(12) + head.readUInt16BE(14);
      const l1 = { name: `snapshot ${i} L1`, offset: Number(head.readBigUInt64BE(0)), entries: Math.min(head.readUInt32BE(8), 65536) };
      found.push({ offset: at, length, l1 });
      at += Math.ceil(length / 8) * 8;
    }
    return found;
  }

  private anyL1(random: Random): Table {
    const snapshots = this.snapshotEntries();
    return random.chance(0.3) ? (random.pick(snapshots)?.l1 ?? this.activeL1()) : this.activeL1();
  }

  /** The position of an entry, preferring one that is used. */
  private anyEntry(random: Random, { offset, entries }: Table, width = 8): number | null {
    if (entries === 0) {
      return null;
    }
    const used = [];
    for (let i = 0; i < Math.min(entries, 4096); i++) {
      if (this.u64(offset + i * width) !== 0n) {
        used.push(i);
      }
    }
    const chosen = random.chance(0.85) ? (random.pick(used) ?? random.below(entries)) : random.below(entries);
    return offset + chosen * width;
  }

  private anyL2(random: Random): Table | null {
    const l1Entry = this.anyEntry(random, this.anyL1(random));
    if (l1Entry === null) {
      return null;
    }
    const offset = Number(this.u64(l1Entry) & OFFSET);
    return offset === 0 ? null : { name: `L2 table 0x${offset.toString(16)}`, offset, entries: this.clusterSize / this.l2EntryBytes };
  }

  /** An offset worth pointing to: a cluster in use, metadata, beside a cluster, past the end. */
  private anyTarget(random: Random): bigint {
    const clusters = Math.max(1, Math.ceil(this.size / this.clusterSize));
    const cluster = BigInt(random.below(clusters)) * BigInt(this.clusterSize);
    switch (random.below(8)) {
      case 0:
        return BigInt(random.pick([this.activeL1().offset, Number(this.u64(48)), Number(this.u64(64))]));
      case 1:
        return cluster + 512n * BigInt(random.below(Math.max(1, this.clusterSize / 512)));
      case 2:
        return BigInt(clusters + random.below(3)) * BigInt(this.clusterSize);
      case 3:
        return (BigInt(random.bits()) << 24n) & OFFSET;
      case 4: {
        const block = this.u64(Number(this.u64(48)));
        return block & ~0x1ffn & OFFSET;
      }
      default:
        return cluster;
    }
  }

  private damageL1(random: Random): string | null {
    const table = this.anyL1(random);
    const at = this.anyEntry(random, table);
    return at === null ? null : `${table.name}: ${this.damageEntry(random, at, table)}`;
  }

  private damageL2(random: Random): string | null {
    const table = this.anyL2(random);
    if (!table) {
      return null;
    }
    const at = this.anyEntry(random, table, this.l2EntryBytes) ?? table.offset;
    if (this.l2EntryBytes === 16 && random.chance(0.4)) {
      if (random.chance(0.5)) {
        return `${table.name} bitmap: ${this.flip(random, at + 8, 8)}`;
      }
      this.setU64(at + 8, (BigInt(random.bits()) << 32n) | BigInt(random.bits()));
      return `${table.name}: random bitmap at 0x${at.toString(16)}`;
    }
    return `${table.name}: ${this.damageEntry(random, at, table)}`;
  }

  private damageEntry(random: Random, at: number, table: Table): string {
    const where = `entry at 0x${at.toString(16)}`;
    const before = this.u64(at);
    switch (random.below(10)) {
      case 0:
        this.setU64(at, 0n);
        return `${where} wiped`;
      case 1: {
        const other = this.anyEntry(random, table, table.name.startsWith('L2') ? this.l2EntryBytes : 8) ?? at;
        this.setU64(at, this.u64(other));
        return `${where} copied from 0x${other.toString(16)}`;
      }
      case 2:
        this.setU64(at, before ^ COPIED);
        return `${where} COPIED flipped`;
      case 3: {
        const value = this.anyTarget(random) | (random.chance(0.7) ? COPIED : 0n);
        this.setU64(at, value);
        return `${where} set to 0x${value.toString(16)}`;
      }
      case 4: {
        const value = COMPRESSED | (BigInt(random.bits()) << 32n) | this.anyTarget(random) | BigInt(random.below(512));
        this.setU64(at, value);
        return `${where} compressed 0x${BigInt.asUintN(64, value).toString(16)}`;
      }
      case 5: {
        const x = 62n - BigInt(this.clusterBits - 8);
        const value =
          COMPRESSED |
          (BigInt(random.below(2 ** (this.clusterBits - 8))) << x) |
          (this.anyTarget(random) & ((1n << x) - 1n)) |
          BigInt(random.below(512));
        this.setU64(at, value);
        return `${where} compressed near 0x${BigInt.asUintN(64, value).toString(16)}`;
      }
      case 6:
        this.setU64(at, random.chance(0.5) ? before | 1n : 1n);
        return `${where} zero flag`;
      case 7: {
        const value = (BigInt(random.bits()) << 32n) | BigInt(random.bits());
        this.setU64(at, value);
        return `${where} random 0x${value.toString(16)}`;
      }
      default:
        return `${where}: ${this.flip(random, at, 8)}`;
    }
  }

  private damageRefcount(random: Random): string | null {
    const tableOffset = Number(this.u64(48));
    const entry = this.anyEntry(random, {
      name: 'refcount table',
      offset: tableOffset,
      entries: Math.min(2048, (this.u32(56) * this.clusterSize) / 8),
    });
    const block = entry === null ? 0 : Number(this.u64(entry) & ~0x1ffn);
    if (block === 0 || block >= this.size) {
      return null;
    }
    const clusters = Math.ceil(this.size / this.clusterSize);
    const usedBytes = Math.max(1, Math.min(this.clusterSize, Math.ceil((clusters * this.refcountBits) / 8)));
    const at = block + random.below(usedBytes);
    switch (random.below(4)) {
      case 0:
        this.write(at, Buffer.from([0]));
        return `refcount byte 0x${at.toString(16)} = 0`;
      case 1:
        this.write(at, Buffer.from([random.below(256)]));
        return `refcount byte 0x${at.toString(16)} random`;
      case 2: {
        const length = Math.min(random.between(1, 64), block + usedBytes - at);
        this.write(at, Buffer.alloc(length, random.pick([0, 0, 1, 255])));
        return `${length} refcount bytes at 0x${at.toString(16)} filled`;
      }
      default:
        return `refcount ${this.flip(random, at, 1)}`;
    }
  }

  private damageRefcountTable(random: Random): string | null {
    const offset = Number(this.u64(48));
    const entries = Math.min(2048, (this.u32(56) * this.clusterSize) / 8);
    const at = this.anyEntry(random, { name: 'refcount table', offset, entries });
    if (at === null) {
      return null;
    }
    const where = `refcount table entry at 0x${at.toString(16)}`;
    switch (random.below(6)) {
      case 0:
        this.setU64(at, 0n);
        return `${where} wiped`;
      case 1: {
        const value = this.anyTarget(random);
        this.setU64(at, value);
        return `${where} = 0x${value.toString(16)}`;
      }
      case 2: {
        const other = offset + random.below(Math.max(1, Math.min(entries, 4))) * 8;
        this.setU64(other, this.u64(at));
        return `${where} also at 0x${other.toString(16)}`;
      }
      case 3: {
        const value = (BigInt(random.bits()) << 32n) | BigInt(random.bits());
        this.setU64(at, value);
        return `${where} random 0x${value.toString(16)}`;
      }
      default:
        return `${where}: ${this.flip(random, at, 8)}`;
    }
  }

  private damageSnapshots(random: Random): string | null {
    const entry = random.pick(this.snapshotEntries());
    if (!entry) {
      return null;
    }
    switch (random.below(4)) {
      case 0:
        this.setU64(entry.offset, this.anyTarget(random));
        return 'snapshot L1 offset';
      case 1:
        this.setU32(entry.offset + 8, random.chance(0.5) ? random.below(64) : random.bits());
        return 'snapshot L1 size';
      case 2:
        this.setU32(entry.offset + 36, random.pick([0, 8, 16, 24, 32, 1024, 1025]));
        return 'snapshot extra data size';
      default:
        return `snapshot entry ${this.flip(random, entry.offset, entry.length)}`;
    }
  }

  private damageBitmaps(random: Random): string | null {
    const header = this.read(0, Math.min(this.clusterSize, 4096));
    const at = header.indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24]));
    if (at < 0) {
      return null;
    }
    const directory = Number(header.readBigUInt64BE(at + 24));
    const table = Number(this.u64(directory));
    switch (random.below(5)) {
      case 0:
        return `bitmaps extension ${this.flip(random, at + 8, 24)}`;
      case 1:
        return `bitmap directory ${this.flip(random, directory, Number(header.readBigUInt64BE(at + 16)) || 8)}`;
      case 2:
        // In use: QEMU opens the image without looking at the table.
        this.setU32(directory + 12, this.u32(directory + 12) | 1);
        return `bitmap in use; its table ${this.flip(random, table, Math.max(8, this.u32(directory + 8) * 8))}`;
      case 3:
        this.setU32(directory + 12, this.u32(directory + 12) | 1);
        this.setU64(table, this.anyTarget(random));
        return 'bitmap in use; its first entry';
      default:
        this.setU64(table, this.anyTarget(random));
        return 'first entry of a bitmap table';
    }
  }

  private damageHeader(random: Random): string {
    switch (random.below(9)) {
      case 0: {
        const size = this.u64(24);
        this.setU64(24, BigInt(random.below(Number(size) * 2 + 1)));
        return 'header size';
      }
      case 1:
        this.setU32(60, random.pick([0, 1, 2, 65536, 65537, this.u32(60) + 1]));
        return 'header nb_snapshots';
      case 2:
        this.setU64(64, this.anyTarget(random));
        return 'header snapshots_offset';
      case 3:
        this.setU32(56, random.pick([0, 1, 2, this.u32(56) + 1]));
        return 'header refcount_table_clusters';
      case 4:
        this.setU64(48, this.anyTarget(random));
        return 'header refcount_table_offset';
      case 5:
        this.setU32(36, this.u32(36) + random.between(0, 3));
        return 'header l1_size';
      case 6:
        this.setU64(40, this.anyTarget(random));
        return 'header l1_table_offset';
      case 7:
        if (this.u32(4) === 3) {
          this.setU64(88, this.u64(88) ^ 1n);
        }
        return 'header autoclear bitmaps bit';
      default:
        return `header ${this.flip(random, 8, this.u32(4) === 3 ? 104 : 64)}`;
    }
  }
}

class QedBytes extends Bytes {
  private readonly clusterSize: number;
  private readonly tableBytes: number;

  constructor(fd: number) {
    super(fd);
    const header = this.read(0, 64);
    this.clusterSize = header.readUInt32LE(4);
    this.tableBytes = header.readUInt32LE(8) * this.clusterSize;
  }

  damage(random: Random): string | null {
    switch (random.below(10)) {
      case 0:
        return `truncated: ${this.resize(random, this.clusterSize)}`;
      case 1:
        return `header ${this.flip(random, 8, 56)}`;
      case 2:
      case 3:
        return `L1: ${this.damageEntry(random, Number(this.read(40, 8).readBigUInt64LE()))}`;
      default: {
        const l1 = Number(this.read(40, 8).readBigUInt64LE());
        const used = [];
        for (let i = 0; i < Math.min(512, this.tableBytes / 8); i++) {
          const offset = Number(this.read(l1 + i * 8, 8).readBigUInt64LE());
          if (offset !== 0) {
            used.push(offset);
          }
        }
        const table = random.pick(used);
        return table === undefined ? null : `L2: ${this.damageEntry(random, table)}`;
      }
    }
  }

  private damageEntry(random: Random, table: number): string {
    const bytes = this.read(table, this.tableBytes);
    const used = [];
    for (let i = 0; i < bytes.length / 8; i++) {
      if (bytes.readBigUInt64LE(i * 8) > 1n) {
        used.push(i);
      }
    }
    const index = random.chance(0.8) ? (random.pick(used) ?? 0) : random.below(bytes.length / 8);
    const at = table + index * 8;
    const set = (value: bigint): string => {
      const word = Buffer.alloc(8);
      word.writeBigUInt64LE(BigInt.asUintN(64, value));
      this.write(at, word);
      return `entry at 0x${at.toString(16)} = 0x${value.toString(16)}`;
    };
    const clusters = Math.ceil(this.size / this.clusterSize);
    switch (random.below(7)) {
      case 0:
        return set(0n);
      case 1:
        return set(1n);
      case 2:
        return set(BigInt(random.below(clusters + 2)) * BigInt(this.clusterSize));
      case 3:
        return set(BigInt(random.below(this.size)));
      case 4:
        return set((BigInt(random.bits()) << 32n) | BigInt(random.bits()));
      case 5:
        return set(bytes.readBigUInt64LE((random.pick(used) ?? 0) * 8));
      default:
        return `entry: ${this.flip(random, at, 8)}`;
    }
  }
}
