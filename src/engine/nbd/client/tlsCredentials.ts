import * as path from 'node:path';

import { EngineError } from '../../errors';
import { readSmallFile } from '../../io/smallFile';
import type { NbdTls } from './socket';

const MOST_BYTES = 256 * 1024;

/** Where a client's credentials lie, as QEMU's `tls-creds-x509` and `tls-creds-psk` objects with a client's endpoint say it. */
export type TlsObject =
  | { readonly type: 'x509'; readonly folder: string; readonly verifyPeer: boolean }
  | { readonly type: 'psk'; readonly folder: string; readonly username: string };

/** By the ID that names use; for the whole process, as QEMU's objects are. */
const objects = new Map<string, TlsObject>();

export function defineTlsObject(id: string, object: TlsObject): void {
  objects.set(id, object);
}

/** All that are defined, for another thread to define. */
export function definedTlsObjects(): readonly (readonly [string, TlsObject])[] {
  return [...objects];
}

/** The credentials of an ID; null when there are none. @throws as `readClientCredentials` */
export function definedCredentials(id: string): NbdTls | null {
  const object = objects.get(id);
  return object ? readClientCredentials(object) : null;
}

/**
 * Reads the files of a folder as QEMU and GnuTLS call them; a client need not have a certificate of its own.
 * @throws EngineError `file.notFound`, `file.notAccessible`, `file.io`, `request.invalid`
 */
export function readClientCredentials(object: TlsObject): NbdTls {
  const file = (name: string): string => new TextDecoder().decode(readSmallFile(path.join(object.folder, name), MOST_BYTES));
  if (object.type === 'psk') {
    return { psk: { username: object.username, key: findKey(file('keys.psk'), object) } };
  }
  const common: NbdTls = { ca: [file('ca-cert.pem')], verifyPeer: object.verifyPeer };
  const certificate = optional(() => file('client-cert.pem'));
  return certificate === null ? common : { ...common, certificate, key: file('client-key.pem') };
}

/** Lines of a user's name and his key in hexadecimal digits. */
function findKey(text: string, { folder, username }: { readonly folder: string; readonly username: string }): Uint8Array {
  for (const line of text.split('\n')) {
    const [name, key = ''] = line.trim().split(':', 2);
    if (name === username && /^([0-9a-fA-F]{2})+$/.test(key)) {
      return Buffer.from(key, 'hex');
    }
  }
  throw new EngineError('request.invalid', `Username '${username}' not found in the keys of '${folder}'`);
}

function optional(read: () => string): string | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof EngineError && error.code === 'file.notFound') {
      return null;
    }
    throw error;
  }
}
