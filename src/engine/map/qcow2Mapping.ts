import { invalidFormat, type EngineError } from '../errors';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import type { L1Location } from '../formats/qcow2/tables';
import { LIMITS } from '../formats/qcow2/structures';
import type { ByteSource } from '../io/source';
import type { Pace } from '../pace';
import type { LayerMapping } from './layerMapping';
import { seemsPreallocated } from './preallocation';
import { EntryBuffer, PagedTable } from './tableAccess';
import { UNIT, UNOWNED, type Window } from './window';

/** Upper halves of the entry's bits. */
const COMPRESSED_HIGH = 0x40000000;
const COPIED_HIGH = 0x80000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = ~0x1ff;
const ZERO_LOW = 1;
const HIGH = 2 ** 32;

/** Bytes of an L2 table laid over a window at a time. */
const CHUNK = 64 * 1024;

export interface Qcow2MappingOptions {
  readonly depth: number;
  readonly metadata: Qcow2Metadata;
  readonly dataFile: ByteSource | null;
  /** The active L1 table, or a snapshot's. */
  readonly l1: L1Location;
  /** Guest bytes. */
  readonly length: number;
  /** Shared by the layers of a walk: the same 64 KiB stay in the processor's cache. */
  readonly buffer: EntryBuffer;
}

/** The L2 tables of a qcow2 image over windows of the guest disk. */
export class Qcow2Mapping implements LayerMapping {
  readonly depth: number;
  readonly length: number;
  readonly clusterSize: number;
  readonly grain: number;
  readonly remainder = null;
  readonly dataSource: ByteSource | null;
  private readonly metadata: Qcow2Metadata;
  private readonly source: ByteSource;
  private readonly l1: PagedTable;
  private readonly entryBytes: number;
  private readonly l2Entries: number;
  private readonly coverage: number;
  private readonly version: number;
  private readonly hasDataFile: boolean;
  private readonly dataKind: number;
  /** Of encrypted images nothing is said of where zeroes have a cluster, either. */
  private readonly zeroAllocatedKind: number;
  private readonly compressedKind: number;
  private readonly buffer: EntryBuffer;
  /** Which piece of which table `buffer` holds, where it is this layer's own. */
  private loaded: { hostOffset: number; length: number } | null = null;
  private readonly ownsBuffer: boolean;
  private next = { from: 0, at: -1 };

  constructor({ depth, metadata, dataFile, l1, length, buffer }: Qcow2MappingOptions) {
    this.depth = depth;
    this.length = length;
    this.metadata = metadata;
    this.source = metadata.source;
    this.clusterSize = metadata.clusterSize;
    this.grain = metadata.extendedL2 ? metadata.clusterSize / LIMITS.subclustersPerCluster : metadata.clusterSize;
    this.dataSource = metadata.hasDataFile ? dataFile : metadata.source;
    this.l1 = new PagedTable(metadata.source, l1.hostOffset, Math.min(l1.entries, LIMITS.maxL1Bytes / 8), 'big');
    this.entryBytes = metadata.l2EntryBytes;
    this.l2Entries = metadata.l2Entries;
    this.coverage = metadata.l2Coverage;
    this.version = metadata.version;
    this.hasDataFile = metadata.hasDataFile;
    this.dataKind = metadata.cryptMethod === 0 ? UNIT.data : UNIT.encrypted;
    this.zeroAllocatedKind = metadata.cryptMethod === 0 ? UNIT.zeroAllocated : UNIT.zero;
    this.compressedKind = metadata.hasDataFile ? UNIT.invalid : metadata.cryptMethod === 0 ? UNIT.compressed : UNIT.encrypted;
    // Where clusters have subclusters a walk comes back to single entries; it finds them in the piece it has just read.
    this.ownsBuffer = metadata.extendedL2;
    this.buffer = this.ownsBuffer ? new EntryBuffer(Math.min(2 * CHUNK, metadata.clusterSize)) : buffer;
  }

  nextAllocated(guestOffset: number): number {
    const index = Math.floor(guestOffset / this.coverage);
    if (index < this.next.from || index > this.next.at) {
      this.next = { from: index, at: this.l1.nextUsed(index) };
    }
    return this.next.at * this.coverage;
  }

