import type { ImageFormat } from '../../protocol/chain';
import { activeName, openChain } from '../chain/openChain';
import { requireComplete } from '../chain/complete';
import type { Preallocation } from '../block/blockNode';
import { readerLocks } from '../block/graph/layerFiles';
import { EngineError, errnoOf, invalidRequest } from '../errors';
import { createQcow2 } from '../formats/qcow2/manage/create';
import { qcow2Settings, type Qcow2CreateOptions, type Qcow2EncryptOptions } from '../formats/qcow2/manage/createOptions';
import { createQed } from '../formats/qed/create';
import { SECTOR_SIZE } from '../formats/raw/size';
import { protocolOf, resolveName } from '../gate/filename';
import type { OpeningGate } from '../gate/gate';
import { requireOpenableLayer } from '../info/opening';
import { fileKey } from '../io/file';
import { FileStorage, removeFile } from '../io/fileStorage';
import { acquireLocks, type LockRole } from '../io/imageLocks';
import type { StoragePreallocation } from '../io/storage';
import type { PaceOptions } from '../pace';
import { createOptions, OptionValues, type FormatOptions } from './formatOptions';
import { knownFormat } from './formats';

export interface CreateRequest {
  /** A local file; what it held is given up. */
  readonly filename: string;
  /** QEMU's name of the format. */
  readonly format: string;
  /** Bytes; null: as the options say, or as large as the backing file. */
  readonly size: number | null;
  /** Goes before `backing_file` and `backing_fmt` of the options. */
  readonly backing?: { readonly name: string | null; readonly format: string | null } | undefined;
  readonly options: FormatOptions;
  /** The backing file is not opened (`-u`): it need not be there, and the size has to be given. */
  readonly withoutBacking?: boolean | undefined;
}

export interface CreateContext extends PaceOptions {
  /** Asked before the backing file and what is below it are opened. */
  readonly gate: OpeningGate;
  readonly currentFolder?: string | undefined;
  /** The secret of that ID; null when there is none. */
  readonly secretOf?: ((id: string) => Uint8Array | null) | undefined;
}

/** An image that can be made: all that can be found out before was. */
export interface PlannedImage {
  /** What will be made, as QEMU tells it: `fmt=qcow2 cluster_size=65536 ...`. */
  readonly description: string;
  /** @throws EngineError `request.invalid` in QEMU's words; `file.locked`, `file.io`, `file.full`, `cancelled`: no half image is left */
  make(): Promise<void>;
}

/** Makes a new image. @throws EngineError as `planImage` and its `make` */
export async function createImage(request: CreateRequest, context: CreateContext): Promise<void> {
  const planned = await planImage(request, context);
  await planned.make();
}

/**
 * Reads the options, and looks at the backing file.
 * @throws EngineError `request.invalid` in QEMU's words; what opening the backing chain throws
 */
export async function planImage(request: CreateRequest, context: CreateContext): Promise<PlannedImage> {
  const { filename, backing } = request;
  const format = knownFormat(request.format);
  const declared = createOptions(format, true);
  if (!declared) {
    throw invalidRequest(`Format driver '${format}' does not support image creation`);
  }
  const given: Record<string, string> = { ...request.options };
  if (request.size !== null) {
    if (given['size'] !== undefined) {
      throw invalidRequest('The image size must be specified only once');
    }
    given['size'] = String(request.size);
  }
  // What is wrong with the options is said before what is wrong with the backing file.
  new OptionValues(declared, given);
  const takesBacking = declared.some(({ name }) => name === 'backing_file');
  for (const [name, value, what] of [
    ['backing_file', backing?.name, 'Backing file'],
    ['backing_fmt', backing?.format, 'Backing file format'],
  ] as const) {
    if (value !== null && value !== undefined) {
      if (!takesBacking) {
        throw invalidRequest(`${what} not supported for file format '${format}'`);
      }
      given[name] = value;
    }
  }
  const name = given['backing_file'];
  if (name !== undefined) {
    const backingSize = await lookAtBacking(request, name, given['backing_fmt'] ?? null, context);
    if (given['size'] === undefined && backingSize !== null) {
      given['size'] = String(backingSize);
    }
  }
  if (given['size'] === undefined) {
    throw invalidRequest('Image creation needs a size parameter');
  }
  const values = new OptionValues(declared, given);
  return {
    description: `fmt=${format} ${values.describe(declared)}`,
    make: () => makeImage(filename, format, values, context),
  };
}

