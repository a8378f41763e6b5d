import type { WireError } from '../src/protocol/engine';
import { CallError, INTERNAL, plainError } from '../src/protocol/imageClient';

/** What went wrong, as the page shows it. */
export type Problem = WireError;

/** Whether a call was given up, by this page or by whom it asked: nothing to show. */
export function isCancelled(error: unknown): boolean {
  return error instanceof CallError && error.code === 'cancelled';
}

export function problemOf(error: unknown): Problem {
  return error instanceof CallError ? error.wire : plainError(INTERNAL, error instanceof Error ? error.message : String(error)).wire;
}

/** A sentence about what the person did on this page. */
export function hint(message: string): Problem {
  return plainError('request.invalid', message).wire;
}