  fill(window: Window, bottom: boolean): number {
    const ratio = this.clusterSize / window.unit;
    const first = Math.floor(window.base / this.clusterSize);
    const end = Math.ceil((window.base + window.count * window.unit) / this.clusterSize);
    const perLoad = this.buffer.bytes.length / this.entryBytes;
    let owned = 0;
    for (let cluster = first; cluster < end;) {
      const l1Index = Math.floor(cluster / this.l2Entries);
      const inTable = cluster - l1Index * this.l2Entries;
      const tableOffset = this.tableAt(l1Index);
      const rest = Math.min(end - cluster, this.l2Entries - inTable);
      if (tableOffset === 0) {
        cluster += rest;
        continue;
      }
      // Unit of the window at which this cluster begins; negative where the window begins inside it.
      const at = (cluster * this.clusterSize - window.base) / window.unit;
      if (tableOffset % this.clusterSize !== 0) {
        owned += this.markInvalid(window, Math.max(0, at), Math.min(window.count, at + rest * ratio));
        cluster += rest;
        continue;
      }
      const count = Math.min(rest, perLoad);
      const loadedAt = this.load(tableOffset + inTable * this.entryBytes, count * this.entryBytes) / this.entryBytes;
      if (this.metadata.extendedL2) {
        owned += this.fillExtended(window, at, loadedAt, count, ratio, bottom);
      } else if (ratio === 1 && !this.hasDataFile) {
        owned += this.fillClusters(window, at, count);
      } else {
        owned += this.fillCoarse(window, at, count, ratio);
      }
      cluster += count;
    }
    return owned;
  }

  holesWithinData(pace: Pace): Promise<boolean> {
    return seemsPreallocated(this.metadata, pace);
  }

  invalidAt(guestOffset: number): EngineError {
    const cluster = Math.floor(guestOffset / this.clusterSize);
    const l1Index = Math.floor(cluster / this.l2Entries);
    const tableOffset = this.tableAt(l1Index);
    if (tableOffset % this.clusterSize !== 0) {
      return invalidFormat(
        this.source.name,
        'L1 table entry',
        this.l1.hostOffset + l1Index * 8,
        `The L2 table offset 0x${tableOffset.toString(16)} is not aligned to a cluster.`,
      );
    }
    const entryOffset = tableOffset + (cluster % this.l2Entries) * this.entryBytes;
    return invalidFormat(
      this.source.name,
      'L2 table entry',
      entryOffset,
      `The entry for guest offset 0x${(cluster * this.clusterSize).toString(16)} contradicts the format.`,
    );
  }

  /** Host offset of an L2 table; 0 when none is allocated. */
  private tableAt(l1Index: number): number {
    return (this.l1.high(l1Index) & OFFSET_HIGH) * HIGH + ((this.l1.low(l1Index) & OFFSET_LOW) >>> 0);
  }

  /** Brings a piece of a table into the buffer and returns where in the buffer it begins. */
  private load(hostOffset: number, length: number): number {
    const { loaded } = this;
    if (loaded && hostOffset >= loaded.hostOffset && hostOffset + length <= loaded.hostOffset + loaded.length) {
      return hostOffset - loaded.hostOffset;
    }
    this.loaded = this.ownsBuffer ? { hostOffset, length } : null;
    this.buffer.load(this.source, hostOffset, length);
    return 0;
  }

  /** One unit is one cluster: the common case, and the innermost loop of every map. */
  private fillClusters(window: Window, at: number, count: number): number {
    const { owner, kind, host } = window;
    const { words, view } = this.buffer;
    const mark = this.depth + 1;
    let owned = 0;
    for (let i = 0; i < count; i++) {
      // An entry that is -0 as a double (COPIED alone, or one reserved bit) maps nothing either, except in an external data file.
      if (words[i] !== 0 && owner[at + i] === UNOWNED) {
        const high = view.getUint32(i * 8);
        const low = view.getUint32(i * 8 + 4);
        const state = this.clusterKind(high, low, window.base + (at + i) * window.unit);
        if (state >= 0) {
          owner[at + i] = mark;
          kind[at + i] = state;
          host[at + i] = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
          owned++;
        }
      }
    }
    return owned;
  }

  /** A cluster covers one or several units. */
  private fillCoarse(window: Window, at: number, count: number, ratio: number): number {
    const { owner, kind, host } = window;
    const { halves, view } = this.buffer;
    const mark = this.depth + 1;
    let owned = 0;
    for (let i = 0; i < count; i++) {
      if ((halves[i * 2]! | halves[i * 2 + 1]!) === 0) {
        continue;
      }
      const high = view.getUint32(i * 8);
      const low = view.getUint32(i * 8 + 4);
      const start = at + i * ratio;
      const state = this.clusterKind(high, low, window.base + start * window.unit);
      if (state >= 0) {
        const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
        const end = Math.min(window.count, start + ratio);
        for (let unit = Math.max(0, start); unit < end; unit++) {
          if (owner[unit] === UNOWNED) {
            owner[unit] = mark;
            kind[unit] = state;
            host[unit] = offset + (unit - start) * window.unit;
            owned++;
          }
        }
      }
    }
    return owned;
  }

