import * as net from 'node:net';
import * as tls from 'node:tls';

import { cancelled } from '../../errors';
import type { NbdSocket } from '../../io/remote/address';
import type { JobClock } from '../../jobs/clock';
import { ConnectionLost } from './failures';

/** What a client proves itself and knows the server by; as QEMU's `tls-creds-x509` and `tls-creds-psk` objects have it. */
export interface NbdTls {
  /** Certificates (PEM) of the authorities to trust; the system's when left out. */
  readonly ca?: readonly string[] | undefined;
  /** The client's own (PEM). */
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  /** The name that the server's certificate must have (`tls-hostname`); the host's when left out. */
  readonly hostname?: string | undefined;
  /** Whether the server's certificate is checked (`verify-peer`); true when left out. */
  readonly verifyPeer?: boolean | undefined;
  /** A key that both sides have, instead of certificates. */
  readonly psk?: { readonly username: string; readonly key: Uint8Array } | undefined;
}

export interface ConnectOptions {
  /** Milliseconds until connection and handshake must be made. */
  readonly timeoutMs: number;
  readonly clock: JobClock;
  readonly signal?: AbortSignal | undefined;
}

/** Opens a connection, without a word of a protocol yet. @throws ConnectionLost; EngineError `cancelled` */
export function connectSocket(address: NbdSocket, { signal }: Pick<ConnectOptions, 'signal'>): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled());
      return;
    }
    const socket = address.type === 'unix' ? net.connect({ path: address.path }) : net.connect({ host: address.host, port: address.port });
    const abort = () => {
      socket.destroy();
      reject(cancelled());
    };
    signal?.addEventListener('abort', abort, { once: true });
    socket.once('error', (cause) => {
      signal?.removeEventListener('abort', abort);
      reject(new ConnectionLost(`Connecting failed: ${cause.message}`, { cause }));
    });
    socket.once('connect', () => {
      signal?.removeEventListener('abort', abort);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 30_000);
      resolve(socket);
    });
  });
}

/** Goes over to TLS on a connection. @throws ConnectionLost when the two do not trust each other */
export function encrypt(socket: net.Socket, host: string | null, credentials: NbdTls): Promise<tls.TLSSocket> {
  const { ca, certificate, key, hostname = host ?? undefined, verifyPeer = true, psk } = credentials;
  if (hostname === undefined && verifyPeer && !psk) {
    return Promise.reject(new ConnectionLost('No hostname for certificate validation'));
  }
  const servername = hostname !== undefined && net.isIP(hostname) === 0 ? { servername: hostname } : {};
  const common: tls.ConnectionOptions = { socket, ...servername };
  const options: tls.ConnectionOptions = psk
    ? {
        ...common,
        // OpenSSL's keys of this kind are TLS 1.2's; the name is not what is trusted.
        maxVersion: 'TLSv1.2',
        ciphers: 'kECDHEPSK:kDHEPSK:kPSK',
        pskCallback: () => ({ psk: Buffer.from(psk.key), identity: psk.username }),
        checkServerIdentity: () => undefined,
      }
    : {
        ...common,
        rejectUnauthorized: verifyPeer,
        ...(ca ? { ca: [...ca] } : {}),
        ...(certificate === undefined ? {} : { cert: certificate }),
        ...(key === undefined ? {} : { key }),
        ...(hostname === undefined ? {} : { checkServerIdentity: (_host, peer) => tls.checkServerIdentity(hostname, peer) }),
      };
  return new Promise((resolve, reject) => {
    const secure = tls.connect(options);
    secure.once('secureConnect', () => resolve(secure));
    secure.once('error', (cause: Error) => reject(new ConnectionLost(`TLS failed: ${cause.message}`, { cause })));
    secure.once('close', () => reject(new ConnectionLost('The server closed the connection instead of going over to TLS.')));
  });
}
