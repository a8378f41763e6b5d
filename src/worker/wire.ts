import { ResponseError } from 'vscode-jsonrpc';

import { EngineError } from '../engine/errors';
import type { WireError } from '../protocol/engine';
import { INTERNAL } from '../protocol/imageClient';

/** JSON-RPC's code for a request that failed for a reason of its own; the engine's code is in the data. */
const REQUEST_FAILED = -32_803;
/** The one for a request that was cancelled. */
const REQUEST_CANCELLED = -32_800;

/** An error in the form that crosses a port. What is no EngineError is a bug, and says so. */
export function toWire(error: unknown): WireError {
  if (error instanceof EngineError) {
    const { code, message, place } = error;
    return {
      code,
      message,
      file: place.file ?? null,
      structure: place.structure ?? null,
      hostOffset: place.hostOffset !== undefined && Number.isSafeInteger(place.hostOffset) ? place.hostOffset : null,
      remedy: place.remedy ?? null,
    };
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return { code: INTERNAL, message: `The engine failed: ${message}`, file: null, structure: null, hostOffset: null, remedy: null };
}

export function toResponseError(error: unknown): ResponseError<WireError> {
  const wire = toWire(error);
  return new ResponseError(wire.code === 'cancelled' ? REQUEST_CANCELLED : REQUEST_FAILED, wire.message, wire);
}
