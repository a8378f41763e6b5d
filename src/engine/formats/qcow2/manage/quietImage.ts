import { corruptImage } from '../../../errors';
import { readPadded } from '../../../io/source';
import type { Storage } from '../../../io/storage';
import { WordTable } from '../../../layout/wordTable';
import { readQcow2Metadata, requireOpenable, type Qcow2Metadata } from '../metadata';
import { AUTOCLEAR, LIMITS } from '../structures';
import { HeaderFields } from '../write/headerFields';
import { Refcounts } from '../write/refcounts';
import { REGION, regionTitle, Regions } from '../write/regions';
import { run, wait, type Steps } from '../write/steps';
import { headerContents, withFields, writeHeader, type HeaderContents } from './header';

/** Bound for refcounts in memory. */
const CACHE_BYTES = 8 * 1024 * 1024;
const KNOWN_AUTOCLEAR = AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData;

/**
 * A qcow2 image that nobody else uses for the moment, open for changes of its structure: its refcounts, and the header that everything
 * hangs on. What managing does is always the same: take clusters, write into them what will be, `flush`, let the header (or a table) lead
 * to it, and only then give up what it led to before. A crash between any two steps leaves the old or the new state, and leaks at most.
 */
export class QuietImage {
  readonly storage: Storage;
  private current: Qcow2Metadata;
  private readonly header: HeaderFields;
  private readonly regions: Regions;
  private readonly refcounts: Refcounts;
  private movedTables: { readonly hostOffset: number; readonly length: number }[] = [];

  private constructor(storage: Storage, metadata: Qcow2Metadata) {
    this.storage = storage;
    this.current = metadata;
    this.header = new HeaderFields(storage, metadata);
    this.regions = new Regions(metadata.clusterSize);
    this.regions.add(REGION.header, 0);
    if (metadata.l1Size > 0) {
      this.regions.add(REGION.activeL1, metadata.l1TableOffset, metadata.l1Size * 8);
    }
    this.refcounts = new Refcounts(storage, metadata, this.header, this.regions, CACHE_BYTES, {
      onFree: () => undefined,
      onTableMoved: (hostOffset, length) => this.movedTables.push({ hostOffset, length }),
      alone: (work) => this.alone(work),
    });
  }

  /**
   * @param repairing the image may be marked as corrupt: whoever opens it sees to that
   * @param settled the refcounts are right although the header says that they may not be: whoever has the image open sees to it
   * @throws EngineError for what QEMU's driver refuses to open for writing
   */
  static open(
    storage: Storage,
    { settled = false, repairing = false }: { readonly settled?: boolean; readonly repairing?: boolean } = {},
  ): QuietImage {
    const metadata = readQcow2Metadata(storage);
    requireOpenable(metadata);
    if (!repairing && (metadata.corrupt || (metadata.dirty && !settled))) {
      throw corruptImage(
        storage.name,
        'qcow2 header',
        metadata.header.field('incompatible_features').offset,
        metadata.corrupt ? 'The image is marked as corrupt.' : 'The image was not closed, and its refcounts may be wrong.',
      );
    }
    return new QuietImage(storage, metadata);
  }

  /** What the header says now. */
  get metadata(): Qcow2Metadata {
    return this.current;
  }

  /** The largest refcount of this image. */
  get maxRefcount(): number {
    return this.refcounts.max;
  }

  /** New clusters for `length` bytes, one after the other in the file, each counted once. Returns the byte offset of the first. */
  async allocate(length: number): Promise<number> {
    return run(this.refcounts.allocate(Math.max(1, Math.ceil(length / this.current.clusterSize))));
  }

  /** Takes clusters and writes `bytes` into them. Returns their byte offset. */
  async place(bytes: Uint8Array): Promise<number> {
    const hostOffset = await this.allocate(bytes.length);
    const padded = new Uint8Array(Math.max(1, Math.ceil(bytes.length / this.current.clusterSize)) * this.current.clusterSize);
    padded.set(bytes);
    await this.storage.write(padded, hostOffset);
    return hostOffset;
  }

