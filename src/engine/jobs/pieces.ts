import { isPromise, type Awaitable } from '../awaitable';
import type { JobContext } from './jobWork';
import type { SteadyFlush } from './steadyFlush';

/** What one piece of a job's work was. */
export interface Piece {
  /** Bytes of the disk that need nothing more, at least 1. */
  readonly length: number;
  /** Bytes of them that count against the speed. */
  readonly copied: number;
  /** Bytes that were written; as many as were copied when left out. */
  readonly written?: number | undefined;
}

export interface PiecesOptions {
  /** Guest bytes. */
  readonly start: number;
  readonly end: number;
  readonly flush: SteadyFlush;
  /** Bytes that are left out where an error is to be ignored. */
  readonly leftOut: () => number;
  /** Told before the guest has its turn where the next piece begins. */
  readonly willWork?: ((offset: number) => void) | undefined;
}

/**
 * Works through a range of the disk piece by piece, with the guest's turn before each.
 * @param work does the piece that begins at `offset`, at most `length` bytes
 * @throws EngineError `cancelled`; what `work` throws, where errors are to be reported
 */
export async function inPieces(
  context: JobContext,
  { start, end, flush, leftOut, willWork }: PiecesOptions,
  work: (offset: number, length: number) => Awaitable<Piece>,
): Promise<void> {
  context.setTotal(Math.max(0, end - start));
  for (let at = start; at < end;) {
    willWork?.(at);
    await context.checkpoint();
    let length = Math.min(leftOut(), end - at);
    try {
      const working = work(at, end - at);
      const piece = isPromise(working) ? await working : working;
      length = piece.length;
      context.advance(length, piece.copied);
      await flush.copied(piece.written ?? piece.copied);
    } catch (error) {
      if ((await context.onError(error)) === 'retry') {
        continue;
      }
      context.advance(length, 0);
    }
    at += length;
  }
}
