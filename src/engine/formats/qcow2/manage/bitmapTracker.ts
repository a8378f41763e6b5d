import { after, type Awaitable } from '../../../awaitable';
import type { Storage } from '../../../io/storage';
import { AUTOCLEAR } from '../structures';
import type { Qcow2Metadata } from '../metadata';
import type { BitmapBits } from './bitmapBits';
import { inconsistentBitmap, listBitmaps, loadBits, markInUse, storeBitmaps, type StoredBitmap } from './bitmapStore';
import type { QuietImage } from './quietImage';

/**
 * Keeps an image's enabled bitmaps true while a guest writes. In the file they are marked as in use before the first change, and stored
 * when the image is closed: whoever opens it after a crash in between finds bitmaps that are inconsistent, never wrong ones.
 */
export class BitmapTracker {
  private readonly storage: Storage;
  private readonly bitmaps: readonly (StoredBitmap & { readonly bits: BitmapBits })[];
  private readonly others: readonly StoredBitmap[];
  private state: 'clean' | Promise<void> | 'inUse' = 'clean';

  private constructor(storage: Storage, metadata: Qcow2Metadata) {
    this.storage = storage;
    const all = listBitmaps(metadata);
    this.bitmaps = all
      .filter(({ enabled, inconsistent }) => enabled && !inconsistent)
      .map((bitmap) => ({ ...bitmap, bits: loadBits(metadata, bitmap) }));
    this.others = all.filter(({ enabled, inconsistent }) => !enabled || inconsistent);
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
    return tracker.bitmaps.length > 0 ? tracker : null;
  }

  /**
   * To be awaited before a change reaches the image; notes what it changes. From the second time on there is nothing to wait for.
   * @throws EngineError `file.io`; nothing may be changed then
   */
  changing(offset: number, length: number): Awaitable<void> {
    if (this.state === 'inUse') {
      this.mark(offset, length);
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
    return after(this.state, () => {
      this.mark(offset, length);
    });
  }

  /** The bits as they are now. */
  bitmap(name: string): BitmapBits | null {
    return this.bitmaps.find((bitmap) => bitmap.name === name)?.bits ?? null;
  }

  /** Follows the disk's size. `others`, which are not tracked, follow when they are stored. */
  resize(size: number): void {
    for (const { bits } of this.bitmaps) {
      bits.resize(size);
    }
  }

  /**
   * Stores the bitmaps, and says in the file that they are to be believed. Nothing may be in flight. They lie elsewhere then: who goes on
   * tracking does so with what `load` gives anew.
   */
  async store(image: QuietImage): Promise<void> {
    if (this.state === 'clean') {
      return;
    }
    await this.state;
    const now = listBitmaps(image.metadata);
    // Those that were in use when the image was opened still are; ours are no longer.
    const stored = now.map((bitmap) => {
      const ours = this.bitmaps.find(({ name }) => name === bitmap.name);
      return ours ? { ...bitmap, inconsistent: false, bits: ours.bits } : bitmap;
    });
    await storeBitmaps(image, stored);
    this.state = 'clean';
  }

  /** Refuses what cannot be told. @throws EngineError `request.invalid` */
  requireConsistent(name: string): void {
    if (this.others.some((bitmap) => bitmap.name === name && bitmap.inconsistent)) {
      throw inconsistentBitmap(name);
    }
  }

  private mark(offset: number, length: number): void {
    for (const { bits } of this.bitmaps) {
      bits.mark(offset, length);
    }
  }
}
