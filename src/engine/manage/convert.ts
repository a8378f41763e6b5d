import type { ImageFormat } from '../../protocol/chain';
import { BlockGraph } from '../block/graph/blockGraph';
import type { OpenedImage } from '../block/graph/openedImage';
import { EngineError, invalidRequest, reworded } from '../errors';
import { readBitmapDirectory, type Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import { SECTOR_SIZE } from '../formats/raw/size';
import { loading } from '../io/loading';
import { changeBitmap } from './bitmap';
import { copyDisk } from './copy/copyDisk';
import { CopySource, type CopyInput } from './copy/copySource';
import { openInput, type SnapshotSelector, type SourceFile } from './copy/openInput';
import { createImage, type CreateContext } from './create';
import { createOptions, OptionValues, type FormatOptions } from './formatOptions';
import { knownFormat } from './formats';
import type { ManageContext } from './managedImage';

export interface ConvertRequest {
  /** Read one after the other. */
  readonly sources: readonly SourceFile[];
  /** Reads an internal snapshot of each source. */
  readonly snapshot: SnapshotSelector | null;
  /** A local file. */
  readonly target: string;
  /** QEMU's name of the target's format; null, only without `create`: by its first bytes. */
  readonly format: string | null;
  /** Makes the target; otherwise it is there and only written. */
  readonly create: boolean;
  /** For a new target. */
  readonly options: FormatOptions;
  /** For a new target: what the first source leaves to its own backing file stays there. */
  readonly backing: { readonly name: string | null; readonly format: string | null };
  readonly compressed: boolean;
  /** Zeroes of at least this many bytes become holes; 0 writes everything out. A multiple of 512. */
  readonly sparseBytes: number;
  /** A target that is there reads as zero. */
  readonly targetIsZero: boolean;
  /** Bytes of data that are copied in a second at most; 0 is no limit. */
  readonly speed: number;
  /** As in CopyDiskOptions. */
  readonly coroutines: number;
  readonly outOfOrder: boolean;
  /** What cannot be read becomes zeroes. */
  readonly salvage: boolean;
  /** Copies persistent bitmaps too; `skipBroken` leaves out those that were not stored properly. */
  readonly bitmaps: { readonly skipBroken: boolean } | null;
  /** Ends when everything would survive a loss of power. */
  readonly durable: boolean;
}

export interface ConvertContext extends ManageContext, Pick<CreateContext, 'secretOf'> {
  /** For a target that is there and encrypted. */
  readonly targetPassphraseOf?: ManageContext['passphraseOf'];
  /** Told of what could not be read. */
  readonly onUnreadable?: ((offset: number, error: EngineError) => void) | undefined;
  /** Told of a bitmap that is not copied. */
  readonly onSkippedBitmap?: ((name: string) => void) | undefined;
}

/** Bytes of tables that the target keeps. */
const TARGET_CACHE = 32 * 1024 * 1024;

/**
 * Copies what guests read from one image, or from several one after the other, into another. A failure leaves an incomplete target.
 * @throws EngineError in QEMU's words; `cancelled`
 */
export async function convertImage(request: ConvertRequest, context: ConvertContext): Promise<void> {
  const inputs: CopyInput[] = [];
  try {
    for (const file of request.sources) {
      inputs.push(await openInput(file, request.snapshot, context));
    }
    const left = hasBacking(request) ? { depth: 1, end: inputs[0]!.chain.layers[1]?.virtualSize ?? 0 } : null;
    const source = await loading(() => new CopySource(inputs, left));
    try {
      await convertInputs(request, inputs, source, context);
    } finally {
      await source.close();
    }
  } finally {
    inputs.forEach(({ chain }) => chain.close());
  }
}

async function convertInputs(
  request: ConvertRequest,
  inputs: readonly CopyInput[],
  source: CopySource,
  context: ConvertContext,
): Promise<void> {
  const { create, compressed, sparseBytes, durable } = request;
  const format = request.format === null ? null : knownFormat(request.format);
  const bitmaps = request.bitmaps ? storedBitmaps(inputs[0]!, request.bitmaps.skipBroken, context) : [];
  if (create) {
    if (format === null) {
      throw invalidRequest('The format of a new image has to be said.');
    }
    requireOptions(request, format);
    await makeTarget(request, source.size, context);
  }
  const opened = await openTarget(request, format, context);
  try {
    const node = opened.node.image;
    if (!create) {
      if (request.bitmaps && node.driver !== 'qcow2') {
        throw noBitmaps(node.driver);
      }
      if (compressed && node.driver !== 'qcow2') {
        throw noCompression();
      }
      if (node.size < source.size) {
        throw invalidRequest('output file is smaller than input file');
      }
    }
    // Clusters that have a place before anything is written to them, in an encrypted image, do not read as zero.
    const garbled = Object.keys(request.options).some((name) => name.startsWith('encrypt')) && 'preallocation' in request.options;
    await copyDisk(source, node, {
      signal: context.signal,
      onProgress: context.onProgress,
      sparseBytes,
      compressed,
      wholeClusters: !hasBacking(request),
      targetIsZero: create ? !garbled && sparseBytes > 0 : request.targetIsZero,
      targetBackingSize: hasBacking(request) ? (node.backing?.size ?? 0) : null,
      speed: request.speed,
      coroutines: request.coroutines,
      outOfOrder: request.outOfOrder,
      onUnreadable: request.salvage ? (context.onUnreadable ?? (() => undefined)) : null,
    });
    if (durable) {
      await node.flush();
    }
  } catch (error) {
    // What went wrong first is what is said.
    await opened.close().catch(() => undefined);
    throw error;
  }
  await opened.close();
  await copyBitmaps(request, bitmaps, context);
}

/** A new target that leaves to its backing file what the source leaves to its own. */
function hasBacking(request: ConvertRequest): boolean {
  return request.create && backingName(request) !== null;
}

function backingName(request: ConvertRequest): string | null {
  return request.backing.name ?? request.options['backing_file'] ?? null;
}

/** @throws EngineError in QEMU's words */
function requireOptions(request: ConvertRequest, format: ImageFormat): void {
  const { options, compressed, backing } = request;
  const declared = createOptions(format, true);
  if (!declared) {
    throw invalidRequest(`Format driver '${format}' does not support image creation`);
  }
  const values = new OptionValues(declared, options);
  const name = backingName(request);
  if (backing.name !== null && !declared.some((option) => option.name === 'backing_file')) {
    throw invalidRequest(`Backing file not supported for file format '${format}'`);
  }
  if (backing.format !== null && !declared.some((option) => option.name === 'backing_fmt')) {
    throw invalidRequest(`Backing file format not supported for file format '${format}'`);
  }
  if (name !== null && backing.format === null && options['backing_fmt'] === undefined) {
    throw invalidRequest('Use of backing file requires explicit backing format');
  }
  if (compressed) {
    if (format !== 'qcow2') {
      throw noCompression();
    }
    if ((values.string('preallocation') ?? 'off') !== 'off') {
      throw invalidRequest('Compression and preallocation not supported at the same time');
    }
    if (values.string('data_file') !== undefined) {
      throw invalidRequest('Compression and data file not supported at the same time');
    }
  }
  if (request.bitmaps && format !== 'qcow2') {
    throw noBitmaps(format);
  }
}

function noCompression(): EngineError {
  return invalidRequest('Compression not supported for this file format');
}

function noBitmaps(format: string): EngineError {
  return invalidRequest(`Format driver '${format}' does not support bitmaps`);
}

async function makeTarget(request: ConvertRequest, size: number, context: ConvertContext): Promise<void> {
  const { target, format, options, backing } = request;
  // The size is the sources', whatever the options say.
  const given = Object.fromEntries(Object.entries(options).filter(([name]) => name !== 'size'));
  try {
    if (backingName(request) === null && (backing.format ?? options['backing_fmt'] ?? null) !== null) {
      throw invalidRequest('Backing format cannot be used without backing file');
    }
    // Whether the backing file opens is found out when the target does.
    await createImage({ filename: target, format: format ?? 'raw', size, backing, options: given, withoutBacking: true }, context);
  } catch (error) {
    // A locked file could be opened; it is not written.
    const locked = error instanceof EngineError && error.code === 'file.locked';
    const why = (message: string) => (locked ? message.replace(/^Could not open '[^']*': /, '') : message);
    throw reworded(error, (message) => `${target}: error while converting ${format ?? 'raw'}: ${why(message)}`);
  }
}

function openTarget(request: ConvertRequest, format: ImageFormat | null, context: ConvertContext): Promise<OpenedImage> {
  const { target, create, durable, options } = request;
  const { gate, currentFolder, signal, secretOf } = context;
  const secret = create ? options['encrypt.key-secret'] : undefined;
  const own = secret === undefined ? null : (secretOf?.(secret) ?? null);
  const graph = new BlockGraph({ gate, currentFolder, cacheBytes: TARGET_CACHE });
  return graph.open(target, {
    format,
    readOnly: false,
    user: 'a conversion',
    durable,
    signal,
    passphraseOf: create ? ({ depth }) => (depth === 0 ? own : null) : context.targetPassphraseOf,
  });
}

/** The bitmaps of an image that can be copied. @throws EngineError in QEMU's words */
function storedBitmaps({ chain }: CopyInput, skipBroken: boolean, context: ConvertContext): readonly Qcow2Bitmap[] {
  const layer = chain.layers[0]!;
  if (layer.detail.format !== 'qcow2') {
    throw noBitmaps(layer.detail.format);
  }
  const { bitmaps } = readBitmapDirectory(layer.detail.metadata);
  return bitmaps.filter(({ inUse, name }) => {
    if (!inUse) {
      return true;
    }
    if (!skipBroken) {
      throw new EngineError('request.invalid', `Cannot copy inconsistent bitmap '${name}'`, {
        remedy: "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
      });
    }
    context.onSkippedBitmap?.(name);
    return false;
  });
}

async function copyBitmaps(request: ConvertRequest, bitmaps: readonly Qcow2Bitmap[], context: ConvertContext): Promise<void> {
  const [source] = request.sources;
  for (const { name, granularity, auto } of bitmaps) {
    try {
      await changeBitmap(
        { filename: request.target, format: 'qcow2' },
        name,
        [{ kind: 'add', granularity, enabled: false }, { kind: 'merge', source: name }, ...(auto ? [{ kind: 'enable' as const }] : [])],
        source!,
        { ...context, passphraseOf: context.targetPassphraseOf },
      );
    } catch (error) {
      throw reworded(error, (message) => `Failed to populate bitmap ${name}: ${message}`);
    }
  }
}

/** Whether a size of holes to look for is one. */
export function isSparseSize(bytes: number): boolean {
  return bytes >= 0 && bytes % SECTOR_SIZE === 0 && bytes <= MOST_SPARSE;
}

/** Bytes; QEMU has no larger holes to look for. */
export const MOST_SPARSE = 16 * 1024 * 1024;
