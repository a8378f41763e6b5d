import { isPromise } from '../awaitable';
import type { BlockNode } from '../block/blockNode';
import type { TrackedNode } from '../block/trackedNode';
import { cancelled, invalidRequest } from '../errors';
import type { GuestActivity } from './guestActivity';
import type { JobContext, JobWork } from './jobWork';
import { inPieces } from './pieces';
import { SteadyFlush } from './steadyFlush';

/** Bytes that are copied at a time by a caller that does not say. */
const CHUNK = 1024 * 1024;

export interface StreamStep {
  /** Bytes that need nothing more, from the offset that was asked for; `length` of them unless the disk ends before. */
  readonly advanced: number;
  /** Bytes of them that were copied. */
  readonly copied: number;
}

/**
 * Copies into an image at most `length` bytes of what the chain above `base` has, and changes no backing link: the step that a caller can
 * drive a stream with, and that the job uses.
 * @throws EngineError `request.invalid` for an offset past the end; `cancelled`; of the nodes
 */
export async function streamStep(
  node: TrackedNode,
  base: BlockNode | null,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<StreamStep> {
  if (!(offset >= 0 && offset <= node.size && length >= 0)) {
    throw invalidRequest(`Offset ${offset} lies outside the disk of ${node.size} bytes.`);
  }
  const end = Math.min(node.size, offset + length);
  let copied = 0;
  for (let at = offset; at < end;) {
    if (signal?.aborted) {
      throw cancelled();
    }
    const step = node.populate(base, at, end - at, CHUNK);
    const done = isPromise(step) ? await step : step;
    at += done.length;
    copied += done.copied;
  }
  return { advanced: end - offset, copied };
}

export interface StreamOptions {
  readonly node: TrackedNode;
  /** What stays below the image; null when nothing does. */
  readonly base: BlockNode | null;
  /** Only this range of the disk; the backing link stays as it is then. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
  /** Makes `base` the image's backing file, in the header and in the graph; called once, when all is copied and on the disk. */
  relink(): Promise<void>;
  /** Gives the images up, however the job ended. */
  release?(): Promise<void>;
  /** Whether a guest uses the disk: it may have to wait for one piece's copy. */
  readonly activity?: GuestActivity | undefined;
}

/** Image streaming (QEMU's block-stream) as a job's work. */
export class StreamWork implements JobWork {
  private readonly options: StreamOptions;

  constructor(options: StreamOptions) {
    this.options = options;
  }

  async run(context: JobContext): Promise<void> {
    const { node, base, range, activity } = this.options;
    const start = range?.offset ?? 0;
    const end = Math.min(node.size, range ? start + range.length : node.size);
    const flush = new SteadyFlush(node);
    const chunk = () => activity?.chunkBytes ?? CHUNK;
    const willWork = (at: number) => {
      if (activity?.isActive === true) {
        // The guest waits for a piece's copy, but not for the disk as well.
        node.willRead(at, Math.min(chunk(), end - at));
      }
    };
    // What needs no copy is passed over in whatever stretches the tables tell.
    await inPieces(context, { start, end, flush, leftOut: chunk, willWork }, (at, length) => node.populate(base, at, length, chunk()));
    await flush.end();
  }

  async finalize(): Promise<void> {
    if (!this.options.range) {
      await this.options.relink();
    }
  }

  async release(): Promise<void> {
    await this.options.release?.();
  }
}
