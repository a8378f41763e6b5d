import type { BlockNode } from '../block/blockNode';
import { DirtyBitmap } from '../block/dirtyBitmap';
import type { TrackedNode } from '../block/trackedNode';
import { Differences } from '../manage/copy/differences';
import type { GuestActivity } from './guestActivity';
import type { JobContext, JobWork } from './jobWork';
import { inPieces } from './pieces';
import { SteadyFlush } from './steadyFlush';

/** The guest's changes are remembered in pieces of this many bytes. */
const GRANULARITY = 64 * 1024;
/** The guest waits while so many bytes of its last changes are looked at again; and how often the rest is made less before. */
const LEFT_OVER = 4 * 1024 * 1024;
const ROUNDS = 4;

export interface RebaseOptions {
  /** The image that gets another backing file; its guests go on. */
  readonly image: TrackedNode;
  /** That backing file; null for none. */
  readonly below: BlockNode | null;
  /**
   * Makes `below` the image's backing file, in the header and in the graph; called once. While nothing that changes the image is in flight,
   * and before anything is recorded, calls `settle`.
   */
  relink(settle: () => Promise<void>): Promise<void>;
  release(): Promise<void>;
  readonly activity: GuestActivity;
}

/**
 * Builds an image on another backing file while it is in use: where the two have different bytes the image gets its own before. Afterwards
 * it reads the same on both, wherever it has nothing itself, and so it stays whatever a guest writes: that goes into the image. Only what it
 * discards or makes zero may leave a range to whatever lies below, so its changes are looked at again.
 */
export class RebaseWork implements JobWork {
  private readonly options: RebaseOptions;
  private readonly differences: Differences;
  private readonly size: number;
  private readonly changed: DirtyBitmap;
  private stopListening: (() => void) | null = null;

  constructor(options: RebaseOptions) {
    const { image, below } = options;
    this.options = options;
    this.differences = new Differences(image.image, below);
    this.size = image.size;
    this.changed = new DirtyBitmap(image.size, GRANULARITY);
  }

  async run(context: JobContext): Promise<void> {
    const { image, activity } = this.options;
    this.stopListening = image.onDidChange(({ offset, length }) => this.changed.set(offset, length));
    // Changes that began before nobody tells of.
    await image.requests.drain();
    const flush = new SteadyFlush(image);
    await inPieces(context, { start: 0, end: this.size, flush, leftOut: () => activity.chunkBytes }, async (at, most) => {
      const found = await this.differences.look(at, most);
      if (!found.compare) {
        return { length: found.length, copied: 0 };
      }
      const length = Math.min(found.length, activity.chunkBytes);
      return { length, copied: length, written: await this.keepAlone(at, length) };
    });
    await this.catchUp(context);
    await flush.end();
  }

  finalize(): Promise<void> {
    return this.options.relink(async () => {
      for (let piece = this.changed.take(0, LEFT_OVER); piece; piece = this.changed.take(0, LEFT_OVER)) {
        await this.keep(piece.offset, piece.length);
      }
      // What has grown meanwhile nobody has looked at yet.
      await this.keep(this.size, Infinity);
      await this.options.image.flush();
    });
  }

  async release(): Promise<void> {
    this.stopListening?.();
    await this.options.release();
  }

  /** Looks again at what the guest has changed, until little is left. */
  private async catchUp(context: JobContext): Promise<void> {
    const { activity } = this.options;
    for (let round = 0; round < ROUNDS && this.changed.dirtyBytes > LEFT_OVER; round++) {
      for (let piece = this.changed.take(0, activity.chunkBytes); piece;) {
        await context.checkpoint();
        const { offset, length } = piece;
        await this.keepAlone(offset, length);
        piece = this.changed.take(offset + length, activity.chunkBytes);
      }
    }
  }

  /** Later writes of the guest there wait, so that none is lost to older bytes. */
  private async keepAlone(offset: number, length: number): Promise<number> {
    return this.options.image.requests.run(offset, length, true, () => this.keep(offset, length));
  }

  /** @returns bytes that were written */
  private async keep(offset: number, length: number): Promise<number> {
    const end = Math.min(offset + length, this.options.image.size);
    let written = 0;
    for (let at = offset; at < end;) {
      const found = await this.differences.look(at, end - at);
      written += found.compare ? await this.differences.keep(at, found.length) : 0;
      at += found.length;
    }
    return written;
  }
}
