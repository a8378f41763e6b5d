import { statusAbove } from '../block/above';
import type { TrackedNode } from '../block/trackedNode';
import type { GuestActivity } from './guestActivity';
import type { JobContext, JobWork } from './jobWork';
import { inPieces } from './pieces';
import { SteadyFlush } from './steadyFlush';

export interface CommitOptions {
  /** The highest image whose data is copied; nobody writes it. */
  readonly top: TrackedNode;
  /** Gets the data. */
  readonly base: TrackedNode;
  /** Builds what was built on `top` on `base`; called once, when all is copied and on the disk. */
  relink(): Promise<void>;
  release(): Promise<void>;
  readonly activity: GuestActivity;
}

/** Copies images of a chain, below the active one, into one further down (QEMU's block-commit of an image that is not the active layer). */
export class CommitWork implements JobWork {
  private readonly options: CommitOptions;

  constructor(options: CommitOptions) {
    this.options = options;
  }

  async run(context: JobContext): Promise<void> {
    const { top, base, activity } = this.options;
    if (base.size < top.size) {
      await base.resize(top.size);
    }
    const flush = new SteadyFlush(base);
    await inPieces(context, { start: 0, end: top.size, flush, leftOut: () => activity.chunkBytes }, async (at, most) => {
      const found = await statusAbove(top, base, at, most);
      const length = found.class === 'data' ? Math.min(found.length, activity.chunkBytes) : found.length;
      await this.copy(found.class, at, length);
      return { length, copied: found.class === 'data' ? length : 0 };
    });
    if (base.size > top.size) {
      // An overlay that is longer than `top` reads zeroes there, not what the base has had.
      await base.writeZeroes(top.size, base.size - top.size, { mayUnmap: true });
    }
    await flush.end();
  }

  finalize(): Promise<void> {
    return this.options.relink();
  }

  release(): Promise<void> {
    return this.options.release();
  }

  private async copy(kind: 'unallocated' | 'data' | 'zero', offset: number, length: number): Promise<void> {
    const { top, base } = this.options;
    if (kind === 'zero') {
      await base.writeZeroes(offset, length, { mayUnmap: true });
    } else if (kind === 'data') {
      const buffer = Buffer.allocUnsafe(length);
      await top.read(offset, buffer);
      await base.write(offset, buffer);
    }
  }
}
