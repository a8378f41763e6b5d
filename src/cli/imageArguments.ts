import type { InfoFormat, ProtocolDriver } from '../engine/info/imageInfo';
import { protocolOf, stripFilePrefix } from '../engine/gate/filename';
import { EngineError } from '../engine/errors';
import { remoteFilename } from '../engine/io/remote/address';
import { nested, parseJsonOptions } from '../engine/gate/jsonName';
import { describedRemote, remoteNameOf, type RemoteName } from '../engine/gate/remoteName';
import { CommandError } from './errors';
import { compactJson } from './json';
import { splitWords } from './keyValues';

/** An image as the caller named it. */
export interface ImageArgument {
  /** Word for word. */
  readonly argument: string;
  /** What `filename` shows: the file's name, or a `json:` name when options change what is read. */
  readonly filename: string;
  /** How the image's own file is named, relative to the current folder; or a server's address. */
  readonly fileName: string;
  /** The server that it lies on; null for a file. */
  readonly remote: RemoteName | null;
  /** Null: probe. */
  readonly format: InfoFormat | null;
  /** A server's export or file that was named by its protocol's driver, without a format above it. */
  readonly protocolDriver?: ProtocolDriver | undefined;
  readonly forceShare: boolean;
  /** ID of the secret that opens it, where it is encrypted. */
  readonly keySecret?: string | undefined;
}

export interface ImageArgumentOptions {
  /** `-f`. */
  readonly format: string | null;
  /** `--image-opts`. */
  readonly imageOpts: boolean;
  /** `-U`. */
  readonly forceShare: boolean;
  /** Where deprecation warnings go. */
  readonly warn: (message: string) => void;
}

/** Option values by dotted name (`file.filename`). */
type FlatOptions = Map<string, Scalar>;
type Scalar = string | number | boolean | null;

const FORMATS: readonly InfoFormat[] = ['qcow2', 'qed', 'vmdk', 'raw', 'luks', 'file'];

const PROTOCOL_DRIVERS: readonly ProtocolDriver[] = ['nbd', 'http', 'https'];

/** Drivers that QEMU has and this program has not; anything else is a typing mistake. */
const FOREIGN_DRIVERS = new Set(
  (
    'blkdebug blklogwrites blkverify bochs cloop compress copy-before-write copy-on-read dmg ftp ftps gluster host_cdrom host_device ' +
    'http https iscsi iser nbd nfs null-aio null-co nvme parallels preallocate qcow quorum rbd replication snapshot-access ssh throttle ' +
    'vdi vhdx vpc vvfat'
  ).split(' '),
);

/** Options of every node that change nothing of what a reader sees. */
const COMMON_OPTIONS = ['driver', 'node-name', 'read-only', 'auto-read-only', 'discard', 'detect-zeroes', 'force-share'];
const COMMON_PREFIXES = ['cache.'];

/** Options by driver, those with a dot at the end standing for all that begin with them. None of them changes which file is read. */
const DRIVER_OPTIONS: Readonly<Record<InfoFormat, readonly string[]>> = {
  qcow2: [
    'lazy-refcounts',
    'pass-discard-request',
    'pass-discard-snapshot',
    'pass-discard-other',
    'overlap-check',
    'overlap-check.',
    'cache-size',
    'l2-cache-size',
    'l2-cache-entry-size',
    'refcount-cache-size',
    'cache-clean-interval',
    'encrypt.',
  ],
  qed: [],
  vmdk: [],
  raw: [],
  luks: ['key-secret'],
  file: ['filename', 'pr-manager', 'locking', 'aio', 'aio-max-batch', 'drop-cache', 'x-check-cache-dropped'],
};

/** Options that QEMU has and that would change what is read; to ignore them would be to show something else. */
const UNAVAILABLE_OPTIONS = ['offset', 'size', 'backing', 'backing.', 'data-file', 'data-file.'];

/** Options that become part of the image's name, which then is a `json:` name. */
const NAMED_OPTIONS = ['encrypt.', 'key-secret'];

