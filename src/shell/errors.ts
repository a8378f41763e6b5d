import type { WireError } from '../protocol/engine';
import { CallError, ENGINE_DIED, INTERNAL, plainError } from '../protocol/imageClient';

/** The person, or a newer request, gave it up: nothing to tell. */
export function isCancelled(error: unknown): boolean {
  return error instanceof CallError && error.code === 'cancelled';
}

/** The worker ended before it had answered; the client's event says so too. */
export function isEngineDeath(error: unknown): boolean {
  return error instanceof CallError && error.code === ENGINE_DIED;
}

/** One sentence for the person, with what to do where there is something. */
export function messageOf(error: unknown): string {
  if (error instanceof CallError) {
    const { message, remedy } = error.wire;
    // QEMU's messages may have several lines, a notification has one.
    return (remedy === null ? message : `${message} ${remedy}`).replaceAll(/([.:;,!?]?)\s*\n\s*/g, (_, end: string) => `${end || '.'} `);
  }
  return error instanceof Error ? error.message : String(error);
}

/** An error in the form that crosses to the webview. */
export function wireErrorOf(error: unknown): WireError {
  return error instanceof CallError ? error.wire : plainError(INTERNAL, messageOf(error)).wire;
}