  /**
   * Changes the refcount of each cluster that a range touches.
   * @throws EngineError `request.unsupported` where it would not fit, and then none of the range is changed; `image.corrupt`
   */
  async count(hostOffset: number, length: number, delta: 1 | -1): Promise<void> {
    const { clusterSize } = this.current;
    if (!(hostOffset >= 0 && hostOffset + length <= Math.min(LIMITS.maxHostOffset, Number.MAX_SAFE_INTEGER))) {
      throw corruptImage(this.storage.name, 'L2 table', hostOffset, 'An entry leads past the end of every file.');
    }
    const first = Math.floor(hostOffset / clusterSize);
    const end = Math.ceil((hostOffset + length) / clusterSize);
    this.refcounts.change(first, end - first, delta);
    if (this.refcounts.slices.full) {
      await this.flush();
    }
  }

  /** References to the cluster at `hostOffset`. */
  refcount(hostOffset: number): number {
    return this.refcounts.get(Math.floor(hostOffset / this.current.clusterSize));
  }

  /** Gives clusters up that nothing on the disk leads to any more. */
  async release(hostOffset: number, length: number): Promise<void> {
    await this.count(hostOffset, length, -1);
  }

  /** Ends when what was written and all refcounts are on the disk. */
  async flush(): Promise<void> {
    await run(this.flushSteps());
    for (const { hostOffset, length } of this.movedTables.splice(0)) {
      await this.release(hostOffset, length);
      await run(this.flushSteps());
    }
  }

  /** Flushes, and then writes the header that `change` makes of the present one. */
  async changeHeader(change: (contents: HeaderContents) => HeaderContents): Promise<void> {
    await this.flush();
    // The refcount table may have moved since it was read.
    const contents = headerContents(readQcow2Metadata(this.storage));
    const next = change(contents);
    // A writer that does not know these features may spoil what they stand for.
    const known = next.fields.autoclear_features & KNOWN_AUTOCLEAR;
    await writeHeader(this.storage, withFields(next, { autoclear_features: known }));
    this.current = readQcow2Metadata(this.storage);
    this.header.reload(this.current);
  }

  /**
   * Reads a table of words.
   * @throws EngineError `image.corrupt` where it cannot lie
   */
  readTable(hostOffset: number, entries: number, title: string): WordTable {
    this.requirePlace(hostOffset, entries * 8, title);
    return new WordTable(readPadded(this.storage, hostOffset, entries * 8), hostOffset, 'big');
  }

  /** Whether a table may lie there: aligned, and not where the header or a refcount structure lies. @throws EngineError `image.corrupt` */
  requirePlace(hostOffset: number, length: number, title: string): void {
    const { clusterSize } = this.current;
    if (!(hostOffset > 0 && hostOffset % clusterSize === 0 && hostOffset + length < LIMITS.maxHostOffset)) {
      throw corruptImage(this.storage.name, title, hostOffset, 'It is not aligned to a cluster.');
    }
    const other = this.regions.at(hostOffset, length) & (REGION.header | REGION.refcountTable | REGION.refcountBlock);
    if (other !== 0) {
      throw corruptImage(this.storage.name, title, hostOffset, `It shares its place with the ${regionTitle(other)}.`);
    }
  }

  private *alone(work: () => Steps<void>): Steps<void> {
    yield* this.flushSteps();
    yield* work();
  }

  private *flushSteps(): Steps<void> {
    const { refcounts, storage } = this;
    const entries = refcounts.takeEntries();
    const writes = refcounts.slices.take();
    try {
      for (const { slice, from, bytes } of writes) {
        yield* wait(storage.write(bytes, slice.hostOffset + from));
      }
      yield storage.flush();
      if (entries.length > 0) {
        // They lead to new refcount blocks, which are on the disk now.
        for (const { hostOffset, bytes } of entries) {
          yield* wait(storage.write(bytes, hostOffset));
        }
        yield storage.flush();
      }
    } catch (error) {
      refcounts.putBackEntries(entries);
      refcounts.slices.putBack(writes);
      throw error;
    }
    refcounts.slices.release(writes);
  }
}