/** @throws CommandError */
export function resolveImageArgument(argument: string, options: ImageArgumentOptions): ImageArgument {
  const could = `Could not open '${argument}': `;
  try {
    if (options.imageOpts) {
      if (options.format !== null) {
        throw new CommandError('--image-opts and --format are mutually exclusive');
      }
      return fromOptions(argument, parseImageOpts(argument, options.warn), options);
    }
    switch (protocolOf(argument)) {
      case null:
      case 'file': {
        const fileName = stripFilePrefix(argument);
        return { argument, fileName, filename: fileName, remote: null, format: readFormat(options.format), forceShare: options.forceShare };
      }
      case 'json': {
        const flat = parseJsonName(argument);
        if (options.format !== null && !flat.has('driver')) {
          flat.set('driver', options.format);
        }
        return fromOptions(argument, flat, options);
      }
      case 'ftp':
      case 'ftps':
      case 'ssh':
      case 'iscsi':
        throw new OpenProblem(`Images over ${String(protocolOf(argument))} cannot be read by this version`);
      default: {
        const remote = remoteNameOf(argument);
        if (!remote) {
          throw new OpenProblem(`Unknown protocol '${String(protocolOf(argument))}'`);
        }
        return {
          argument,
          remote,
          fileName: argument,
          filename: remote.filename,
          format: readFormat(options.format),
          forceShare: options.forceShare,
        };
      }
    }
  } catch (error) {
    const problem = error instanceof OpenProblem || (error instanceof EngineError && error.code === 'address.invalid');
    throw problem ? new CommandError(could + error.message) : error;
  }
}

/** What is wrong with the naming of an image; the message says of which. */
class OpenProblem extends Error {}

function readFormat(name: string | null): InfoFormat | null {
  const format = FORMATS.find((known) => known === name);
  if (name !== null && format === undefined) {
    throw new OpenProblem(FOREIGN_DRIVERS.has(name) ? `Driver '${name}' is not available in this version` : `Unknown driver '${name}'`);
  }
  return format ?? null;
}

/**
 * Splits `driver=qcow2,file.filename=a,,b`: a doubled comma is one comma of the value; a first word without `=` names a node of a running
 * QEMU, of which there are none here; a later one is a switch.
 */
function parseImageOpts(text: string, warn: (message: string) => void): FlatOptions {
  const flat: FlatOptions = new Map();
  for (const [index, word] of splitWords(text).entries()) {
    const equals = word.indexOf('=');
    if (equals > 0) {
      flat.set(word.slice(0, equals), word.slice(equals + 1));
    } else if (index === 0) {
      flat.set('file', word);
    } else {
      const off = word.startsWith('no') && word.length > 2;
      const name = off ? word.slice(2) : word;
      warn(`short-form boolean option '${word}' deprecated\nPlease use ${name}=${off ? 'off' : 'on'} instead`);
      flat.set(name, off ? 'off' : 'on');
    }
  }
  return flat;
}

