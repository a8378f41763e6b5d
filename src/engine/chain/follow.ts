import type { LinkState } from '../../protocol/chain';
import { EngineError } from '../errors';
import { resolveName } from '../gate/filename';
import type { NamedFile, OpeningGate } from '../gate/gate';
import { FileSource } from '../io/file';
import { BlockingSource } from '../io/remote/blockingSource';
import { Unreachable, type Connection } from '../io/remote/rangeFetcher';
import { openRemote } from '../io/remote/openRemote';
import type { ByteSource } from '../io/source';
import type { RemoteName } from '../gate/remoteName';

/** A name that stands in an image. */
export interface Reference {
  readonly role: NamedFile['role'];
  readonly recordedName: string;
  /** The format's name as the image records it; null when it records none. */
  readonly format: string | null;
}

/** The image that holds a name, as far as resolving it needs. */
export interface Holder {
  readonly path: string;
  readonly filename: string;
}

/** What following a name led to: an open file, or a link that says why not. `path` is null when the name is no local file. */
export type Followed =
  | { readonly source: ByteSource; readonly path: string | null; readonly filename: string }
  | { readonly source: null; readonly path: string | null; readonly state: Exclude<LinkState, { kind: 'open' }> };

/** How what a name leads to is opened. */
export interface Openers {
  readonly file: (path: string, name: string) => ByteSource;
  readonly remote: (name: RemoteName) => Promise<ByteSource>;
}

/** For reading. */
export const READING: Openers = {
  file: (path, name) => FileSource.open(path, name),
  remote: (name) => openRemote(name, { writable: false }),
};

/** For reading, telling when a server goes out of reach and comes back. */
export function watchingConnections(onConnection: (filename: string, state: Connection) => void): Openers {
  return {
    ...READING,
    remote: (name) => openRemote(name, { writable: false, onConnection: (state) => onConnection(name.filename, state) }),
  };
}

/**
 * For reading by code that knows nothing of waiting: the thread stands still until a server has answered.
 * @param patienceMs milliseconds after which it has failed
 */
export function waiting(patienceMs: number): Openers {
  return { ...READING, remote: (name) => Promise.resolve().then(() => BlockingSource.open(name.recorded, patienceMs)) };
}

/** For a view, whose other requests wait meanwhile. */
export const LOOKING = waiting(15_000);

/**
 * Resolves a name, asks the gate, and opens the file. Nothing of the named file, not even its existence, is looked at before the gate said
 * yes.
 */
export async function follow(
  reference: Reference,
  holder: Holder,
  gate: OpeningGate,
  currentFolder: string | undefined,
  open: Openers,
): Promise<Followed> {
  const { role, recordedName } = reference;
  const name = resolveName(recordedName, { role, currentFolder, imageFilename: holder.filename });
  const decision = await gate.decide({
    role,
    recordedName,
    image: holder.path,
    path: name.realPath,
    protocol: name.protocol,
    address: name.remote?.filename ?? null,
  });
  if (!decision.allowed) {
    return { source: null, path: name.path, state: { kind: 'refused', reason: decision.reason } };
  }
  const { replacement } = decision;
  if (replacement === undefined && name.remote) {
    try {
      return { path: null, filename: name.remote.filename, source: await open.remote(name.remote) };
    } catch (error) {
      return { source: null, path: null, state: notOpen(error) };
    }
  }
  const path = replacement ?? name.path;
  const filename = replacement ?? name.filename;
  // What the gate judged is what is opened: the name with its symbolic links resolved.
  const target = replacement ?? name.realPath;
  if (path === null || target === null) {
    return { source: null, path, state: { kind: 'refused', reason: 'protocol' } };
  }
  try {
    return { path, filename, source: open.file(target, filename) };
  } catch (error) {
    return { source: null, path, state: notOpen(error) };
  }
}

/** How a link looks whose file did not open, or is no image that can be read. Errors that no input explains pass through. */
export function notOpen(error: unknown): Exclude<LinkState, { kind: 'open' }> {
  if (!(error instanceof EngineError) || error.code === 'cancelled') {
    throw error;
  }
  if (error.code === 'file.notFound') {
    return { kind: 'missing' };
  }
  const server = error instanceof Unreachable ? error.state : error.code === 'network.failed' ? 'offline' : null;
  return { kind: 'unreadable', message: error.message, ...(server === null ? {} : { server }) };
}
