import { EngineError } from '../../errors';

/** A server's socket. */
export type NbdSocket =
  { readonly type: 'inet'; readonly host: string; readonly port: number } | { readonly type: 'unix'; readonly path: string };

export interface NbdAddress {
  readonly protocol: 'nbd';
  readonly socket: NbdSocket;
  /** Empty for the server's default. */
  readonly exportName: string;
  readonly tls: boolean;
}

export interface HttpAddress {
  readonly protocol: 'http';
  /** As it was given. */
  readonly name: string;
  readonly url: URL;
}

export type RemoteAddress = NbdAddress | HttpAddress;

/** The port that IANA gave NBD. */
const NBD_PORT = 10809;
/** Bytes of the longest export name. */
const MAX_NAME = 4096;

/** The protocols of names that lead to a server we can read from. */
export const REMOTE_PROTOCOLS: ReadonlySet<string> = new Set([
  'http',
  'https',
  'nbd',
  'nbd+tcp',
  'nbd+unix',
  'nbds',
  'nbds+tcp',
  'nbds+unix',
]);

/**
 * Takes a name apart as QEMU does (block/nbd.c, block/curl.c; the NBD project's doc/uri.md): `http://...`, `nbd://host:port/export`,
 * `nbd+unix:///export?socket=path`, and the older `nbd:host:port:exportname=x` and `nbd:unix:path:exportname=x`.
 * @throws EngineError `address.invalid`
 */
export function parseRemoteName(name: string): RemoteAddress {
  const protocol = name.slice(0, Math.max(0, name.indexOf(':')));
  if (!REMOTE_PROTOCOLS.has(protocol)) {
    throw invalidAddress(name, `Unknown protocol '${protocol}'`);
  }
  if (protocol.startsWith('http')) {
    if (!/^https?:\/\/[^/]/.test(name) || !URL.canParse(name)) {
      throw invalidAddress(name, 'It is no web address.');
    }
    return { protocol: 'http', name, url: new URL(name) };
  }
  const address = name.includes('://') ? parseNbdUri(name, protocol) : parseNbdName(name);
  if (Buffer.byteLength(address.exportName) > MAX_NAME) {
    throw invalidAddress(name.slice(0, 80), 'export name too long to send to server');
  }
  return address;
}

/** The name as QEMU shows it. */
export function remoteFilename(address: RemoteAddress): string {
  if (address.protocol === 'http') {
    return address.name;
  }
  const { socket, exportName, tls } = address;
  const scheme = tls ? 'nbds' : 'nbd';
  const path = exportName === '' ? '' : `/${exportName}`;
  if (socket.type === 'unix') {
    return `${scheme}+unix://${path}?socket=${socket.path}`;
  }
  const host = socket.host.includes(':') ? `[${socket.host}]` : socket.host;
  return `${scheme}://${host}:${socket.port}${path}`;
}

/** A URL as it may be shown. */
export function redactedUrl(url: URL): string {
  if (url.password === '') {
    return url.href;
  }
  const shown = new URL(url);
  shown.password = '***';
  return shown.href;
}

function parseNbdUri(name: string, scheme: string): NbdAddress {
  // Not `URL`: what it makes of a path under an unknown scheme is not what stands there.
  const match = /^[^:]+:\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?$/.exec(name);
  if (!match) {
    throw invalidAddress(name, 'It is no NBD address.');
  }
  const [, authority = '', path = '', query = ''] = match;
  const exportName = decoded(path, name).replace(/^\/+/, '');
  const tls = scheme.startsWith('nbds');
  if (scheme.endsWith('+unix')) {
    const parameters = query.split('&').map((parameter) => parameter.split('=', 2));
    const socket = parameters.length === 1 && parameters[0]?.[0] === 'socket' ? parameters[0][1] : undefined;
    if (authority !== '' || socket === undefined || socket === '') {
      throw invalidAddress(name, 'An address of a Unix socket looks like this: nbd+unix:///export?socket=path');
    }
    return { protocol: 'nbd', exportName, tls, socket: { type: 'unix', path: decoded(socket, name) } };
  }
  if (query !== '') {
    throw invalidAddress(name, 'An address of a TCP port has no parameters.');
  }
  return { protocol: 'nbd', exportName, tls, socket: inet(authority.slice(authority.lastIndexOf('@') + 1), name, NBD_PORT) };
}

/** `nbd:host:port` and `nbd:unix:path`, with `:exportname=...` behind. */
function parseNbdName(name: string): NbdAddress {
  const marker = ':exportname=';
  const at = name.indexOf(marker);
  const exportName = at < 0 ? '' : name.slice(at + marker.length);
  const place = name.slice('nbd:'.length, at < 0 ? undefined : at);
  if (!name.startsWith('nbd:')) {
    throw invalidAddress(name, 'It is no NBD address.');
  }
  if (place.startsWith('unix:')) {
    const path = place.slice('unix:'.length);
    if (path === '') {
      throw invalidAddress(name, 'The path of the socket is missing.');
    }
    return { protocol: 'nbd', exportName, tls: false, socket: { type: 'unix', path } };
  }
  return { protocol: 'nbd', exportName, tls: false, socket: inet(place, name, null) };
}

function inet(text: string, name: string, defaultPort: number | null): NbdSocket {
  const match = /^(\[[0-9a-fA-F:.%]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (!match || port === null || port < 1 || port > 65535) {
    throw invalidAddress(name, 'It has no host or no port.');
  }
  return { type: 'inet', host: (match[1] ?? '').replace(/^\[|\]$/g, ''), port };
}

function decoded(text: string, name: string): string {
  try {
    const result = decodeURIComponent(text);
    if (!result.includes('\0')) {
      return result;
    }
  } catch {
    // A stray percent sign: said below.
  }
  throw invalidAddress(name, 'Its percent signs do not make characters.');
}

function invalidAddress(name: string, what: string): EngineError {
  return new EngineError('address.invalid', `${name}: ${what}`, { file: name });
}