/** The size of the backing disk in bytes; null when it is not to be opened. */
async function lookAtBacking(
  { filename, withoutBacking = false }: CreateRequest,
  name: string,
  format: string | null,
  { gate, currentFolder, signal }: CreateContext,
): Promise<number | null> {
  if (name === '') {
    throw invalidRequest('Expected backing file name, got empty string');
  }
  if (name === filename) {
    throw invalidRequest('Error: Trying to create an image with the same filename as the backing file');
  }
  if (withoutBacking) {
    if (format === null) {
      throw invalidRequest('Backing file specified without backing format');
    }
    return null;
  }
  const resolved = resolveName(name, { imageFilename: filename, role: 'backing', currentFolder });
  try {
    const known = format === null ? null : knownFormat(format, 'driver');
    const chain = await openChain(resolved.filename, { gate, currentFolder, format: known, signal, locks: null });
    try {
      requireComplete(chain);
      for (const layer of chain.layers) {
        requireOpenableLayer(layer.detail);
      }
      acquireLocks(chain.layers.flatMap(readerLocks));
      const target = resolveName(filename, { imageFilename: '', role: 'backing', currentFolder });
      if (chain.layers.some((layer) => layer.path === target.path || layer.path === target.realPath)) {
        throw invalidRequest(`'${filename}' is part of its own backing chain; it would be overwritten.`);
      }
      const [base] = chain.layers;
      if (format === null) {
        throw new EngineError('request.invalid', 'Backing file specified without backing format', {
          file: filename,
          remedy: `Detected format of ${base!.detail.format}.`,
        });
      }
      return base!.virtualSize;
    } finally {
      chain.close();
    }
  } catch (error) {
    throw error instanceof EngineError && error.code !== 'request.invalid' && error.code !== 'cancelled'
      ? new EngineError(error.code, `${error.message}\nCould not open backing image.`, error.place, error)
      : error;
  }
}

async function makeImage(filename: string, format: ImageFormat, values: OptionValues, context: CreateContext): Promise<void> {
  const size = values.number('size') ?? 0;
  const backing = { backing_file: values.string('backing_file'), backing_fmt: values.string('backing_fmt') };
  switch (format) {
    case 'qcow2': {
      const options: Qcow2CreateOptions = { ...qcow2Options(values), ...backing, size };
      const passphrase = options.encrypt ? passphraseFor(values, context) : undefined;
      qcow2Settings(options);
      const dataFileName = options.data_file ?? '';
      await withNewFile(filename, 'metadata-writer', async (storage) => {
        const make = (dataFile?: FileStorage) => createQcow2(storage, options, { ...context, dataFile, passphrase });
        if (dataFileName === '') {
          return make();
        }
        const { path } = resolveName(dataFileName, { imageFilename: filename, role: 'data-file', currentFolder: context.currentFolder });
        await withNewFile(path ?? dataFileName, 'data-file-writer', async (dataFile) => {
          if (fileKey(dataFile.identity) === fileKey(storage.identity)) {
            throw invalidRequest('The data file cannot be the image itself.');
          }
          dataFile.truncate(0);
          await make(dataFile);
        });
      });
      return;
    }
    case 'qed':
      await withNewFile(filename, 'metadata-writer', (storage) =>
        createQed(storage, { ...backing, size, cluster_size: values.number('cluster_size'), table_size: values.number('table_size') }),
      );
      return;
    case 'raw': {
      const preallocation = filePreallocation(values.string('preallocation'));
      if (!Number.isSafeInteger(size)) {
        throw invalidRequest("The image size is too large for file format 'raw'");
      }
      await withNewFile(filename, 'raw-writer', async (storage) => {
        storage.truncate(0);
        const bytes = Math.ceil(size / SECTOR_SIZE) * SECTOR_SIZE;
        storage.truncate(bytes, preallocation);
        if (preallocation === 'off') {
          // As QEMU leaves it: opened past the page cache, a file that begins with a hole tells no alignment.
          storage.write(new Uint8Array(Math.min(FIRST_BLOCK, bytes)), 0);
        } else {
          await storage.flush();
        }
      });
      return;
    }
    case 'vmdk':
      throw invalidRequest(`Format driver '${format}' does not support image creation`);
  }
}

