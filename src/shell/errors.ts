import type { WireError } from '../protocol/engine';

/** The engine could not do what was asked; the sentence is for the person. */
export class EngineFailure extends Error {
  override readonly name = 'EngineFailure';
  readonly wire: WireError;

  constructor(wire: WireError) {
    super(wire.message);
    this.wire = wire;
  }
}

/** An error of the shell's own, in the form that crosses to the webview. */
export function shellError(code: string, message: string, remedy: string | null = null): EngineFailure {
  return new EngineFailure({ code, message, file: null, structure: null, hostOffset: null, remedy });
}

/** The person, or a newer request, gave it up: nothing to tell. */
export function isCancelled(error: unknown): boolean {
  return error instanceof EngineFailure && error.wire.code === 'cancelled';
}

/** Code of what a request ends with when the worker ended before answering it. */
export const ENGINE_DIED = 'engine.died';

export function isEngineDeath(error: unknown): boolean {
  return error instanceof EngineFailure && error.wire.code === ENGINE_DIED;
}

/** One sentence for the person, with what to do where there is something. */
export function messageOf(error: unknown): string {
  if (error instanceof EngineFailure) {
    const { message, remedy } = error.wire;
    return remedy === null ? message : `${message} ${remedy}`;
  }
  return error instanceof Error ? error.message : String(error);
}

export function wireErrorOf(error: unknown): WireError {
  return error instanceof EngineFailure ? error.wire : shellError('shell', messageOf(error)).wire;
}
