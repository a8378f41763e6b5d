import { EngineError } from '../errors';
import type { QedMetadata } from '../formats/qed/metadata';
import type { Storage } from '../io/storage';
import { Pace, type PaceOptions } from '../pace';
import { readInto } from './padded';
import { checkQed } from './qedCheck';

export interface QedRepair {
  /** Whether nothing is wrong any more but leaked clusters; those stay. */
  readonly clean: boolean;
  /** Entries that led to no cluster of the file and are empty now. */
  readonly cleared: number;
  /** Corruptions that are left: clusters with more than one user. */
  readonly corruptions: number;
}

const PIECE = 64 * 1024;
const ENTRY_BYTES = 8;
const ZERO_CLUSTER = 1;

/**
 * Empties the entries of an image's tables that lead to no cluster of the file, as QEMU does when it opens an image for writing that needs
 * a check: the write that made them had not ended. Everything is on the disk at the end; the mark in the header is the caller's.
 * @throws EngineError `format.invalid`, `format.unsupported`, `file.io`, `cancelled`
 */
export async function repairQed(storage: Storage, metadata: QedMetadata, options: PaceOptions = {}): Promise<QedRepair> {
  const before = await corruptionsOf(metadata, options);
  if (before === 0) {
    return { clean: true, cleared: 0, corruptions: 0 };
  }
  const cleared = await new Repair(storage, metadata, new Pace(options)).run();
  await storage.flush();
  const corruptions = cleared === 0 ? before : await corruptionsOf(metadata, options);
  return { clean: corruptions === 0, cleared, corruptions };
}

async function corruptionsOf(metadata: QedMetadata, options: PaceOptions): Promise<number> {
  const { counts, failure } = await checkQed(metadata, { ...options, deep: false, maxFindings: 1 });
  if (failure !== null) {
    const file = metadata.source.name;
    throw new EngineError('file.io', `${file}: The tables cannot be checked: ${failure}`, { file });
  }
  return counts.corruptions;
}

class Repair {
  private readonly storage: Storage;
  private readonly metadata: QedMetadata;
  private readonly pace: Pace;
  private readonly fileEnd: number;
  private cleared = 0;
  private seen = 0;

  constructor(storage: Storage, metadata: QedMetadata, pace: Pace) {
    this.storage = storage;
    this.metadata = metadata;
    this.pace = pace;
    this.fileEnd = Math.floor(storage.size / metadata.clusterSize) * metadata.clusterSize;
  }

  async run(): Promise<number> {
    const { l1TableOffset, tableBytes, clusterSize } = this.metadata;
    const tables: number[] = [];
    await this.clear(l1TableOffset, (offset) => {
      const valid = this.isCluster(offset) && this.isCluster(offset + tableBytes - clusterSize);
      if (valid) {
        tables.push(offset);
      }
      return offset === 0 || valid;
    });
    // What two tables share may be anything; it is not touched.
    const all = [...tables, l1TableOffset].sort((a, b) => a - b);
    for (let i = 0; i < all.length; i++) {
      const table = all[i]!;
      const separate = (all[i - 1] ?? -Infinity) + tableBytes <= table && table + tableBytes <= (all[i + 1] ?? Infinity);
      if (separate && table !== l1TableOffset) {
        await this.clear(table, (offset) => offset <= ZERO_CLUSTER || this.isCluster(offset));
      }
    }
    return this.cleared;
  }

  private async clear(table: number, keep: (offset: number) => boolean): Promise<void> {
    const { tableBytes } = this.metadata;
    const piece = new Uint8Array(Math.min(PIECE, tableBytes));
    const view = new DataView(piece.buffer);
    for (let at = 0; at < tableBytes; at += piece.length) {
      readInto(this.storage, piece, table + at);
      let first = -1;
      let last = 0;
      for (let i = 0; i < piece.length; i += ENTRY_BYTES) {
        const offset = view.getUint32(i + 4, true) * 2 ** 32 + view.getUint32(i, true);
        if (!keep(offset)) {
          view.setBigUint64(i, 0n);
          first = first < 0 ? i : first;
          last = i + ENTRY_BYTES;
          this.cleared++;
        }
      }
      if (first >= 0) {
        await this.storage.write(piece.slice(first, last), table + at + first);
      }
      this.seen += piece.length;
      if (this.pace.due()) {
        await this.pace.turn(this.seen, this.storage.size);
      }
    }
  }

  private isCluster(offset: number): boolean {
    const { clusterSize, headerBytes } = this.metadata;
    return offset % clusterSize === 0 && offset >= headerBytes && offset < this.fileEnd;
  }
}