/** The options of qcow2 as its engine has them. @throws EngineError `request.invalid` */
export function qcow2Options(values: OptionValues): Omit<Qcow2CreateOptions, 'size'> {
  return {
    compat: values.string('compat'),
    cluster_size: values.number('cluster_size'),
    preallocation: preallocationOf(values.string('preallocation')),
    lazy_refcounts: values.boolean('lazy_refcounts'),
    refcount_bits: values.number('refcount_bits'),
    extended_l2: values.boolean('extended_l2'),
    compression_type: values.string('compression_type'),
    data_file: values.string('data_file'),
    data_file_raw: values.boolean('data_file_raw'),
    encrypt: encryptOptions(values),
    cache_img_quota: values.number('cache_img_quota'),
  };
}

const ENCRYPT = ['key-secret', 'cipher-alg', 'cipher-mode', 'ivgen-alg', 'ivgen-hash-alg', 'hash-alg'] as const;

function encryptOptions(values: OptionValues): Qcow2EncryptOptions | null {
  const format = values.string('encrypt.format');
  if (format === undefined) {
    if (values.boolean('encryption') === true) {
      return { format: 'aes' };
    }
    if (values.number('encrypt.iter-time') !== undefined || ENCRYPT.some((name) => values.string(`encrypt.${name}`) !== undefined)) {
      throw invalidRequest("Parameter 'encrypt.format' is missing");
    }
    return null;
  }
  return {
    format,
    'cipher-alg': values.string('encrypt.cipher-alg'),
    'cipher-mode': values.string('encrypt.cipher-mode'),
    'ivgen-alg': values.string('encrypt.ivgen-alg'),
    'ivgen-hash-alg': values.string('encrypt.ivgen-hash-alg'),
    'hash-alg': values.string('encrypt.hash-alg'),
    'iter-time': values.number('encrypt.iter-time'),
  };
}

/** @throws EngineError `request.invalid` in QEMU's words */
export function passphraseFor(values: OptionValues, { secretOf }: Pick<CreateContext, 'secretOf'>): Uint8Array {
  const id = values.string('encrypt.key-secret');
  if (id === undefined) {
    throw invalidRequest("Parameter 'encrypt.key-secret' is required for cipher");
  }
  const secret = secretOf?.(id) ?? null;
  if (!secret) {
    throw invalidRequest(`No secret with id '${id}'`);
  }
  return secret;
}

/** Bytes that a new raw file has blocks for. */
const FIRST_BLOCK = 4096;

const PREALLOCATIONS: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

/** @throws EngineError `request.invalid` in QEMU's words */
export function preallocationOf(name: string | undefined): Preallocation | undefined {
  const found = PREALLOCATIONS.find((known) => known === name);
  if (name !== undefined && found === undefined) {
    throw invalidRequest(`Parameter 'preallocation' does not accept value '${name}'`);
  }
  return found;
}

function filePreallocation(name: string | undefined): StoragePreallocation {
  const mode = name === undefined ? 'off' : PREALLOCATIONS.find((known) => known === name);
  if (mode === undefined) {
    throw invalidRequest(`invalid parameter value: ${name ?? ''}`);
  }
  if (mode === 'metadata') {
    throw invalidRequest('Unsupported preallocation mode: metadata');
  }
  return mode;
}

/** Opens the file to make an image of, or makes it, locked; a file that was not there before is not there after a failure. */
async function withNewFile(filename: string, role: LockRole, work: (storage: FileStorage) => Promise<void>): Promise<void> {
  const path = protocolOf(filename) === null ? filename : activeName(filename);
  const { storage, made } = openTarget(path, filename);
  try {
    acquireLocks([{ file: storage, role }]);
    await work(storage);
  } catch (error) {
    if (made) {
      removeFile(path);
    }
    throw error;
  } finally {
    storage.close();
  }
}

function openTarget(path: string, name: string): { readonly storage: FileStorage; readonly made: boolean } {
  try {
    return { storage: FileStorage.openFile(path, { writable: true, create: 'new', name }), made: true };
  } catch (error) {
    const code = errnoOf(error instanceof EngineError ? error.cause : error);
    if (code === 'EEXIST') {
      return { storage: existing(path, name), made: false };
    }
    throw notCreated(error, name);
  }
}

function existing(path: string, name: string): FileStorage {
  try {
    return FileStorage.openFile(path, { writable: true, name });
  } catch (error) {
    throw notCreated(error, name);
  }
}

function notCreated(error: unknown, name: string): unknown {
  if (!(error instanceof EngineError)) {
    return error;
  }
  const message =
    errnoOf(error.cause) === 'EISDIR'
      ? `Could not create '${name}': Is a directory`
      : error.message.replace(/^Could not open /, 'Could not create ');
  return new EngineError(error.code, message, error.place, error);
}
