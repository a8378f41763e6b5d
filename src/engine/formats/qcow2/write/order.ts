import { corruptImage, type EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import type { HeaderFields } from './headerFields';
import type { Refcounts } from './refcounts';
import { REGION, regionTitle, type Regions } from './regions';
import type { SliceWrite } from './slices';
import { load, run, Turn, wait, type Steps } from './steps';
import type { ActiveTables } from './tables';

/** What is to be written, and where. */
interface Place {
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

interface Freed {
  readonly hostOffset: number;
  readonly length: number;
  readonly punch: boolean;
  /** The `REGION` bit of a table that lay there; 0 for others. */
  readonly region: number;
}

/**
 * The order in which metadata reaches the disk, all of it in one place. A request only changes tables in memory, and writes data and new
 * tables to clusters that nothing on the disk leads to. A commit then writes, with a flush of the disk between:
 *
 * 1. refcounts (they only ever count more than the disk's entries need, see 4), beside the data and new tables that are written already;
 * 2. refcount table entries, which lead to new refcount blocks;
 * 3. L2 and L1 entries: all that they lead to is counted and on the disk now;
 * 4. in memory, the refcounts of what those entries led to before: nothing on the disk leads there any more, so it may be counted less
 *    in the next step 1, and taken by anyone at once.
 *
 * After a crash at any point entries lead to clusters that are counted and hold what was written; some clusters may be counted too often.
 */
export class MetadataOrder {
  private readonly storage: Storage;
  private readonly dataFile: Storage | null;
  private readonly header: HeaderFields;
  private readonly refcounts: Refcounts;
  private readonly tables: ActiveTables;
  private readonly regions: Regions;
  private readonly clusterSize: number;
  private readonly turn = new Turn();
  private frees: Freed[] = [];
  /** Refcounts may lag behind: the header says so. */
  lazy = false;
  /** Why nothing is written any more; null while all is well. */
  stopped: EngineError | null = null;
  private running: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  constructor(parts: {
    readonly storage: Storage;
    readonly dataFile: Storage | null;
    readonly header: HeaderFields;
    readonly refcounts: Refcounts;
    readonly tables: ActiveTables;
    readonly regions: Regions;
    readonly clusterSize: number;
  }) {
    this.storage = parts.storage;
    this.dataFile = parts.dataFile;
    this.header = parts.header;
    this.refcounts = parts.refcounts;
    this.tables = parts.tables;
    this.regions = parts.regions;
    this.clusterSize = parts.clusterSize;
  }

  /**
   * One reference to each cluster of a range goes, when the entry that held it is gone from the disk.
   * @param punch gives the clusters back to the file system, where nothing else uses them
   * @param region the `REGION` bit of a table that lay there
   */
  free(hostOffset: number, length: number, punch = false, region = 0): void {
    const last = this.frees.at(-1);
    const follows = last !== undefined && last.hostOffset + last.length === hostOffset && hostOffset % this.clusterSize === 0;
    if (follows && last.punch === punch && last.region === region) {
      this.frees[this.frees.length - 1] = { ...last, length: last.length + length };
    } else {
      this.frees.push({ hostOffset, length, punch, region });
    }
  }

  /** More should be written before more is changed. */
  get full(): boolean {
    return this.tables.slices.full || this.refcounts.slices.full || this.frees.length > 65536;
  }

  /** Writes what is in memory when so much is that the caches cannot hold more. */
  *makeRoom(): Steps<void> {
    if (this.full) {
      yield this.commit();
    }
  }

  /** Ends when everything that was changed before the call is on the disk. */
  commit(): Promise<void> {
    if (!this.running) {
      return this.start();
    }
    // The running one may have begun before the caller's changes; one more serves all who wait for it.
    this.next ??= this.running.then(
      () => this.start(),
      () => this.start(),
    );
    return this.next;
  }

  private start(): Promise<void> {
    this.next = null;
    const running = Promise.resolve(run(this.turn.take(() => this.commitOnce(this.lazy && !this.refcounts.slices.full))));
    const done = () => {
      if (this.running === running) {
        this.running = null;
      }
    };
    this.running = running;
    running.then(done, done);
    return running;
  }

  /** Commits all there is, does the work, and lets no other commit begin meanwhile. */
  *alone<T>(work: () => Steps<T>): Steps<T> {
    return yield* this.turn.take(() => this.aloneLocked(work));
  }

  private *aloneLocked<T>(work: () => Steps<T>): Steps<T> {
    yield* this.commitOnce(false);
    return yield* work();
  }

  /** Everything, refcounts included, whatever is lazy. */
  *settle(): Steps<void> {
    do {
      yield* this.turn.take(() => this.commitOnce(false));
    } while (this.frees.length > 0 || this.refcounts.slices.changed || this.tables.changed);
  }

  private *commitOnce(skipRefcounts: boolean): Steps<void> {
    if (this.stopped) {
      throw this.stopped;
    }
    const { refcounts, tables, storage } = this;
    const barrier = refcounts.barrier;
    refcounts.barrier = false;
    const l1Writes = tables.takeEntries();
    const l2Writes = tables.slices.take();
    const tableWrites = refcounts.takeEntries();
    const refcountWrites = skipRefcounts ? [] : refcounts.slices.take();
    const frees = this.frees;
    this.frees = [];
    try {
      this.requireOwnPlace(REGION.refcountBlock, refcountWrites.map(placeOfSlice));
      this.requireOwnPlace(REGION.refcountTable, tableWrites);
      this.requireOwnPlace(REGION.activeL2, l2Writes.map(placeOfSlice));
      this.requireOwnPlace(REGION.activeL1, l1Writes);
      yield* this.header.settle();
      yield* this.writeSlices(refcountWrites);
      const exposes = barrier && l1Writes.length + l2Writes.length > 0;
      if (tableWrites.length > 0 || exposes) {
        yield* this.flushFiles();
      }
      if (tableWrites.length > 0) {
        for (const { hostOffset, bytes } of tableWrites) {
          yield* wait(storage.write(bytes, hostOffset));
        }
        if (exposes) {
          yield storage.flush();
        }
      }
      yield* this.writeSlices(l2Writes);
      for (const { hostOffset, bytes } of l1Writes) {
        yield* wait(storage.write(bytes, hostOffset));
      }
      yield* this.flushFiles();
    } catch (error) {
      refcounts.barrier ||= barrier;
      tables.putBackEntries(l1Writes);
      tables.slices.putBack(l2Writes);
      refcounts.putBackEntries(tableWrites);
      refcounts.slices.putBack(refcountWrites);
      this.frees = [...frees, ...this.frees];
      throw error;
    }
    tables.slices.release(l2Writes);
    refcounts.slices.release(refcountWrites);
    yield* this.applyFrees(frees);
  }

  private *flushFiles(): Steps<void> {
    if (this.dataFile) {
      yield this.dataFile.flush();
    }
    yield this.storage.flush();
  }

  /** Before anything is written: no table may be written where another structure lies too. @throws EngineError `image.corrupt` */
  private requireOwnPlace(kind: number, writes: readonly Place[]): void {
    for (const { hostOffset, bytes } of writes) {
      const other = this.regions.at(hostOffset, bytes.length) & ~kind;
      if (other !== 0) {
        throw corruptImage(this.storage.name, regionTitle(other), hostOffset, `It shares its place with the ${regionTitle(kind)}.`);
      }
    }
  }

  private *writeSlices(writes: readonly SliceWrite[]): Steps<void> {
    for (const { slice, from, bytes } of writes) {
      yield* wait(this.storage.write(bytes, slice.hostOffset + from));
    }
  }

  /** What was counted too seldom may have been taken for a table meanwhile. @throws EngineError `image.corrupt` */
  private requireNoTable(cluster: number, region: number): void {
    const kinds = this.regions.at(cluster * this.clusterSize, 1);
    // A snapshot may have the L2 table as well.
    if (kinds !== 0 && !(region === REGION.activeL2 && kinds === REGION.inactiveL2)) {
      throw corruptImage(this.storage.name, regionTitle(kinds), cluster * this.clusterSize, 'What used its place before is given up.');
    }
  }

  private *applyFrees(frees: readonly Freed[]): Steps<void> {
    const runs = inRuns(frees);
    for (let i = 0; i < runs.length; i++) {
      const { hostOffset, length, punch, region } = runs[i]!;
      const end = Math.ceil((hostOffset + length) / this.clusterSize);
      // Only now the disk does not lead to that table any more.
      this.regions.remove(region, hostOffset, length);
      let cluster = Math.floor(hostOffset / this.clusterSize);
      try {
        while (cluster < end) {
          const unused = punch ? yield* this.punch(cluster, end, region) : 0;
          // Counted less only afterwards: nobody else may have them while they are punched.
          for (const next = cluster + Math.max(1, unused); cluster < next; cluster++) {
            this.requireNoTable(cluster, region);
            yield* load(() => {
              this.refcounts.change(cluster, 1, -1);
            });
          }
        }
      } catch (error) {
        const rest = { hostOffset: cluster * this.clusterSize, length: (end - cluster) * this.clusterSize, punch, region };
        this.frees = [rest, ...runs.slice(i + 1), ...this.frees];
        throw error;
      }
    }
  }

  /** Gives the file's space back for clusters that nobody else counts, all at once: for each one a file system takes its time. */
  private *punch(first: number, end: number, region: number): Steps<number> {
    let cluster = first;
    for (; cluster < end; cluster++) {
      this.requireNoTable(cluster, region);
      if ((yield* load(() => this.refcounts.get(cluster))) !== 1) {
        break;
      }
      this.refcounts.retire(cluster);
    }
    if (cluster > first) {
      yield* wait(this.storage.discard(first * this.clusterSize, (cluster - first) * this.clusterSize));
    }
    return cluster - first;
  }
}

/** Sorted, neighbours together. */
function inRuns(frees: readonly Freed[]): Freed[] {
  const runs: Freed[] = [];
  for (const freed of [...frees].sort((left, right) => left.hostOffset - right.hostOffset)) {
    const last = runs.at(-1);
    if (last && last.hostOffset + last.length === freed.hostOffset && last.punch === freed.punch && last.region === freed.region) {
      runs[runs.length - 1] = { ...last, length: last.length + freed.length };
    } else {
      runs.push(freed);
    }
  }
  return runs;
}

function placeOfSlice({ slice, from, bytes }: SliceWrite): Place {
  return { hostOffset: slice.hostOffset + from, bytes };
}
