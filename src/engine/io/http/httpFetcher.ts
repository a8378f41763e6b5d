import type * as http from 'node:http';

import { cancelled, EngineError, networkChanged, networkFailed } from '../../errors';
import { SYSTEM_CLOCK, type JobClock } from '../../jobs/clock';
import { delayAfter, sleep, type BackOff } from '../remote/backOff';
import type { Connection, RangeFetcher } from '../remote/rangeFetcher';
import { HttpClient, type HttpClientOptions } from './httpClient';
import { readContentRange, requireUnchanged, strongEtag, Transient, validatorOf, type Validator } from './response';

export interface HttpOptions extends HttpClientOptions {
  readonly backOff?: BackOff | undefined;
  readonly clock?: JobClock | undefined;
  /** Told when the server goes out of reach and comes back. */
  readonly onConnection?: ((state: Connection) => void) | undefined;
  /** Ends the opening. */
  readonly signal?: AbortSignal | undefined;
}

const BACK_OFF: BackOff = { attempts: 5, firstMs: 250, mostMs: 4000 };
/** Whoever opens wants to know soon that nobody is there. */
const OPENING_ATTEMPTS = 2;

/**
 * A file on a web server, fetched by ranges (RFC 9110, section 14). Each answer must be of the file that was opened, by length and ETag or
 * time of change; an answer of another is `network.changed`.
 */
export class HttpFetcher implements RangeFetcher {
  readonly name: string;
  private readonly client: HttpClient;
  private readonly validator: Validator;
  private readonly requests: Requests;

  private constructor(requests: Requests, validator: Validator) {
    this.name = requests.client.name;
    this.client = requests.client;
    this.requests = requests;
    this.validator = validator;
  }

  /**
   * Asks for the first byte, which tells all that must be known; links that are signed for reading answer no other question.
   * @throws EngineError `network.failed`, also for a server that knows no ranges or gives nothing to tell a changed file by; `cancelled`
   */
  static async open(url: URL, options: HttpOptions = {}): Promise<HttpFetcher> {
    const requests = new Requests(new HttpClient(url, options), options);
    const { name } = requests.client;
    try {
      const validator = await requests.tryHard(OPENING_ATTEMPTS, options.signal, async () => {
        const response = await requests.client.get({ Range: 'bytes=0-0' }, options.signal);
        try {
          return validatorOf(response, readContentRange(name, response).size);
        } finally {
          response.destroy();
        }
      });
      if (validator.etag === null && validator.lastModified === null) {
        throw networkFailed(name, 'The server gives neither an ETag nor the time of the last change, so a change could not be seen.');
      }
      return new HttpFetcher(requests, validator);
    } catch (error) {
      requests.client.close();
      throw error;
    }
  }

  get size(): number {
    return this.validator.size;
  }

  async fetch(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let done = 0;
    await this.requests.tryHard(Infinity, signal, async () => {
      // What came before the connection broke is not fetched again.
      const response = await this.request(offset + done, length - done, signal);
      for await (const chunk of response as AsyncIterable<Buffer>) {
        if (done + chunk.length > length) {
          response.destroy();
          throw networkFailed(this.name, 'The server sends more than it was asked for.');
        }
        bytes.set(chunk, done);
        done += chunk.length;
      }
      if (done < length) {
        throw new Transient(`The answer ended after ${done} of ${length} bytes.`);
      }
    });
    return bytes;
  }

  close(): void {
    this.client.close();
  }

  private async request(first: number, length: number, signal: AbortSignal): Promise<http.IncomingMessage> {
    const etag = strongEtag(this.validator);
    const range = `bytes=${first}-${first + length - 1}`;
    const response = await this.client.get({ Range: range, ...(etag === null ? {} : { 'If-Range': etag }) }, signal);
    try {
      if (response.statusCode === 200 || response.statusCode === 412) {
        // With `If-Range` the whole file comes when it is another.
        this.requireSame(response, Number(response.headers['content-length'] ?? this.size));
      }
      const found = readContentRange(this.name, response);
      requireUnchanged(this.name, this.validator, response, found.size);
      if (found.first !== first || found.last !== first + length - 1) {
        throw networkFailed(this.name, `The server was asked for ${range} and sends ${found.first}-${String(found.last)}.`);
      }
      return response;
    } catch (error) {
      response.destroy();
      throw error;
    }
  }

  private requireSame(response: http.IncomingMessage, size: number): void {
    requireUnchanged(this.name, this.validator, response, size);
    if (response.statusCode === 412) {
      throw networkChanged(this.name, 'the server says so.');
    }
  }
}

/** Tries that fail for a reason that may pass, and what that says of the connection. */
class Requests {
  readonly client: HttpClient;
  private readonly backOff: BackOff;
  private readonly clock: JobClock;
  private readonly onConnection: (state: Connection) => void;
  private state: Connection = 'online';

  constructor(client: HttpClient, { backOff = BACK_OFF, clock = SYSTEM_CLOCK, onConnection }: HttpOptions) {
    this.client = client;
    this.backOff = backOff;
    this.clock = clock;
    this.onConnection = onConnection ?? (() => undefined);
  }

  /** @throws EngineError `network.failed` after the last try */
  async tryHard<T>(most: number, signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    for (let failed = 1; ; failed++) {
      try {
        const result = await attempt();
        this.is('online');
        return result;
      } catch (error) {
        if (signal?.aborted) {
          throw cancelled();
        }
        if (error instanceof EngineError) {
          throw error;
        }
        const reason = error instanceof Error ? error.message : String(error);
        if (failed >= Math.min(most, this.backOff.attempts)) {
          this.is('offline');
          throw networkFailed(this.client.name, `${reason.replace(/\.?$/, '.')} It was tried ${failed} times.`, error);
        }
        this.is('retrying');
        const asked = error instanceof Transient ? error.retryAfterMs : null;
        await sleep(this.clock, Math.max(asked ?? 0, delayAfter(failed, this.backOff)), signal);
      }
    }
  }

  private is(state: Connection): void {
    if (state !== this.state) {
      this.state = state;
      this.onConnection(state);
    }
  }
}
