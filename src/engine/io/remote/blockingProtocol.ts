import type { ErrorCode, ErrorPlace } from '../../errors';
import type { TlsObject } from '../../nbd/client/tlsCredentials';

/* How a thread that waits and the one that fetches for it talk: a message asks, shared memory answers. */

/** Bytes of the shared memory for what is read or what went wrong. */
export const ANSWER_BYTES = 4 * 1024 * 1024;

/** Words of the shared state: what came of the request, and how many bytes the answer has. */
export const WORD = { state: 0, length: 1, words: 2 } as const;
export const STATE = { waiting: 0, done: 1, failed: 2 } as const;

export interface SharedMemory {
  readonly words: SharedArrayBuffer;
  readonly answer: SharedArrayBuffer;
}

/** `name` is one that `remoteNameOf` understands, with the credentials that it may stand on. Sources are told apart by numbers of the asking side. */
export type BlockingRequest =
  | { readonly kind: 'open'; readonly source: number; readonly name: string; readonly tls: readonly (readonly [string, TlsObject])[] }
  | { readonly kind: 'read'; readonly source: number; readonly offset: number; readonly length: number }
  | { readonly kind: 'extent'; readonly source: number; readonly offset: number }
  | { readonly kind: 'close'; readonly source: number };

/** JSON in the answer to `open` and `extent`; the answer to `read` is the bytes. */
export interface OpenedAnswer {
  readonly name: string;
  readonly size: number;
}

export interface FailedAnswer {
  readonly code: ErrorCode;
  readonly message: string;
  readonly place: ErrorPlace;
}
