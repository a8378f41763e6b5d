import { EngineError } from '../../errors';
import type { RemoteName } from '../../gate/remoteName';
import type { JobClock } from '../../jobs/clock';
import { NbdStorage } from '../../nbd/client/nbdStorage';
import type { NbdTls } from '../../nbd/client/socket';
import { definedCredentials } from '../../nbd/client/tlsCredentials';
import { HttpFetcher } from '../http/httpFetcher';
import type { Storage } from '../storage';
import { redactedUrl } from './address';
import type { Connection } from './rangeFetcher';
import { RemoteSource } from './remoteSource';

export interface OpenRemoteOptions {
  /** Whether it shall be written; only NBD exports can be. */
  readonly writable: boolean;
  /** Ends the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Bytes of it that are kept in memory; 32 MiB when left out. */
  readonly capacity?: number | undefined;
  readonly clock?: JobClock | undefined;
  /** Told when the server goes out of reach and comes back. */
  readonly onConnection?: ((state: Connection) => void) | undefined;
  /** The credentials that a name's `tls-creds` stands for; those that are defined in this process when left out. */
  readonly tlsCredentials?: ((id: string) => NbdTls | null) | undefined;
}

/**
 * Opens what a name leads to (see `remoteNameOf`), as a storage whose `read` and `extentAt` throw `NotLoaded` for what has to be fetched
 * first. The caller closes it.
 * @throws EngineError `network.failed`, `request.readOnly`, `address.invalid`, `cancelled`
 */
export async function openRemote({ address, settings }: RemoteName, options: OpenRemoteOptions): Promise<Storage> {
  const { writable, signal, capacity, clock, onConnection, tlsCredentials = definedCredentials } = options;
  const common = { signal, clock, onConnection };
  const cache = { capacity, readAhead: settings.readahead };
  if (address.protocol === 'nbd') {
    const { tlsCreds, tlsHostname, reconnectDelayMs, openTimeoutMs } = settings;
    const credentials = tlsCreds === undefined ? {} : tlsCredentials(tlsCreds);
    if (!credentials) {
      throw new EngineError('address.invalid', `No TLS credentials with id '${String(tlsCreds)}'`);
    }
    const tls = tlsHostname === undefined ? credentials : { ...credentials, hostname: tlsHostname };
    return NbdStorage.open(address, { ...common, ...cache, writable, tls, reconnectDelayMs, connectTimeoutMs: openTimeoutMs });
  }
  if (writable) {
    throw new EngineError('request.readOnly', `${redactedUrl(address.url)}: A file on a web server is only read.`);
  }
  const { sslverify, timeoutMs, cookie, username } = settings;
  const fetcher = await HttpFetcher.open(address.url, { ...common, sslverify, timeoutMs, cookie, username });
  return new RemoteSource(fetcher, () => fetcher.close(), cache);
}
