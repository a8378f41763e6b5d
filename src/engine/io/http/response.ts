import type * as http from 'node:http';

import { EngineError, networkChanged, networkFailed } from '../../errors';

/**
 * What tells one state of a remote file from another: the length, and the ETag or the time of the last change that the server gives it.
 */
export interface Validator {
  readonly size: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/** The part of the file that a response carries. */
export interface ContentRange {
  readonly first: number;
  /** Null: no part, only the size is told (`bytes *\/1000`). */
  readonly last: number | null;
  readonly size: number;
}

/** A failure after which the same request may well succeed. */
export class Transient extends Error {
  /** Milliseconds after which the server wishes to be asked again; null when it does not say. */
  readonly retryAfterMs: number | null;

  constructor(message: string, retryAfterMs: number | null = null, cause?: unknown) {
    super(message, { cause });
    this.retryAfterMs = retryAfterMs;
  }
}

const TRANSIENT: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
/** No server may make us wait longer. */
const MAX_RETRY_AFTER_MS = 30_000;

/** A strong ETag names these very bytes; a weak one something that means the same. */
export function strongEtag({ etag }: Validator): string | null {
  return etag !== null && !etag.startsWith('W/') ? etag : null;
}

/** @throws EngineError when the response says that it knows no ranges, has no such file, or is nonsense; Transient */
export function readContentRange(name: string, response: http.IncomingMessage): ContentRange {
  const { statusCode: status = 0, statusMessage = '', headers } = response;
  if (TRANSIENT.has(status)) {
    throw new Transient(`The server answers ${status} ${statusMessage}`.trim() + '.', retryAfter(headers['retry-after']));
  }
  if (status === 200) {
    throw new EngineError('network.failed', `${name}: The server does not support 'range' (byte ranges).`, {
      file: name,
      remedy: 'Download the file first.',
    });
  }
  const range = parseContentRange(headers['content-range']);
  if (status === 416 && range?.last === null) {
    return range;
  }
  if (status !== 206) {
    throw networkFailed(name, `The server answers ${status} ${statusMessage}`.trim() + '.');
  }
  if (typeof range?.last !== 'number') {
    throw networkFailed(name, 'The server does not say which part of the file it sends, or how long the file is.');
  }
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    throw networkFailed(name, `The server sends the file encoded (${encoding}), where offsets mean nothing.`);
  }
  return range;
}

export function validatorOf({ headers }: http.IncomingMessage, size: number): Validator {
  return { size, etag: headers.etag ?? null, lastModified: headers['last-modified'] ?? null };
}

/** @throws EngineError `network.changed` when a response is not of the file that was opened */
export function requireUnchanged(name: string, known: Validator, response: http.IncomingMessage, size: number): void {
  const now = validatorOf(response, size);
  if (now.size !== known.size) {
    throw networkChanged(name, `it had ${known.size} bytes and has ${now.size}.`);
  }
  if (now.etag !== known.etag) {
    throw networkChanged(name, `its ETag was ${String(known.etag)} and is ${String(now.etag)}.`);
  }
  // An answer to `If-Range` need not repeat it.
  if (now.lastModified !== null && known.lastModified !== null && now.lastModified !== known.lastModified) {
    throw networkChanged(name, `it was changed at ${known.lastModified} and now at ${now.lastModified}.`);
  }
}

function parseContentRange(header: string | undefined): ContentRange | null {
  const match = /^bytes (?:(\d{1,16})-(\d{1,16})|\*)\/(\d{1,16})$/.exec(header ?? '');
  if (!match) {
    return null;
  }
  const [, first = '0', last, size] = match;
  const range = { first: Number(first), last: last === undefined ? null : Number(last), size: Number(size) };
  const sane = Number.isSafeInteger(range.size) && (range.last === null || (range.first <= range.last && range.last < range.size));
  return sane ? range : null;
}

function retryAfter(header: string | undefined): number | null {
  const seconds = /^\d{1,6}$/.test(header ?? '') ? Number(header) : null;
  return seconds === null ? null : Math.min(MAX_RETRY_AFTER_MS, seconds * 1000);
}
