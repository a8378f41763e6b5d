import { invalidFormat, type EngineError } from '../errors';
import type { QedMetadata } from '../formats/qed/metadata';
import type { ByteSource } from '../io/source';
import type { LayerMapping } from './layerMapping';
import { PagedTable, type EntryBuffer } from './tableAccess';
import { UNIT, UNOWNED, type Window } from './window';

const HIGH = 2 ** 32;
const ZERO_CLUSTER = 1;

/** The L2 tables of a QED image over windows of the guest disk. */
export class QedMapping implements LayerMapping {
  readonly depth: number;
  readonly length: number;
  readonly clusterSize: number;
  readonly grain: number;
  readonly remainder = null;
  readonly dataSource: ByteSource;
  private readonly metadata: QedMetadata;
  private readonly l1: PagedTable;
  private readonly buffer: EntryBuffer;
  /** Host offsets that entries may hold begin and end here. */
  private readonly firstHostOffset: number;
  private readonly endHostOffset: number;
  private next = { from: 0, at: -1 };

  constructor(depth: number, metadata: QedMetadata, length: number, buffer: EntryBuffer) {
    this.depth = depth;
    this.length = length;
    this.metadata = metadata;
    this.buffer = buffer;
    this.clusterSize = metadata.clusterSize;
    this.grain = metadata.clusterSize;
    this.dataSource = metadata.source;
    this.l1 = new PagedTable(metadata.source, metadata.l1TableOffset, metadata.tableEntries, 'little');
    this.firstHostOffset = metadata.headerBytes;
    this.endHostOffset = metadata.source.size - (metadata.source.size % metadata.clusterSize);
  }

  nextAllocated(guestOffset: number): number {
    const index = Math.floor(guestOffset / this.metadata.l2Coverage);
    if (index < this.next.from || index > this.next.at) {
      this.next = { from: index, at: this.l1.nextUsed(index) };
    }
    return this.next.at * this.metadata.l2Coverage;
  }

  fill(window: Window): number {
    const { tableEntries, source } = this.metadata;
    const ratio = this.clusterSize / window.unit;
    const first = Math.floor(window.base / this.clusterSize);
    const end = Math.ceil((window.base + window.count * window.unit) / this.clusterSize);
    const perLoad = this.buffer.bytes.length / 8;
    let owned = 0;
    for (let cluster = first; cluster < end;) {
      const l1Index = Math.floor(cluster / tableEntries);
      const inTable = cluster - l1Index * tableEntries;
      const tableOffset = this.tableAt(l1Index);
      const count = Math.min(end - cluster, tableEntries - inTable, perLoad);
      if (tableOffset !== 0) {
        const usable = this.isTableUsable(tableOffset);
        if (usable) {
          this.buffer.load(source, tableOffset + inTable * 8, count * 8);
        }
        owned += this.fillClusters(window, (cluster * this.clusterSize - window.base) / window.unit, count, ratio, usable);
      }
      cluster += count;
    }
    return owned;
  }

  holesWithinData(): Promise<boolean> {
    return Promise.resolve(false);
  }

  invalidAt(guestOffset: number): EngineError {
    const cluster = Math.floor(guestOffset / this.clusterSize);
    const l1Index = Math.floor(cluster / this.metadata.tableEntries);
    const tableOffset = this.tableAt(l1Index);
    const usable = this.isTableUsable(tableOffset);
    return invalidFormat(
      this.metadata.source.name,
      usable ? 'L2 table entry' : 'L1 table entry',
      usable ? tableOffset + (cluster % this.metadata.tableEntries) * 8 : this.l1.hostOffset + l1Index * 8,
      `The entry for guest offset 0x${(cluster * this.clusterSize).toString(16)} is not a valid cluster offset.`,
    );
  }

  private fillClusters(window: Window, at: number, count: number, ratio: number, usable: boolean): number {
    const { owner, kind, host } = window;
    const { halves, view } = this.buffer;
    const mark = this.depth + 1;
    let owned = 0;
    let expected = -1;
    for (let i = 0; i < count; i++) {
      let state: number = UNIT.invalid;
      let offset = 0;
      if (usable) {
        if ((halves[i * 2]! | halves[i * 2 + 1]!) === 0) {
          continue;
        }
        offset = view.getUint32(i * 8 + 4, true) * HIGH + view.getUint32(i * 8, true);
        if (offset === ZERO_CLUSTER) {
          state = UNIT.zero;
        } else if (offset === expected || this.isOffsetUsable(offset)) {
          // QEMU looks at the first offset of a contiguous run only.
          state = UNIT.data;
          expected = offset + this.clusterSize;
        }
      }
      const start = at + i * ratio;
      const end = Math.min(window.count, start + ratio);
      for (let unit = Math.max(0, start); unit < end; unit++) {
        if (owner[unit] === UNOWNED) {
          owner[unit] = mark;
          kind[unit] = state;
          host[unit] = offset + (unit - start) * window.unit;
          owned++;
        } else {
          expected = -1;
        }
      }
    }
    return owned;
  }

  /** Host offset of an L2 table; 0 when none is allocated. */
  private tableAt(l1Index: number): number {
    return this.l1.high(l1Index) * HIGH + this.l1.low(l1Index);
  }

  private isTableUsable(offset: number): boolean {
    return this.isOffsetUsable(offset) && this.isOffsetUsable(offset + this.metadata.tableBytes - this.clusterSize);
  }

  private isOffsetUsable(offset: number): boolean {
    return offset % this.clusterSize === 0 && offset >= this.firstHostOffset && offset < this.endHostOffset;
  }
}
