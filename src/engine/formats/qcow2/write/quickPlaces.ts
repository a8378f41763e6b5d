import { NotLoaded } from '../../../io/loading';
import type { Qcow2Metadata } from '../metadata';
import { LIMITS } from '../structures';
import type { Slice } from './slices';
import type { ActiveTables } from './tables';

const COPIED_HIGH = 0x80000000;
const KIND_HIGH = 0xc0000000;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
/** The largest cluster ends before 2^53; a place further on is the codec's to refuse. */
const MAX_HOST = 2 ** 53 - 2 ** LIMITS.maxClusterBits;

/** Not in the image: what lies below it supplies the bytes. */
export const NOT_HERE = -2;
/** More has to be looked at. */
const UNSURE = -1;

/** Places of ranges that lie in one cluster, as the most frequent kind of entry says them, with no object made on the way. */
export class QuickPlaces {
  private readonly tables: ActiveTables;
  private readonly clusterSize: number;
  private readonly l2Entries: number;
  private readonly hasDataFile: boolean;
  private readonly usable: boolean;

  /** @param plain the bytes in the file are the guest's */
  constructor(metadata: Qcow2Metadata, tables: ActiveTables, plain: boolean) {
    this.tables = tables;
    this.clusterSize = metadata.clusterSize;
    this.l2Entries = metadata.l2Entries;
    this.hasDataFile = metadata.hasDataFile;
    this.usable = plain && !metadata.extendedL2;
  }

  /**
   * @returns where the range can be read, `NOT_HERE`, or another negative number where more has to be looked at
   * @throws EngineError `file.io`
   */
  toRead(guestOffset: number, length: number): number {
    return this.at(guestOffset, length, false, true);
  }

  /** The same from what is in memory. */
  known(guestOffset: number, length: number): number {
    return this.at(guestOffset, length, false, false);
  }

  /**
   * @returns where the range can be written, in a cluster that is the guest's alone; negative where more has to be looked at
   * @throws EngineError `file.io`
   */
  toWrite(guestOffset: number, length: number): number {
    return this.at(guestOffset, length, true, true);
  }

  private at(guestOffset: number, length: number, own: boolean, reading: boolean): number {
    const { clusterSize, tables, l2Entries } = this;
    if (!this.usable) {
      return UNSURE;
    }
    const cluster = Math.floor(guestOffset / clusterSize);
    const within = guestOffset - cluster * clusterSize;
    const l1Index = Math.floor(cluster / l2Entries);
    const table = tables.tableOffset(l1Index);
    if (within + length > clusterSize || length === 0 || table % clusterSize !== 0 || (own && !tables.isCopied(l1Index))) {
      return UNSURE;
    }
    if (table === 0) {
      return NOT_HERE;
    }
    if (table >= MAX_HOST) {
      return UNSURE;
    }
    const entry = cluster - l1Index * l2Entries;
    const sliceOffset = table + Math.floor(entry / tables.entriesPerSlice) * tables.slices.pieceBytes;
    const slice = tables.slices.cached(sliceOffset) ?? (reading ? this.load(sliceOffset) : null);
    if (!slice) {
      return UNSURE;
    }
    const at = (entry % tables.entriesPerSlice) * 8;
    const high = slice.view.getUint32(at);
    const low = slice.view.getUint32(at + 4);
    if (high === 0 && low === 0) {
      return NOT_HERE;
    }
    const host = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
    const plain = (high & KIND_HIGH) >>> 0 === COPIED_HIGH || (!own && (high & KIND_HIGH) === 0);
    if (!plain || (low & 1) !== 0 || host === 0 || host % clusterSize !== 0 || (this.hasDataFile && host !== guestOffset - within)) {
      return UNSURE;
    }
    return host < MAX_HOST ? host + within : UNSURE;
  }

  private load(sliceOffset: number): Slice | null {
    try {
      return this.tables.slices.slice(sliceOffset);
    } catch (error) {
      if (!(error instanceof NotLoaded)) {
        throw error;
      }
      return null;
    }
  }
}
