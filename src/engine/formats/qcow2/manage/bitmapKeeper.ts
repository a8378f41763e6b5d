import { after, type Awaitable } from '../../../awaitable';
import { loading } from '../../../io/loading';
import type { Qcow2Hooks } from '../write/nodeOptions';
import type { Qcow2Node } from '../write/qcow2Node';
import { run } from '../write/steps';
import { BitmapTracker } from './bitmapTracker';
import { QuietImage } from './quietImage';

/** Keeps the persistent bitmaps of one image that is open for writing. */
export class BitmapKeeper implements Qcow2Hooks {
  private tracker: BitmapTracker | null = null;

  /** Loads the bitmaps that record, and says in the file that they are in use. */
  beforeFirstChange(node: Qcow2Node): Awaitable<void> {
    const loaded = loading(() => this.tracker ?? BitmapTracker.load(node.storage, node.metadata));
    return after(loaded, (tracker) => {
      this.tracker = tracker;
      return tracker?.begin();
    });
  }

  onGuestChange(guestOffset: number, length: number): void {
    this.tracker?.mark(guestOffset, length);
  }

  beforeResize(): Awaitable<void> {
    return this.tracker?.beforeResize();
  }

  afterResize(size: number): void {
    this.tracker?.resize(size);
  }

  /** What the bitmap says now; null when it is not kept. */
  bitmap(name: string): ReturnType<BitmapTracker['bitmap']> {
    return this.tracker?.bitmap(name) ?? null;
  }

  /** Stores the bitmaps. Nothing may be in flight; the image goes on with those that are loaded anew. */
  async beforeClose(node: Qcow2Node): Promise<void> {
    const { tracker } = this;
    if (!tracker) {
      return;
    }
    await run(node.settle());
    const stored = await tracker.store(QuietImage.open(node.storage, { settled: true }));
    this.tracker = null;
    if (stored) {
      node.reload();
    }
  }
}
