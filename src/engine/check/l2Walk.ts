import { EngineError } from '../errors';
import type { CheckPace } from './checkPace';
import { L2TableSet } from './l2Tables';
import { MAX_FILE_LENGTH, type CheckedImage } from './opening';
import { readInto } from './padded';
import { BUFFER_BYTES } from './scanLoops';

/** An L1 table to walk: the active one or that of an internal snapshot. */
export interface L1View {
  /** Index in the snapshot table, or `ACTIVE`. */
  readonly snapshot: number;
  readonly hostOffset: number;
  readonly entries: number;
}

/** What a walk meets. */
export interface L2Visitor {
  /** An L1 entry that is not zero; called in the first walk, and in later ones only where the tables do not fit one set. */
  l1Entry?(view: L1View, index: number, high: number, low: number): void;
  /** All L1 entries of a set were met; its tables come next. */
  tables?(set: L2TableSet): void;
  /** Whether the table need not be read. */
  skips?(set: L2TableSet, table: number): boolean;
  /** `count` words of 8 bytes of a table stand in the buffer from byte `at` on; the first of them is word `firstWord` of the table. */
  words(set: L2TableSet, table: number, at: number, count: number, firstWord: number): void | Promise<void>;
  unreadable(structure: 'L1 table' | 'L2 table', hostOffset: number, length: number, view: L1View | null): void;
}

/** Bytes of an L1 table that are read at once. */
const L1_PIECE = 64 * 1024;

const OFFSET_HIGH = 0x00ffffff;

/**
 * Goes over the L1 tables of an image and reads every L2 table once, however many L1 entries refer to it, in the order of the file. May
 * be walked several times; the set of tables is kept where it holds all of them.
 */
export class L2Walk {
  private readonly image: CheckedImage;
  private readonly views: readonly L1View[];
  private readonly buffer: Uint8Array;
  private readonly pace: CheckPace;
  private readonly set: L2TableSet;
  private readonly piece = new Uint8Array(L1_PIECE);
  /** Whether `set` holds all tables of all views. */
  private complete = false;
  private order: Uint32Array = new Uint32Array(0);

  constructor(image: CheckedImage, views: readonly L1View[], buffer: Uint8Array, pace: CheckPace) {
    this.image = image;
    this.views = views;
    this.buffer = buffer;
    this.pace = pace;
    this.set = new L2TableSet(views.reduce((sum, { entries }) => sum + entries, 0));
  }

  /** Whether all tables are in one set, so that what a visitor notes in it lasts. */
  get inOneSet(): boolean {
    return this.complete;
  }

  /** The next walk meets the L1 entries again. */
  startOver(): void {
    this.complete = false;
  }

  /** @throws EngineError `cancelled` */
  async walk(visitor: L2Visitor): Promise<void> {
    if (this.complete) {
      visitor.tables?.(this.set);
      await this.readTables(visitor);
      return;
    }
    const { set } = this;
    const { clusterSize } = this.image;
    set.clear();
    let sets = 0;
    const flush = async (): Promise<void> => {
      sets++;
      this.order = set.inFileOrder();
      this.pace.expect(sets * set.length * clusterSize);
      visitor.tables?.(set);
      await this.readTables(visitor);
    };
    for (const view of this.views) {
      for (let first = 0; first < view.entries; first += L1_PIECE / 8) {
        const count = Math.min(L1_PIECE / 8, view.entries - first);
        if (!this.readL1(visitor, view, first, count)) {
          continue;
        }
        const data = new DataView(this.piece.buffer);
        for (let i = 0; i < count; i++) {
          const high = data.getUint32(i * 8);
          const low = data.getUint32(i * 8 + 4);
          if ((high | low) === 0) {
            continue;
          }
          if (set.full) {
            await flush();
            set.clear();
          }
          visitor.l1Entry?.(view, first + i, high, low);
          set.add((high & OFFSET_HIGH) * 2 ** 32 + ((low & ~0x1ff) >>> 0), view.snapshot, first + i, high >>> 31 !== 0);
        }
        if (this.pace.due()) {
          await this.pace.turn();
        }
      }
    }
    this.complete = sets === 0;
    await flush();
  }

  private readL1(visitor: L2Visitor, view: L1View, first: number, count: number): boolean {
    const offset = view.hostOffset + first * 8;
    if (Math.max(offset, offset + count * 8 - 1) >= Number(MAX_FILE_LENGTH)) {
      visitor.unreadable('L1 table', offset, count * 8, view);
      return false;
    }
    try {
      readInto(this.image.metadata.source, this.piece.subarray(0, count * 8), offset);
      return true;
    } catch (error) {
      passOnUnlessIo(error);
      visitor.unreadable('L1 table', offset, count * 8, view);
      return false;
    }
  }

  private async readTables(visitor: L2Visitor): Promise<void> {
    const { set, buffer, order, pace } = this;
    const { metadata, clusterSize } = this.image;
    for (let i = 0; i < order.length;) {
      const table = order[i] ?? 0;
      const offset = set.hostOffset[table] ?? 0;
      if (visitor.skips?.(set, table)) {
        pace.done(clusterSize);
        i++;
        continue;
      }
      // Neighbours in the file are read together.
      let run = 1;
      while (
        (run + 1) * clusterSize <= BUFFER_BYTES &&
        i + run < order.length &&
        set.hostOffset[order[i + run] ?? 0] === offset + run * clusterSize &&
        !visitor.skips?.(set, order[i + run] ?? 0)
      ) {
        run++;
      }
      for (let done = 0; done < run * clusterSize; done += BUFFER_BYTES) {
        const target = buffer.subarray(0, Math.min(BUFFER_BYTES, run * clusterSize - done));
        try {
          readInto(metadata.source, target, offset + done);
        } catch (error) {
          passOnUnlessIo(error);
          visitor.unreadable('L2 table', offset + done, target.length, null);
          continue;
        }
        if (run === 1) {
          const more = visitor.words(set, table, 0, target.length / 8, done / 8);
          if (more) {
            await more;
          }
        } else {
          for (let k = 0; k < run; k++) {
            const more = visitor.words(set, order[i + k] ?? 0, k * clusterSize, clusterSize / 8, 0);
            if (more) {
              await more;
            }
          }
        }
        pace.done(target.length);
        if (pace.due()) {
          await pace.turn();
        }
      }
      i += run;
    }
  }
}

function passOnUnlessIo(error: unknown): void {
  if (!(error instanceof EngineError && error.code === 'file.io')) {
    throw error;
  }
}
