import { after, isPromise, type Awaitable } from '../awaitable';
import { EngineError } from '../errors';
import type { BlockNode } from './blockNode';
import { populate, type Populated } from './populate';
import type { RequestTracker } from './requests';

/** What copy-on-read is told. */
export interface CopyOnReadOptions {
  /** The lowest node whose data is copied (QEMU's `bottom`); null for the whole chain. */
  readonly bottom: BlockNode | null;
  /** Asked before each copy; false leaves the layer as it is. For a layer that may only grow so far. */
  readonly mayCopy?: (() => boolean) | undefined;
  /** Told of each copy, in bytes of the guest's. */
  readonly onCopied?: ((bytes: number) => void) | undefined;
  /** Told when a copy could not be written: the guest has its bytes all the same. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** Where the bytes that a guest read came from. */
export interface ReadCounts {
  /** Bytes that the layer had. */
  readonly hits: number;
  /** Bytes that were read from below. */
  readonly misses: number;
}

/**
 * QEMU's copy-on-read, as a filter before an image: what the image has goes straight into the reader's buffer, the rest is copied into it
 * first. Copies are serialising requests (see `RequestTracker`): of readers that meet in a cluster one copies and the others find it there,
 * guest writes wait for the copy that they overlap, and everything else runs at the same time.
 */
export class CopyOnRead {
  /** Null while it is off; may change at any time. Copies in flight end as they began. */
  options: CopyOnReadOptions | null = null;
  private readonly requests: RequestTracker;
  private readonly image: () => BlockNode;
  private hits = 0;
  private misses = 0;

  /** @param image what is read at the moment */
  constructor(requests: RequestTracker, image: () => BlockNode) {
    this.requests = requests;
    this.image = image;
  }

  /** Counted while it was on. */
  get counts(): ReadCounts {
    return { hits: this.hits, misses: this.misses };
  }

  /** @throws EngineError of the node that was read; never of a copy that could not be written */
  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    return this.options === null ? this.image().read(guestOffset, target) : this.readOn(guestOffset, target, 0);
  }

  private readOn(guestOffset: number, target: Uint8Array, from: number): Awaitable<void> {
    for (let done = from; done < target.length;) {
      const step = this.readPiece(guestOffset + done, target.subarray(done));
      if (isPromise(step)) {
        const here = done;
        return step.then((bytes) => this.readOn(guestOffset, target, here + bytes));
      }
      done += step;
    }
  }

  private readPiece(offset: number, target: Uint8Array): Awaitable<number> {
    return after(this.image().blockStatus(offset, target.length), ({ class: kind, length }) => {
      const part = target.subarray(0, Math.min(length, target.length));
      if (kind === 'unallocated') {
        this.misses += part.length;
        return after(this.copy(offset, part.length), () => after(this.image().read(offset, part), () => part.length));
      }
      this.hits += part.length;
      return after(this.image().read(offset, part), () => part.length);
    });
  }

  /** Copies a range, or leaves it to be read from below. */
  private copy(offset: number, length: number): Awaitable<void> {
    return this.attempt(offset, length, undefined, (error) => {
      const { clusterSize } = this.image();
      if (clusterSize === null || !(error instanceof EngineError && error.code === 'file.full')) {
        this.options?.onError?.(error);
        return;
      }
      // Not all of it fits, but perhaps a part of it does.
      return this.attempt(offset, length, clusterSize, (last) => this.options?.onError?.(last));
    });
  }

  private attempt(
    offset: number,
    length: number,
    chunkBytes: number | undefined,
    failed: (error: unknown) => Awaitable<void>,
  ): Awaitable<void> {
    try {
      const copied = this.copyOn(offset, length, chunkBytes);
      return isPromise(copied) ? copied.catch(failed) : copied;
    } catch (error) {
      return failed(error);
    }
  }

  private copyOn(from: number, length: number, chunkBytes: number | undefined): Awaitable<void> {
    const end = from + length;
    for (let at = from; at < end;) {
      const step = this.copyStep(at, end - at, chunkBytes);
      if (isPromise(step)) {
        const here = at;
        return step.then((bytes) => this.copyOn(here + bytes, end - here - bytes, chunkBytes));
      }
      at += step;
    }
  }

  private copyStep(offset: number, length: number, chunkBytes: number | undefined): Awaitable<number> {
    const { options, requests } = this;
    const node = this.image();
    if (options === null || node.readOnly || options.mayCopy?.() === false) {
      return length;
    }
    const base = options.bottom === null ? null : options.bottom.backing;
    return after(populate({ node, requests, base, chunkBytes }, offset, length), (done: Populated) => {
      if (done.copied + done.zeroed > 0) {
        options.onCopied?.(done.copied + done.zeroed);
      }
      return done.length;
    });
  }
}
