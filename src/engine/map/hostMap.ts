import type { Layer } from '../chain/layer';
import type { Pace } from '../pace';
import { ClassArray, type ClassSink, type ClassSource } from './classSource';
import type { EntryCounter } from './entryCounter';
import { HOST, HOST_CLASSES } from './hostClass';
import { hostFileOf, type HostFile } from './hostFile';
import { l2Batches, type L2Batch } from './l2Batches';
import { MOST_CLUSTERS } from './picture';
import { ReferenceCounts } from './referenceCounts';
import { TableReader } from './tableReader';

/** Refcounts compared with references at a time. */
const STEP = 64 * 1024;
/** Blocks of final classes that a large map keeps. */
const KEPT_BLOCKS = 2;

/** How much is looked at in one scan. */
export interface HostMapLimits {
  /** A file of up to so many clusters is looked at whole. */
  readonly whole: number;
  /** Clusters of a block otherwise; tiles of a curve lie inside one. */
  readonly block: number;
}

const LIMITS: HostMapLimits = { whole: MOST_CLUSTERS, block: 2 ** 24 };

/**
 * What every cluster of an image file is spent on: one scan over its tables counts what references which cluster, and the refcounts on
 * disk say whether that is right. A file of very many clusters is looked at block by block, each in a scan of its own, so
 * that memory stays bounded; a table that names nothing in a block is read once only.
 */
export class HostMap implements ClassSource {
  readonly classes = HOST_CLASSES;
  readonly clusters: number;
  readonly clusterSize: number;
  readonly length: number;
  private readonly limits: HostMapLimits;
  private readonly file: HostFile;
  private readonly blocks = new Map<number, Uint8Array<ArrayBuffer>>();
  /** All L2 tables, once it is known that they are one batch. */
  private tables: L2Batch | null = null;
  /** Blocks are made one after the other: each needs tens of MiB. */
  private lastBlock: Promise<unknown> = Promise.resolve();

  /** @throws EngineError `request.invalid` for formats without clusters */
  constructor(layer: Layer, limits = LIMITS) {
    this.limits = limits;
    this.file = hostFileOf(layer);
    this.clusterSize = this.file.clusterSize;
    this.length = this.file.source.size;
    this.clusters = Math.ceil(this.length / this.clusterSize);
  }

  async scan(from: number, to: number, sink: ClassSink, pace: Pace): Promise<void> {
    if (this.clusters <= this.limits.whole) {
      // Whoever asks for a small map keeps it.
      const references = await this.countReferences(0, this.clusters, pace);
      await this.resolve(references, from, to, sink, pace);
      return;
    }
    for (let at = from; at < to;) {
      const index = Math.floor(at / this.limits.block);
      const first = index * this.limits.block;
      const end = Math.min(to, first + this.limits.block);
      const values = await this.block(index, pace);
      if (values) {
        sink.classes(at, values.subarray(at - first, end - first), end - at);
      } else {
        sink.fill(at, end - at, HOST.free);
      }
      at = end;
      if (pace.due()) {
        await pace.turn(at - from, to - from);
      }
    }
  }

  describe(cluster: number): Promise<string> {
    return Promise.resolve(`Host cluster ${cluster}, offset 0x${(cluster * this.clusterSize).toString(16)}`);
  }

  /** Classes of a block's clusters; null when nothing in it is in use. */
  private block(index: number, pace: Pace): Promise<Uint8Array | null> {
    const block = this.lastBlock.then(async () => {
      const known = this.blocks.get(index);
      this.blocks.delete(index);
      pace.throwIfCancelled();
      const values = known ?? (await this.makeBlock(index, pace));
      if (values) {
        this.keep(index, values);
      }
      return values;
    });
    this.lastBlock = block.catch(() => undefined);
    return block;
  }

  private keep(index: number, values: Uint8Array<ArrayBuffer>): void {
    this.blocks.set(index, values);
    const [oldest] = this.blocks.keys();
    if (this.blocks.size > KEPT_BLOCKS && oldest !== undefined) {
      this.blocks.delete(oldest);
    }
  }

  private async makeBlock(index: number, pace: Pace): Promise<Uint8Array<ArrayBuffer> | null> {
    const first = index * this.limits.block;
    const length = Math.min(this.limits.block, this.clusters - first);
    const references = await this.countReferences(first, length, pace);
    if (!references.touched && this.file.isFree(first, length)) {
      return null;
    }
    const values = new Uint8Array(length);
    await this.resolve(references, first, first + length, new ClassArray(first, values), pace);
    return values;
  }

  private async countReferences(first: number, length: number, pace: Pace): Promise<ReferenceCounts> {
    const { file } = this;
    const references = new ReferenceCounts(first, length);
    await file.countMetadata(references, pace);
    if (this.tables) {
      await this.countTables(this.tables, references, pace);
      return references;
    }
    let batches = 0;
    let only: L2Batch | null = null;
    for await (const batch of l2Batches(file.source, file.l1Tables, file, pace)) {
      await this.countTables(batch, references, pace);
      only = batches++ === 0 ? batch : null;
    }
    this.tables = only;
    return references;
  }

  private async countTables({ offsets, weights, lowest, highest }: L2Batch, references: ReferenceCounts, pace: Pace): Promise<void> {
    const { file, clusterSize } = this;
    const { tableBytes } = file;
    const reader = new TableReader(file.source, tableBytes);
    const counter: EntryCounter = { references, clusterSize, weight: 1, lowest: Infinity, highest: -1 };
    const end = references.first + references.length;
    for (let table = 0, inTable = 0; table < offsets.length;) {
      if (inTable === 0 && lowest[table]! >= 0 && (lowest[table]! >= end || highest[table]! < references.first)) {
        references.addBytes(offsets[table]!, tableBytes, clusterSize, HOST.l2, weights[table]);
        table++;
        continue;
      }
      for (const piece of reader.read(offsets, table, inTable)) {
        table = piece.table;
        if (piece.inTable === 0) {
          references.addBytes(offsets[table]!, tableBytes, clusterSize, HOST.l2, weights[table]);
        }
        counter.weight = weights[table]!;
        file.countEntries(reader.buffer, piece.at, piece.length, counter);
        inTable = piece.inTable + piece.length;
        if (inTable === tableBytes) {
          lowest[table] = counter.lowest;
          highest[table] = counter.highest;
          counter.lowest = Infinity;
          counter.highest = -1;
          inTable = 0;
          table++;
        }
      }
      if (pace.due()) {
        await pace.turn(references.first + (references.length * table) / offsets.length, this.clusters);
      }
    }
  }

  /** Compares references with refcounts. */
  private async resolve(references: ReferenceCounts, from: number, to: number, sink: ClassSink, pace: Pace): Promise<void> {
    const { refcounts } = this.file;
    const values = new Uint8Array(STEP);
    const counts = new Uint16Array(STEP);
    for (let at = from; at < to; at += STEP) {
      const count = Math.min(STEP, to - at);
      refcounts?.read(at, counts.subarray(0, count));
      references.resolve(at, refcounts ? counts : null, values, count);
      sink.classes(at, values, count);
      if (pace.due()) {
        await pace.turn(at, this.clusters);
      }
    }
  }
}
