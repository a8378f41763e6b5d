import { isPromise } from '../awaitable';
import { statusAbove } from '../block/above';
import type { BlockNode } from '../block/blockNode';
import { DirtyBitmap } from '../block/dirtyBitmap';
import type { GuestChange, TrackedNode } from '../block/trackedNode';
import type { GuestActivity } from './guestActivity';
import type { JobContext, JobWork } from './jobWork';
import { SteadyFlush } from './steadyFlush';

/** Copied at a time where nobody says how busy the guest is. */
const CHUNK = 512 * 1024;
/** The guest's changes are remembered in pieces of this many bytes, at least a cluster of the target. */
const GRANULARITY = 64 * 1024;
/** How long to wait for the guest's next change when the target is up to date, in milliseconds. */
const PAUSE_MS = 50;

export interface MirrorOptions {
  /** The guest's disk; it goes on being used. */
  readonly source: TrackedNode;
  readonly target: BlockNode;
  /** What the chain has from this node on is in the target already (an active commit), or need not be (`sync: top`); null copies all. */
  readonly base: BlockNode | null;
  /** The target is known to read as zero, so zeroes need not be written. */
  readonly targetIsZero: boolean;
  /**
   * Called when the job is completed: makes the source's requests go to the target, and whatever else belongs to it. Nothing of the guest may
   * be in flight then; in that state calls `settle` first, which copies the last changes.
   */
  pivot(settle: () => Promise<void>): Promise<void>;
  /** Whether a guest uses the disk: it may have to wait for one piece's copy. */
  readonly activity?: GuestActivity | undefined;
  /** Before anything is copied. */
  prepare?(): Promise<void>;
  /** After an end before source and target were alike. */
  giveUp?(): void;
  /** Gives the images up, however the job ended. */
  release?(): Promise<void>;
}

/**
 * Copies a disk while its guest writes to it, until both are the same; then keeps them the same until it is completed (QEMU's
 * blockdev-mirror and its commit of the active layer). While the bulk is copied, what the guest changes is only remembered, and it waits
 * for nothing. From then on its changes go to both places, so that however busy it is the rest gets less and less; it may wait for one
 * piece's copy.
 */
export class MirrorWork implements JobWork {
  private readonly options: MirrorOptions;
  private readonly dirty: DirtyBitmap;
  private stopListening: (() => void) | null = null;
  /** Whether the guest's changes go to the target as well. */
  private following = false;
  private alike = false;

  constructor(options: MirrorOptions) {
    this.options = options;
    this.dirty = new DirtyBitmap(options.source.size, Math.max(GRANULARITY, options.target.clusterSize ?? 0));
  }

  private get chunk(): number {
    return this.options.activity?.chunkBytes ?? CHUNK;
  }

  async run(context: JobContext): Promise<void> {
    const { source, target } = this.options;
    await this.options.prepare?.();
    this.options.activity?.hurry();
    this.stopListening = source.onDidChange((change) => this.follow(change));
    // Changes that began before nobody tells of.
    await source.requests.drain();
    const flush = new SteadyFlush(target);
    await this.copyAll(context, flush);
    this.following = true;
    while (!context.isCompleting) {
      await this.catchUp(context, flush);
      context.becomeReady();
      this.alike = true;
      await context.checkpoint();
      await context.idle(PAUSE_MS);
    }
    await flush.end();
    await this.options.pivot(() => this.finish(flush));
  }

  /** With the guest's writes waiting: the last changes. */
  private async finish(flush: SteadyFlush): Promise<void> {
    for (let piece = this.dirty.take(0, this.chunk); piece; piece = this.dirty.take(0, this.chunk)) {
      await this.copy(piece.offset, piece.length, true);
    }
    await flush.end();
    this.stopListening?.();
  }

  abort(): Promise<void> {
    this.stopListening?.();
    return Promise.resolve();
  }

  async release(): Promise<void> {
    this.stopListening?.();
    await this.options.release?.();
    if (!this.alike) {
      this.options.giveUp?.();
    }
  }

  private async follow(change: GuestChange): Promise<void> {
    if (this.following && !change.failed) {
      try {
        await change.apply(this.options.target);
        return;
      } catch {
        // It is copied later, and when that fails too the job says so; the guest's own write has succeeded.
      }
    }
    this.dirty.set(change.offset, change.length);
  }

  private async copyAll(context: JobContext, flush: SteadyFlush): Promise<void> {
    const { source, base, targetIsZero } = this.options;
    context.setTotal(source.size);
    for (let at = 0; at < source.size;) {
      const status = statusAbove(source.image, base, at, source.size - at);
      const { class: kind, length } = isPromise(status) ? await status : status;
      if (kind === 'unallocated' ? base !== null || targetIsZero : kind === 'zero' && targetIsZero) {
        context.advance(length, 0);
        at += length;
        continue;
      }
      const piece = kind === 'data' ? Math.min(length, this.chunk) : length;
      await this.attempt(context, at, piece, kind === 'data', flush);
      at += piece;
    }
  }

  /** Copies what the guest has changed meanwhile. */
  private async catchUp(context: JobContext, flush: SteadyFlush): Promise<void> {
    for (
      let piece = this.dirty.take(0, this.chunk);
      piece;
      piece = this.dirty.take(piece.offset, this.chunk) ?? this.dirty.take(0, this.chunk)
    ) {
      await this.attempt(context, piece.offset, piece.length, true, flush);
    }
  }

  private async attempt(context: JobContext, offset: number, length: number, data: boolean, flush: SteadyFlush): Promise<void> {
    for (;;) {
      await context.checkpoint();
      try {
        // What the guest changes meanwhile is copied again; once it writes to both places it must not overtake an older copy.
        const copy = () => this.copy(offset, length, data);
        await (this.following ? this.options.source.requests.run(offset, length, true, copy) : copy());
        context.advance(length, data ? length : 0);
        await flush.copied(data ? length : 0);
        return;
      } catch (error) {
        if ((await context.onError(error)) === 'ignore') {
          context.advance(length, 0);
          return;
        }
      }
    }
  }

  private async copy(offset: number, length: number, data: boolean): Promise<void> {
    const { source, target } = this.options;
    const bytes = Math.min(length, source.size - offset);
    if (!data) {
      await target.writeZeroes(offset, bytes, { mayUnmap: true });
      return;
    }
    const buffer = new Uint8Array(bytes);
    await source.image.read(offset, buffer);
    await target.write(offset, buffer);
  }
}