function parseJsonName(name: string): FlatOptions {
  let value: unknown;
  try {
    value = parseJsonOptions(name.slice('json:'.length));
  } catch (error) {
    throw new OpenProblem(`Could not parse the JSON options: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new OpenProblem('Invalid JSON object given');
  }
  const flat: FlatOptions = new Map();
  flatten(value, '', flat);
  return flat;
}

function flatten(object: object, prefix: string, flat: FlatOptions): void {
  for (const [key, value] of Object.entries(object) as [string, unknown][]) {
    if (typeof value === 'object' && value !== null) {
      flatten(value, `${prefix}${key}.`, flat);
    } else {
      flat.set(prefix + key, value as Scalar);
    }
  }
}

/** The options whose names begin with `prefix`, without it. */
function below(flat: FlatOptions, prefix: string): FlatOptions {
  return new Map([...flat].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]));
}

function fromOptions(argument: string, flat: FlatOptions, options: ImageArgumentOptions): ImageArgument {
  const own = new Map([...flat].filter(([key]) => !key.startsWith('file.')));
  const file = below(flat, 'file.');
  const node = own.get('file');
  if (node !== undefined) {
    throw new OpenProblem(`Cannot find device='${String(node)}' nor node-name='${String(node)}'`);
  }
  const driver = own.get('driver');
  if (driver === undefined && file.size === 0) {
    throw new OpenProblem('Must specify either driver or file');
  }
  const server = own.has('driver') && file.size === 0 ? describedRemote(nested(Object.fromEntries(own))) : null;
  const format = readFormat(driver === undefined ? null : server ? 'raw' : String(driver));
  const shared = own.get('force-share');
  if (options.forceShare && shared !== undefined && !isOn(shared)) {
    throw new CommandError('--force-share/-U conflicts with image options');
  }
  const forceShare = options.forceShare || (shared !== undefined && isOn(shared));
  if (server) {
    const protocolDriver = PROTOCOL_DRIVERS.find((known) => known === driver);
    return { argument, remote: server, fileName: server.recorded, filename: shownName(server), format, protocolDriver, forceShare };
  }
  if (format === 'file') {
    const fileName = fileOf(own);
    return { argument, fileName, filename: fileName, remote: null, format, forceShare };
  }
  if (file.size === 0) {
    throw new OpenProblem('A block device must be specified for "file"');
  }
  requireKnown(format ?? 'qcow2', `Block format '${String(driver ?? 'qcow2')}'`, own);
  const remote = describedRemote(nested(Object.fromEntries(file)));
  const fileName = remote?.recorded ?? fileOf(file);
  const shown = remote ? shownName(remote) : fileName;
  const named = Object.fromEntries([...own].filter(([key]) => matches(NAMED_OPTIONS, key)));
  const described = shown.startsWith('json:') ? (JSON.parse(shown.slice('json:'.length)) as Record<string, Scalar>) : null;
  const filename =
    Object.keys(named).length === 0 && !described
      ? shown
      : `json:${compactJson({ ...named, driver: format ?? 'qcow2', file: described ?? { driver: 'file', filename: fileName } })}`;
  const keySecret = own.get('encrypt.key-secret');
  return { argument, fileName, filename, remote, format, forceShare, ...(keySecret === undefined ? {} : { keySecret: String(keySecret) }) };
}

/** As QEMU has it, credentials are no part of a name that is shown. */
function shownName({ address, filename, settings }: RemoteName): string {
  return address.protocol === 'nbd' && settings.tlsCreds !== undefined ? remoteFilename({ ...address, tls: false }) : filename;
}

function fileOf(file: FlatOptions): string {
  const driver = file.get('driver') ?? 'file';
  if (driver !== 'file') {
    readFormat(String(driver));
    throw new OpenProblem(`A '${String(driver)}' node below another is not available in this version`);
  }
  requireKnown('file', "Block protocol 'file'", file);
  const fileName = file.get('filename');
  if (typeof fileName !== 'string' || fileName === '') {
    throw new OpenProblem("The 'file' block driver requires a file name");
  }
  const protocol = protocolOf(fileName);
  if (file.get('driver') === undefined && protocol !== null && protocol !== 'file') {
    throw new OpenProblem(`Unknown protocol '${protocol}'`);
  }
  return stripFilePrefix(fileName);
}

function requireKnown(driver: InfoFormat, title: string, options: FlatOptions): void {
  for (const key of options.keys()) {
    if (matches(COMMON_OPTIONS, key) || matches(COMMON_PREFIXES, key) || matches(DRIVER_OPTIONS[driver], key)) {
      continue;
    }
    throw new OpenProblem(
      driver !== 'file' && matches(UNAVAILABLE_OPTIONS, key)
        ? `The option '${key}' is not available in this version`
        : `${title} does not support the option '${key}'`,
    );
  }
}

function matches(names: readonly string[], key: string): boolean {
  return names.some((name) => (name.endsWith('.') ? key.startsWith(name) : key === name));
}

function isOn(value: Scalar): boolean {
  return value === true || value === 'on' || value === 'yes' || value === 'true' || value === 'y';
}
