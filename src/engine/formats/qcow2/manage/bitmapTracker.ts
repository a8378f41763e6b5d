import { after, isPromise, type Awaitable } from '../../../awaitable';
import type { Storage } from '../../../io/storage';
import { AUTOCLEAR } from '../structures';
import type { Qcow2Metadata } from '../metadata';
import type { BitmapBits } from './bitmapBits';
import { inconsistentBitmap, listBitmaps, loadBits, markInUse, storeBitmaps, type StoredBitmap } from './bitmapStore';
import type { QuietImage } from './quietImage';

/** A bitmap whose bits are in memory. */
type TrackedBitmap = StoredBitmap & { readonly bits: BitmapBits };

/**
 * Keeps an image's enabled bitmaps true while a guest writes. In the file they are marked as in use before the first change, and stored
 * when the image is closed: whoever opens it after a crash in between finds bitmaps that are inconsistent, never wrong ones.
 */
export class BitmapTracker {
  private readonly storage: Storage;
  private readonly metadata: Qcow2Metadata;
  private bitmaps: readonly TrackedBitmap[];
  /** Bitmaps that a guest's changes do not concern. */
  private others: readonly StoredBitmap[];
  private state: 'clean' | Promise<void> | 'inUse' = 'clean';

  private constructor(storage: Storage, metadata: Qcow2Metadata) {
    this.storage = storage;
    this.metadata = metadata;
    const all = listBitmaps(metadata);
    const tracked = all.filter(({ enabled, inconsistent }) => enabled && !inconsistent);
    this.bitmaps = tracked.map((bitmap) => ({ ...bitmap, bits: loadBits(metadata, bitmap) }));
    this.others = all.filter((bitmap) => !tracked.includes(bitmap));
  }

  /**
   * Loads the bitmaps that are to be kept; null where there are none.
   * @throws EngineError where QEMU would not open the image for its bitmaps
   */
  static load(storage: Storage, metadata: Qcow2Metadata): BitmapTracker | null {
    if ((metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
      return null;
    }
    const tracker = new BitmapTracker(storage, metadata);
    return tracker.bitmaps.length + tracker.others.length > 0 ? tracker : null;
  }

  /**
   * To be awaited before a change reaches the image; notes what it changes. From the second time on there is nothing to wait for.
   * @throws EngineError `file.io`; nothing may be changed then
   */
  changing(offset: number, length: number): Awaitable<void> {
    const begun = this.begin();
    if (!isPromise(begun)) {
      this.mark(offset, length);
      return;
    }
    return after(begun, () => {
      this.mark(offset, length);
    });
  }

  /** To be awaited before the first change. @throws EngineError `file.io`; nothing may be changed then */
  begin(): Awaitable<void> {
    if (this.state === 'inUse' || this.bitmaps.length === 0) {
      return;
    }
    if (this.state === 'clean') {
      this.state = markInUse(this.storage, this.bitmaps).then(
        () => {
          this.state = 'inUse';
        },
        (error: unknown) => {
          this.state = 'clean';
          throw error;
        },
      );
    }
    return this.state;
  }

  /** Notes that a range changes. */
  mark(offset: number, length: number): void {
    for (const { bits, enabled } of this.bitmaps) {
      if (enabled) {
        bits.mark(offset, length);
      }
    }
  }

  /** The bits as they are now. */
  bitmap(name: string): BitmapBits | null {
    return this.bitmaps.find((bitmap) => bitmap.name === name)?.bits ?? null;
  }

  /**
   * Before the disk's size changes: bitmaps that do not record follow it too.
   * @throws EngineError `request.invalid` where one is inconsistent, `file.io`; nothing may be changed then
   */
  async beforeResize(): Promise<void> {
    const inconsistent = this.others.find((bitmap) => bitmap.inconsistent);
    if (inconsistent) {
      // Nobody could say what it should become.
      throw inconsistentBitmap(inconsistent.name);
    }
    const others = this.others.map((bitmap) => ({ ...bitmap, bits: loadBits(this.metadata, bitmap) }));
    await this.begin();
    await markInUse(this.storage, others);
    this.bitmaps = [...this.bitmaps, ...others];
    this.others = [];
    this.state = 'inUse';
  }

  /** Follows the disk's size. */
  resize(size: number): void {
    for (const { bits } of this.bitmaps) {
      if (bits.size !== size) {
        bits.resize(size);
      }
    }
  }

  /**
   * Stores the bitmaps, and says in the file that they are to be believed. Nothing may be in flight. They lie elsewhere then: who goes on
   * tracking does so with what `load` gives anew.
   * @returns whether anything was stored
   */
  async store(image: QuietImage): Promise<boolean> {
    await this.state;
    if (this.state === 'clean') {
      return false;
    }
    const now = listBitmaps(image.metadata);
    // Those that were in use when the image was opened still are; ours are no longer.
    const stored = now.map((bitmap) => {
      const ours = this.bitmaps.find(({ name }) => name === bitmap.name);
      return ours ? { ...bitmap, inconsistent: false, bits: ours.bits } : bitmap;
    });
    await storeBitmaps(image, stored);
    this.state = 'clean';
    return true;
  }
}