  /** The UNIT value of a standard L2 entry, -1 for an unallocated one. */
  private clusterKind(high: number, low: number, guestOffset: number): number {
    if ((high & COMPRESSED_HIGH) !== 0) {
      return this.compressedKind;
    }
    const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
    if ((low & ZERO_LOW) !== 0) {
      if (this.version < 3) {
        return UNIT.invalid;
      }
      return offset === 0 ? UNIT.zero : this.isUsable(offset, guestOffset) ? this.zeroAllocatedKind : UNIT.invalid;
    }
    if (offset === 0 && !this.isMappedToZero(high)) {
      return -1;
    }
    return this.isUsable(offset, guestOffset) ? this.dataKind : UNIT.invalid;
  }

  /** Offset 0 is the first cluster of an external data file when the COPIED flag stands beside it, and no cluster otherwise. */
  private isMappedToZero(high: number): boolean {
    return this.hasDataFile && (high & COPIED_HIGH) !== 0;
  }

  /** Aligned; in an external data file a cluster has the very place that it has on the guest disk. */
  private isUsable(offset: number, guestOffset: number): boolean {
    return this.hasDataFile ? offset === guestOffset : (offset & (this.clusterSize - 1)) === 0;
  }

  private fillExtended(window: Window, at: number, loadedAt: number, count: number, ratio: number, bottom: boolean): number {
    const { owner, kind, host, unit: unitSize } = window;
    const { halves, view } = this.buffer;
    const mark = this.depth + 1;
    const { subclustersPerCluster } = LIMITS;
    // A unit covers `width` subclusters, or a subcluster covers several units.
    const width = Math.max(1, unitSize / this.grain);
    const mask = width === 32 ? -1 : (1 << width) - 1;
    const perUnit = unitSize / this.grain;
    let owned = 0;
    for (let i = 0; i < count; i++) {
      const word = (loadedAt + i) * 4;
      if ((halves[word]! | halves[word + 1]! | halves[word + 2]! | halves[word + 3]!) === 0) {
        continue;
      }
      const high = view.getUint32(word * 4);
      const low = view.getUint32(word * 4 + 4);
      const zeroBits = view.getInt32(word * 4 + 8);
      const allocatedBits = view.getInt32(word * 4 + 12);
      const start = at + i * ratio;
      const end = Math.min(window.count, start + ratio);
      const whole = this.extendedKind(high, low, zeroBits, allocatedBits, window.base + start * unitSize);
      const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
      // A compressed cluster is one whole, also where it shows as encrypted.
      const mapped = (high & COMPRESSED_HIGH) === 0 && whole === this.dataKind;
      for (let unit = Math.max(0, start); unit < end; unit++) {
        if (owner[unit] !== UNOWNED) {
          continue;
        }
        let state: number = whole;
        if (mapped || whole === UNIT.zero) {
          const shift = Math.floor((unit - start) * perUnit) % subclustersPerCluster;
          const zero = (zeroBits >>> shift) & mask;
          const allocated = (allocatedBits >>> shift) & mask;
          if ((zero !== 0 && zero !== mask) || (allocated !== 0 && allocated !== mask)) {
            state = UNIT.split;
          } else if (zero !== 0) {
            state = mapped ? this.zeroAllocatedKind : UNIT.zero;
          } else if (allocated === 0) {
            if (!(whole === UNIT.data && bottom)) {
              continue;
            }
            state = UNIT.absentAllocated;
          }
        }
        owner[unit] = mark;
        kind[unit] = state;
        host[unit] = offset + (unit - start) * unitSize;
        owned++;
      }
    }
    return owned;
  }

  /** What an extended entry is as a whole: `data` or `zero` leave the decision to its subclusters. */
  private extendedKind(high: number, low: number, zeroBits: number, allocatedBits: number, guestOffset: number): number {
    if ((high & COMPRESSED_HIGH) !== 0) {
      return this.compressedKind;
    }
    const offset = (high & OFFSET_HIGH) * HIGH + ((low & OFFSET_LOW) >>> 0);
    if (offset === 0 && !this.isMappedToZero(high)) {
      return allocatedBits !== 0 ? UNIT.invalid : UNIT.zero;
    }
    return (zeroBits & allocatedBits) === 0 && this.isUsable(offset, guestOffset) ? this.dataKind : UNIT.invalid;
  }

  private markInvalid(window: Window, from: number, to: number): number {
    let owned = 0;
    for (let unit = from; unit < to; unit++) {
      if (window.owner[unit] === UNOWNED) {
        window.owner[unit] = this.depth + 1;
        window.kind[unit] = UNIT.invalid;
        owned++;
      }
    }
    return owned;
  }
}
