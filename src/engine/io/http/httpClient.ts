import * as http from 'node:http';
import * as https from 'node:https';
import * as tls from 'node:tls';

import { networkFailed } from '../../errors';
import { redactedUrl } from '../remote/address';
import { Transient } from './response';

/** As QEMU's `http` and `https` drivers have them (qapi: BlockdevOptionsCurlBase). */
export interface HttpClientOptions {
  /** Whether the server's certificate must be one that the system trusts; true when left out. */
  readonly sslverify?: boolean | undefined;
  /** Certificates (PEM) to trust besides the system's. */
  readonly ca?: readonly string[] | undefined;
  /** Milliseconds without a sign of life after which a request has failed; 20 s when left out. */
  readonly timeoutMs?: number | undefined;
  /** Sent as it is. */
  readonly cookie?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

const TIMEOUT_MS = 20_000;
const MAX_REDIRECTS = 10;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Connections to a server at a time. */
const MAX_SOCKETS = 4;

/** GET requests to one address, over connections that are kept. */
export class HttpClient {
  /** The address without its password. */
  readonly name: string;
  private readonly url: URL;
  private readonly options: HttpClientOptions;
  private readonly plain = new http.Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  private readonly secure: https.Agent;
  /** Where the address leads to; asked directly until that no longer works. */
  private target: URL;

  constructor(url: URL, options: HttpClientOptions) {
    const { sslverify = true, ca = [] } = options;
    this.name = redactedUrl(url);
    this.url = url;
    this.target = url;
    this.options = options;
    this.secure = new https.Agent({
      keepAlive: true,
      maxSockets: MAX_SOCKETS,
      rejectUnauthorized: sslverify,
      ca: [...trustedCertificates(), ...ca],
    });
  }

  /**
   * Asks, and follows where the server sends us.
   * @throws EngineError `network.failed` for what a further try would not mend; Transient
   */
  async get(headers: http.OutgoingHttpHeaders, signal: AbortSignal | undefined): Promise<http.IncomingMessage> {
    const direct = this.target;
    const response = await this.follow(direct, headers, signal);
    if (direct !== this.url && (response.statusCode ?? 0) >= 400) {
      // What a redirect led to may have been meant for a while only.
      response.destroy();
      return this.follow(this.url, headers, signal);
    }
    return response;
  }

  close(): void {
    this.plain.destroy();
    this.secure.destroy();
  }

  private async follow(from: URL, headers: http.OutgoingHttpHeaders, signal: AbortSignal | undefined): Promise<http.IncomingMessage> {
    let url = from;
    for (let count = 0; count <= MAX_REDIRECTS; count++) {
      const response = await this.once(url, headers, signal);
      if (!REDIRECTS.has(response.statusCode ?? 0)) {
        this.target = url;
        return response;
      }
      response.destroy();
      url = this.next(url, response.headers.location);
    }
    throw networkFailed(this.name, `The server redirects more than ${MAX_REDIRECTS} times.`);
  }

  private next(url: URL, location: string | undefined): URL {
    const next = location !== undefined && URL.canParse(location, url.href) ? new URL(location, url) : null;
    if (!next || !['http:', 'https:'].includes(next.protocol)) {
      throw networkFailed(this.name, 'The server redirects to what is no web address.');
    }
    if (url.protocol === 'https:' && next.protocol === 'http:') {
      throw networkFailed(this.name, `The server redirects from an encrypted to a plain connection (${redactedUrl(next)}).`);
    }
    return next;
  }

  private once(url: URL, headers: http.OutgoingHttpHeaders, signal: AbortSignal | undefined): Promise<http.IncomingMessage> {
    const encrypted = url.protocol === 'https:';
    const { timeoutMs = TIMEOUT_MS } = this.options;
    return new Promise((resolve, reject) => {
      const settings = {
        headers: { 'Accept-Encoding': 'identity', 'User-Agent': 'chainscope', ...this.credentials(url), ...headers },
        timeout: timeoutMs,
        signal,
      };
      const request = encrypted
        ? https.request(url, { ...settings, agent: this.secure })
        : http.request(url, { ...settings, agent: this.plain });
      let response: http.IncomingMessage | null = null;
      request.on('response', (answer) => {
        response = answer;
        resolve(answer);
      });
      request.on('timeout', () => (response ?? request).destroy(new Error(`No sign of life from the server for ${timeoutMs / 1000} s`)));
      request.on('error', (cause: NodeJS.ErrnoException) => reject(this.failure(cause, url)));
      request.end();
    });
  }

  /** Only for the server that they were given for. */
  private credentials(url: URL): http.OutgoingHttpHeaders {
    if (url.origin !== this.url.origin) {
      return {};
    }
    const username = this.options.username ?? decodeURIComponent(this.url.username);
    const password = this.options.password ?? decodeURIComponent(this.url.password);
    const { cookie } = this.options;
    return {
      ...(username === '' ? {} : { Authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }),
      ...(cookie === undefined ? {} : { Cookie: cookie }),
    };
  }

  private failure(cause: NodeJS.ErrnoException, url: URL): Error {
    const { code = '', message } = cause;
    if (code === 'ENOTFOUND') {
      return new Transient(`The server '${url.hostname}' is not known here.`, null, cause);
    }
    if (/CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL|HOSTNAME/.test(code)) {
      return networkFailed(this.name, `The server's certificate is not trusted (${message}).`, cause);
    }
    return new Transient(message === '' ? code : message, null, cause);
  }
}

let trusted: readonly string[] | null = null;

/** Node's own and the system's. */
function trustedCertificates(): readonly string[] {
  trusted ??= [...tls.rootCertificates, ...tls.getCACertificates('system')];
  return trusted;
}
