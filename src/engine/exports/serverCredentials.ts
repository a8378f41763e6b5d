import { join } from 'node:path';

import { readSmallFile } from '../io/smallFile';

const MOST_PEM_BYTES = 256 * 1024;

/** What a server shows its clients, as PEM. */
export interface ServerCredentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/**
 * Reads the files of a folder as QEMU's `tls-creds-x509` and GnuTLS call them.
 * @throws EngineError `file.notFound`, `file.notAccessible`, `file.io`, `request.invalid`
 */
export function readServerCredentials(folder: string): ServerCredentials {
  const file = (name: string): Buffer => Buffer.from(readSmallFile(join(folder, name), MOST_PEM_BYTES));
  return { ca: file('ca-cert.pem'), cert: file('server-cert.pem'), key: file('server-key.pem') };
}
