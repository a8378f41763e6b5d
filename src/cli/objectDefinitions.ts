import { readServerCredentials, type ServerCredentials } from '../engine/exports/serverCredentials';
import { readSmallFile } from '../engine/io/smallFile';
import { defineTlsObject, type TlsObject } from '../engine/nbd/client/tlsCredentials';
import { CommandError } from './errors';
import { splitWords } from './keyValues';

/** A passphrase is short; what is longer is some other file. */
const MOST_SECRET_BYTES = 64 * 1024;

/** Object types that qemu-img lets be made on its command line. */
const TYPES = new Set([
  'authz-list',
  'authz-list-file',
  'authz-simple',
  'iothread',
  'main-loop',
  'pr-manager-helper',
  'secret',
  'secret_keyring',
  'thread-context',
  'throttle-group',
  'tls-cipher-suites',
  'tls-creds-anon',
  'tls-creds-psk',
  'tls-creds-x509',
]);

/** What a server shows its clients, and what it demands of them. */
export interface TlsCredentials extends ServerCredentials {
  /** Clients must show a certificate. */
  readonly verifyPeer: boolean;
}

/**
 * Takes `--object` definitions: the secrets of encrypted images, and the certificates of servers. Other objects are only checked. Files are
 * read when they are used.
 */
export class ObjectDefinitions {
  private readonly objects = new Map<string, ReadonlyMap<string, string>>();
  private readonly exitCode: number;

  /** @param exitCode for a definition that is wrong */
  constructor(exitCode: number) {
    this.exitCode = exitCode;
  }

  /** @throws CommandError */
  add(definition: string): void {
    const properties = definition.startsWith('{') ? this.fromJson(definition) : fromWords(definition);
    const type = properties.get('qom-type') ?? '';
    if (!TYPES.has(type)) {
      throw this.refuse(`Parameter 'qom-type' does not accept value '${type}'`);
    }
    const id = properties.get('id');
    if (!id) {
      throw this.refuse("Parameter 'id' is missing");
    }
    if (type === 'secret' && properties.has('file') === properties.has('data')) {
      throw this.refuse(properties.has('file') ? "'file' and 'data' are mutually exclusive" : "Either 'file' or 'data' must be provided");
    }
    if (this.objects.has(id)) {
      throw this.refuse(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    this.objects.set(id, properties);
    const client = clientObject(type, properties);
    if (client) {
      defineTlsObject(id, client);
    }
  }

  /**
   * The files that a `tls-creds-x509` object names by its folder (`dir`), as QEMU and GnuTLS call them.
   * @throws CommandError, EngineError `file.notFound`, `file.io`
   */
  tlsCredentials(id: string): TlsCredentials {
    const properties = this.objects.get(id);
    if (!properties) {
      throw this.refuse(`No TLS credentials with id '${id}'`);
    }
    const folder = properties.get('dir');
    if (properties.get('qom-type') !== 'tls-creds-x509' || folder === undefined) {
      throw this.refuse(`'${id}' is no object of the type tls-creds-x509 with a folder ('dir')`);
    }
    if (properties.get('endpoint') !== 'server') {
      throw this.refuse('Expecting TLS credentials with a server endpoint');
    }
    return { ...readServerCredentials(folder), verifyPeer: verifiesPeer(properties) };
  }

  /** The bytes of a secret; null when there is none of that ID. @throws CommandError, EngineError `file.notFound`, `file.io` */
  secret(id: string): Uint8Array | null {
    const properties = this.objects.get(id);
    if (properties?.get('qom-type') !== 'secret') {
      return null;
    }
    if (properties.has('keyid')) {
      throw this.refuse(`Secret '${id}' is itself encrypted, which is not available in this version`);
    }
    const file = properties.get('file');
    const bytes = file === undefined ? new TextEncoder().encode(properties.get('data')) : readSmallFile(file, MOST_SECRET_BYTES);
    const format = properties.get('format') ?? 'raw';
    if (format !== 'raw' && format !== 'base64') {
      throw this.refuse(`Parameter 'format' does not accept value '${format}'`);
    }
    return format === 'raw' ? bytes : Uint8Array.from(Buffer.from(Buffer.from(bytes).toString('latin1'), 'base64'));
  }

  private fromJson(definition: string): Map<string, string> {
    try {
      return new Map(Object.entries(JSON.parse(definition) as object).map(([key, value]) => [key, String(value)]));
    } catch (error) {
      throw this.refuse(`JSON parse error: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  private refuse(message: string): CommandError {
    return new CommandError(message, this.exitCode);
  }
}

/** What opening a server's export may need, by its ID; null for every other object. */
function clientObject(type: string, properties: ReadonlyMap<string, string>): TlsObject | null {
  const folder = properties.get('dir');
  if (properties.get('endpoint') === 'server' || folder === undefined) {
    return null;
  }
  if (type === 'tls-creds-psk') {
    return { type: 'psk', folder, username: properties.get('username') ?? 'qemu' };
  }
  return type === 'tls-creds-x509' ? { type: 'x509', folder, verifyPeer: verifiesPeer(properties) } : null;
}

function verifiesPeer(properties: ReadonlyMap<string, string>): boolean {
  const verify = properties.get('verify-peer') ?? 'on';
  return verify === 'on' || verify === 'yes' || verify === 'true';
}

/** `secret,id=x,data=y`: the first word is the type, with or without its key. */
function fromWords(definition: string): Map<string, string> {
  const words = splitWords(definition);
  const first = words[0] ?? '';
  return new Map(
    [first.includes('=') ? first : `qom-type=${first}`, ...words.slice(1)].map((word) => {
      const equals = word.indexOf('=');
      return equals < 0 ? [word, 'on'] : [word.slice(0, equals), word.slice(equals + 1)];
    }),
  );
}
