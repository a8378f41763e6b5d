import * as path from 'node:path';

import { realPath } from '../io/realPath';
import { EngineError } from '../errors';
import { REMOTE_PROTOCOLS } from '../io/remote/address';
import { jsonFileName } from './jsonName';
import { remoteNameOf, type RemoteName } from './remoteName';

/** A recorded name, taken apart. */
export interface ResolvedName {
  /** The name as QEMU would open and print it: the recorded one, or put behind the overlay's folder when it is relative. */
  readonly filename: string;
  /** Absolute path as short as can be with its symbolic links left in it; null when the name is no local file. */
  readonly path: string | null;
  /** The same with symbolic links resolved as far as they exist; what a gate judges and what is opened. */
  readonly realPath: string | null;
  /** The prefix of a protocol name (`json`, `nbd`, `http`, ...); null for a plain file name. `file:` counts as plain. */
  readonly protocol: string | null;
  /** The server that the name leads to, when it is one that can be read. Its `protocol` is then the server's, also below `json:`. */
  readonly remote: RemoteName | null;
}

/** Which base a relative name has depends on what it names. */
export interface NameContext {
  /** How the image that holds the name was itself named; the folder part of it goes before a relative backing file name. */
  readonly imageFilename: string;
  readonly role: 'backing' | 'data-file' | 'extent';
  /**
   * Folder that QEMU would run in: `file:` and `json:` names and relative data files are relative to it. Without one (a window has no
   * current folder) the image's own folder is taken.
   */
  readonly currentFolder?: string | undefined;
}

/**
 * Resolves a name that stands in an image as QEMU 7.2 does (block.c: path_has_protocol, path_combine, bdrv_make_absolute_filename; seen
 * with qemu-img and qemu-io): a relative backing file lies relative to the folder in the overlay's *name* - symbolic links in it are not
 * resolved first -, whereas a data file's name, or one behind `file:`, is relative to the current folder.
 */
export function resolveName(recorded: string, context: NameContext): ResolvedName {
  return local(placeName(recorded, context));
}

/** The name as QEMU would open and print it; nothing of the file that it names is touched. */
export function openedName(recorded: string, context: NameContext): string {
  return placeName(recorded, context).filename;
}

interface PlacedName {
  readonly filename: string;
  readonly remote?: RemoteName | undefined;
  /** Not yet followed; null when the name is no local file. */
  readonly absolute: string | null;
  readonly protocol: string | null;
}

function placeName(recorded: string, context: NameContext): PlacedName {
  const { imageFilename, role } = context;
  // To QEMU, which is written in C, a name ends at its first NUL, however long the image says it is.
  const recordedName = recorded.split('\0', 1)[0] ?? '';
  const imageFolder = folderOf(imageFilename);
  const absoluteImageFolder = against(process.cwd(), stripFilePrefix(imageFolder));
  const currentFolder = context.currentFolder ?? absoluteImageFolder;
  const protocol = protocolOf(recordedName);
  const remote = protocol === null ? null : remoteOrNull(recordedName);
  if (remote) {
    return { filename: recordedName, absolute: null, protocol: remote.protocol, remote };
  }
  if (protocol === 'json') {
    const name = jsonFileName(recordedName);
    return { filename: recordedName, absolute: name === null ? null : against(currentFolder, name), protocol: 'json' };
  }
  if (protocol === 'file') {
    return { filename: recordedName, absolute: against(currentFolder, stripFilePrefix(recordedName)), protocol: null };
  }
  if (protocol !== null) {
    return { filename: recordedName, absolute: null, protocol };
  }
  if (path.isAbsolute(recordedName)) {
    return { filename: recordedName, absolute: recordedName, protocol: null };
  }
  const holder = protocolOf(imageFilename) ?? '';
  if (role !== 'data-file' && REMOTE_PROTOCOLS.has(holder)) {
    // Beside it on the web server; an export has nothing beside it.
    const beside = imageFolder + recordedName;
    const found = holder.startsWith('http') ? remoteOrNull(beside) : null;
    return { filename: found ? beside : recordedName, absolute: null, protocol: holder, remote: found ?? undefined };
  }
  if (role === 'data-file') {
    return { filename: recordedName, absolute: against(currentFolder, recordedName), protocol: null };
  }
  return { filename: imageFolder + recordedName, absolute: against(absoluteImageFolder, recordedName), protocol: null };
}

/** The protocol prefix of a file name: what stands before a colon that comes before any slash; null without one. */
export function protocolOf(name: string): string | null {
  const end = name.search(process.platform === 'win32' ? /[:/\\]/ : /[:/]/);
  if (end < 0 || name[end] !== ':' || (process.platform === 'win32' && /^[a-zA-Z]:/.test(name))) {
    return null;
  }
  return name.slice(0, end);
}

/** The name without the `file:` that QEMU lets stand before a local path. */
export function stripFilePrefix(name: string): string {
  return name.startsWith('file:') ? name.slice('file:'.length) : name;
}

/** What is no address is a name of a protocol that cannot be read. */
function remoteOrNull(name: string): RemoteName | null {
  try {
    return remoteNameOf(name);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'address.invalid') {
      return null;
    }
    throw error;
  }
}

function local({ filename, absolute, protocol, remote }: PlacedName): ResolvedName {
  if (absolute === null || absolute.includes('\0')) {
    // No file system has a name with a NUL in it; JSON can write one.
    return { filename, path: null, realPath: null, protocol, remote: remote ?? null };
  }
  const target = realPath(absolute);
  // `a/../b` is not `b` when `a` is a symbolic link.
  const short = path.normalize(absolute);
  return {
    filename,
    protocol,
    remote: null,
    path: absolute.includes('..') && realPath(short) !== target ? target : short,
    realPath: target,
  };
}

/** The folder part of a name, with its last slash, as it stands; empty for a bare name. */
function folderOf(filename: string): string {
  const slash = process.platform === 'win32' ? Math.max(filename.lastIndexOf('/'), filename.lastIndexOf('\\')) : filename.lastIndexOf('/');
  return filename.slice(0, slash + 1);
}

/** Only put together: what `..` leads to is for `local` to find out. */
function against(folder: string, name: string): string {
  return path.isAbsolute(name) ? name : folder.endsWith(path.sep) ? folder + name : folder + path.sep + name;
}
