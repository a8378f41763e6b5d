import { EngineError } from '../errors';
import { parseRemoteName, REMOTE_PROTOCOLS, remoteFilename, type NbdSocket, type RemoteAddress } from '../io/remote/address';
import { describedNode, type NodeOptions } from './jsonName';

/** How a server is talked to, as far as a name says (QAPI: BlockdevOptionsCurlBase, BlockdevOptionsNbd). */
export interface RemoteSettings {
  /** False to take any certificate. */
  readonly sslverify?: boolean | undefined;
  /** Bytes that are fetched ahead. */
  readonly readahead?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly cookie?: string | undefined;
  readonly username?: string | undefined;
  /** ID of the object with the credentials. */
  readonly tlsCreds?: string | undefined;
  readonly tlsHostname?: string | undefined;
  readonly reconnectDelayMs?: number | undefined;
  readonly openTimeoutMs?: number | undefined;
}

/** A name that leads to a server, and what it says of it. */
export interface RemoteName {
  /** The name as QEMU shows it: an address, or a `json:` description where an address does not say it all. */
  readonly filename: string;
  /** A name that says all of it. */
  readonly recorded: string;
  /** Of the address: `http`, `nbd+unix`, ... */
  readonly protocol: string;
  readonly address: RemoteAddress;
  readonly settings: RemoteSettings;
}

/** What remains of a description when these are taken away changes nothing of what is read. */
const IGNORED = ['driver', 'node-name', 'read-only', 'auto-read-only', 'discard', 'detect-zeroes', 'force-share', 'cache'];
const CURL = new Set([...IGNORED, 'url', 'filename', 'sslverify', 'readahead', 'timeout', 'cookie', 'username']);
const NBD_OPTIONS = ['server', 'host', 'port', 'path', 'export', 'tls-creds', 'tls-hostname', 'reconnect-delay', 'open-timeout'];
const NBD = new Set([...IGNORED, ...NBD_OPTIONS, 'filename']);

/**
 * The server that a name leads to, be it an address or a `json:` description of one, perhaps below format drivers; null for every other
 * name, also of servers that cannot be read.
 * @throws EngineError `address.invalid` for an address that is none
 */
export function remoteNameOf(name: string): RemoteName | null {
  const protocol = name.slice(0, Math.max(0, name.indexOf(':')));
  if (protocol === 'json') {
    const node = describedNode(name);
    return node && describedRemote(node);
  }
  return REMOTE_PROTOCOLS.has(protocol) ? plain(parseRemoteName(name), name) : null;
}

/** The server that a node of a protocol driver describes; null for every other node. @throws EngineError `address.invalid` */
export function describedRemote(node: NodeOptions): RemoteName | null {
  const { driver, filename } = node;
  if (typeof filename === 'string') {
    const address = REMOTE_PROTOCOLS.has(filename.split(':', 1)[0] ?? '') ? parseRemoteName(filename) : null;
    const matches = address && (driver === undefined || driver === address.protocol || driver === filename.split(':', 1)[0]);
    return matches ? withSettings(address, node, address.protocol === 'nbd' ? NBD : CURL) : null;
  }
  if (driver === 'http' || driver === 'https') {
    if (typeof node['url'] !== 'string' || !node['url'].startsWith(`${driver}:`)) {
      throw invalid(`The driver '${driver}' needs a URL of its own protocol`);
    }
    return withSettings(parseRemoteName(node['url']), node, CURL);
  }
  if (driver !== 'nbd') {
    return null;
  }
  const address: RemoteAddress = {
    protocol: 'nbd',
    socket: socketOf(node),
    exportName: text(node['export']) ?? '',
    tls: node['tls-creds'] !== undefined,
  };
  return withSettings(address, node, NBD);
}

function plain(address: RemoteAddress, recorded: string): RemoteName {
  const filename = remoteFilename(address);
  return { filename, recorded, address, protocol: filename.slice(0, filename.indexOf(':')), settings: {} };
}

function withSettings(address: RemoteAddress, node: NodeOptions, known: ReadonlySet<string>): RemoteName {
  const foreign = Object.keys(node).find((key) => !known.has(key));
  if (foreign !== undefined) {
    throw invalid(`The option '${foreign}' of the driver '${address.protocol}' is not available in this version`);
  }
  const settings: RemoteSettings = {
    sslverify: flag(node['sslverify']),
    readahead: count(node['readahead']),
    timeoutMs: seconds(node['timeout']),
    cookie: text(node['cookie']),
    username: text(node['username']),
    tlsCreds: text(node['tls-creds']),
    tlsHostname: text(node['tls-hostname']),
    reconnectDelayMs: seconds(node['reconnect-delay']),
    openTimeoutMs: seconds(node['open-timeout']),
  };
  const recorded = `json:${JSON.stringify(node)}`;
  const result = plain(address, recorded);
  // As QEMU has it, these are a part of the name.
  const telling = settings.sslverify === false || settings.cookie !== undefined || settings.tlsCreds !== undefined;
  return { ...result, settings, filename: telling ? recorded : result.filename };
}

function socketOf(node: NodeOptions): NbdSocket {
  const server = typeof node['server'] === 'object' && node['server'] !== null ? (node['server'] as NodeOptions) : node;
  const path = text(server['path']);
  if (path !== undefined && (server['type'] === undefined || server['type'] === 'unix')) {
    return { type: 'unix', path };
  }
  const host = text(server['host']);
  const port = count(server['port'] ?? (server === node ? 10809 : undefined));
  if (host === undefined || port === undefined || port < 1 || port > 65535) {
    throw invalid('The NBD server needs a host and a port, or the path of a socket');
  }
  return { type: 'inet', host, port };
}

function text(value: unknown): string | undefined {
  if (value !== undefined && (typeof value !== 'string' || value.includes('\0'))) {
    throw invalid('An option of a remote name is not a string');
  }
  return value;
}

function count(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value;
  if (number !== undefined && !(typeof number === 'number' && Number.isSafeInteger(number) && number >= 0)) {
    throw invalid('An option of a remote name is not a number');
  }
  return number;
}

function seconds(value: unknown): number | undefined {
  const number = count(value);
  return number === undefined ? undefined : number * 1000;
}

function flag(value: unknown): boolean | undefined {
  if (value === undefined) {
    return undefined;
  }
  if (value === true || value === 'on' || value === false || value === 'off') {
    return value === true || value === 'on';
  }
  throw invalid('A switch of a remote name is neither on nor off');
}

function invalid(what: string): EngineError {
  return new EngineError('address.invalid', what);
}
