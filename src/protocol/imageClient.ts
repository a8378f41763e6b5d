import type { ImageMethod, ImageRequests, Progress, WireError } from './engine';

export interface CallOptions {
  /** Aborting gives the call up at once; it then rejects with the code `cancelled`. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Asks the engine about one opened image; the shell's session and the webview's connection are both one. */
export interface ImageClient {
  /** @throws CallError */
  call<M extends ImageMethod>(method: M, params: ImageRequests[M]['params'], options?: CallOptions): Promise<ImageRequests[M]['result']>;
}

/** Code of a call that ended because the worker did, before it had answered. */
export const ENGINE_DIED = 'engine.died';
/** Code of an error that is a bug here, not something about the input. */
export const INTERNAL = 'internal';

/** An error that crossed a port, with all that the engine knows of it. */
export class CallError extends Error {
  override readonly name = 'CallError';
  readonly wire: WireError;

  constructor(wire: WireError, cause?: unknown) {
    super(wire.message, cause === undefined ? undefined : { cause });
    this.wire = wire;
  }

  get code(): string {
    return this.wire.code;
  }
}

/** An error without a place. */
export function plainError(code: string, message: string, remedy: string | null = null): CallError {
  return new CallError({ code, message, remedy, file: null, structure: null, hostOffset: null });
}
