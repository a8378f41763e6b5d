import { openChain } from '../engine/chain/openChain';
import { LOOKING } from '../engine/chain/follow';
import { compareChains, type Comparison } from '../engine/chain/compare';
import type { Layer, OpenedChain } from '../engine/chain/layer';
import { ACTIVE_VIEW } from '../engine/chain/layerStatus';
import { unlockChain } from '../engine/chain/unlock';
import { EngineError, invalidRequest } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import { SECTOR_SIZE } from '../engine/formats/raw/size';
import { lockSupport } from '../engine/io/imageLocks';
import { replaceFile } from '../engine/io/replacing';
import { amendImage } from '../engine/manage/amend';
import { changeBitmap, type BitmapAction } from '../engine/manage/bitmap';
import { commitImage } from '../engine/manage/commit';
import { convertImage, type ConvertContext } from '../engine/manage/convert';
import { DEFAULT_COROUTINES, DEFAULT_SPARSE } from '../engine/manage/copy/copyDisk';
import { createImage } from '../engine/manage/create';
import type { ManagedFile } from '../engine/manage/managedImage';
import { measure, measuredSource } from '../engine/manage/measure';
import { rebaseImage } from '../engine/manage/rebase';
import { resizeImage } from '../engine/manage/resize';
import { applyImageSnapshot, createImageSnapshot, deleteImageSnapshot } from '../engine/manage/snapshot';
import type { PaceOptions } from '../engine/pace';
import type {
  BitmapReference,
  ComparisonResult,
  ConvertResult,
  FormatOptions,
  ImageReference,
  ManageCall,
  ManageMethod,
  ManageRequests,
  MeasureResult,
} from '../protocol/manage';
import type { Claim, ImageUses } from './imageUses';

/** What an operation is done with. */
export interface ManageContext extends PaceOptions {
  readonly gate: OpeningGate;
  /** Goes on where locks cannot be had. */
  readonly withoutLocks: boolean;
  /** The passphrase of an encrypted layer, where the person has given it. */
  readonly passphraseOf: (layer: Layer) => Uint8Array | null;
  /** The passphrase that a new image is made with. */
  readonly newPassphraseOf: (path: string) => Uint8Array | null;
  /** What else this worker does. */
  readonly uses: ImageUses;
}

type Params<M extends ManageMethod> = ManageRequests[M]['params'];
type Handler<M extends ManageMethod> = (params: Params<M>, context: ManageContext) => Promise<ManageRequests[M]['result']>;

const handlers: { readonly [M in ManageMethod]: Handler<M> } = {
  create: ({ path, format, size, backing, options }, context) =>
    writing([path], context, () => {
      const encryption = encryptionOf(path, options, context);
      const request = { filename: path, format, size, backing: backing ?? undefined, options: { ...options, ...encryption?.options } };
      return createImage(request, { ...context, ...encryption });
    }),
  resize: changing(({ size, shrink, preallocation, ...image }, context) =>
    resizeImage(fileOf(image), { size, shrink, preallocation }, context),
  ),
  snapshotCreate: changing(({ snapshot, ...image }, context) => createImageSnapshot(fileOf(image), snapshot, context)),
  snapshotApply: changing(({ snapshot, ...image }, context) => applyImageSnapshot(fileOf(image), snapshot, context)),
  snapshotDelete: changing(({ id, name: _name, ...image }, context) => deleteImageSnapshot(fileOf(image), { id }, context)),
  bitmapAdd: changing(({ granularity, enabled, ...bitmap }, context) => onBitmap(bitmap, { kind: 'add', granularity, enabled }, context)),
  bitmapRemove: changing((bitmap, context) => onBitmap(bitmap, { kind: 'remove' }, context)),
  bitmapClear: changing((bitmap, context) => onBitmap(bitmap, { kind: 'clear' }, context)),
  bitmapEnable: changing((bitmap, context) => onBitmap(bitmap, { kind: 'enable' }, context)),
  bitmapDisable: changing((bitmap, context) => onBitmap(bitmap, { kind: 'disable' }, context)),
  bitmapMerge: changing(({ source, ...bitmap }, context) =>
    onBitmap(bitmap, { kind: 'merge', source: source.bitmap }, context, source.path === bitmap.path ? null : fileOf(source)),
  ),
  amend: changing(({ options, ...image }, context) => amendImage(fileOf(image), options, false, context)),
  convert,
  measure: measureImage,
  rebase: changing(({ backing, unsafe, ...image }, context) =>
    rebaseImage(
      { image: fileOf(image), backing: backing?.name ?? null, backingFormat: backing?.format ?? null, unsafe, durable: true },
      context,
    ),
  ),
  commit: changing(async ({ base, keepTop, ...image }, context) => {
    const target = base ?? (await pathsOf(image, context))[1];
    return writing(target === undefined ? [] : [target], context, () =>
      commitImage({ image: fileOf(image), base, keep: keepTop, durable: true, speed: 0 }, context),
    );
  }),
  compare,
};

/** Does what the shell asks for. @throws EngineError */
export function manage({ method, params }: ManageCall, context: ManageContext): Promise<ManageRequests[ManageMethod]['result']> {
  if (!Object.hasOwn(handlers, method)) {
    throw invalidRequest(`The engine has no operation '${method}'.`);
  }
  const handler = handlers[method] as (params: ManageCall['params'], context: ManageContext) => ReturnType<Handler<ManageMethod>>;
  return handler(params, context);
}

/** An operation on an image that is there; where nothing keeps others from writing it at the same time the person has to agree before. */
function changing<P extends ImageReference>(
  work: (params: P, context: ManageContext) => Promise<unknown>,
): (params: P, context: ManageContext) => Promise<null> {
  return async (params, context) => {
    requireLocks(context.withoutLocks);
    return writing([params.path], context, () => work(params, context));
  };
}

/** Keeps files from other uses of this worker while they are written. */
async function writing(paths: readonly string[], { uses }: ManageContext, work: () => Promise<unknown>): Promise<null> {
  const release = uses.claim(
    paths.map((path): Claim => ({ path, writes: true })),
    'another change',
  );
  try {
    await work();
    return null;
  } finally {
    release();
  }
}

/** The files of a chain, the image itself first. */
export async function pathsOf(
  { path, format }: ImageReference,
  context: Pick<ManageContext, 'gate' | 'signal'>,
): Promise<readonly string[]> {
  return withChain({ path, format }, context, (chain) => Promise.resolve(chain.layers.map((layer) => layer.path)));
}

/** @throws EngineError `request.unsupported` where locks cannot be had and nobody agreed to go on without */
export function requireLocks(withoutLocks: boolean): void {
  if (!withoutLocks && !lockSupport()) {
    throw new EngineError('request.unsupported', 'This system does not tell whether another process uses an image, and locks none.');
  }
}

/** The passphrase that a new image is to be encrypted with; null where it is not. @throws EngineError `data.encrypted` without one */
function encryptionOf(
  path: string,
  options: FormatOptions,
  { newPassphraseOf }: ManageContext,
): { readonly options: FormatOptions; readonly secretOf: () => Uint8Array } | null {
  if (options['encrypt.format'] === undefined) {
    return null;
  }
  const passphrase = newPassphraseOf(path);
  if (passphrase === null) {
    throw new EngineError('data.encrypted', `'${path}' is to be encrypted, and no passphrase was given for it.`, { file: path });
  }
  return { options: { 'encrypt.key-secret': 'passphrase' }, secretOf: () => passphrase };
}

function fileOf({ path, format }: ImageReference): ManagedFile {
  return { filename: path, format };
}

function onBitmap(
  { bitmap, ...image }: BitmapReference,
  action: BitmapAction,
  context: ManageContext,
  source: ManagedFile | null = null,
): Promise<void> {
  return changeBitmap(fileOf(image), bitmap, [action], source, context);
}

/** A target that was there stays until the new one is complete. */
async function convert(params: Params<'convert'>, context: ManageContext): Promise<ConvertResult> {
  const result = { unreadable: 0, skippedBitmaps: [] as string[] };
  const reporting: Reporting = {
    onUnreadable: () => {
      result.unreadable += SECTOR_SIZE;
    },
    onSkippedBitmap: (name) => void result.skippedBitmaps.push(name),
  };
  await writing([params.target], context, () =>
    replaceFile(params.target, (passing) => convertTo(passing, params, { ...context, ...reporting })),
  );
  return result;
}

type Reporting = Pick<ConvertContext, 'onUnreadable' | 'onSkippedBitmap'>;

async function convertTo(passing: string, params: Params<'convert'>, context: ManageContext & Reporting): Promise<void> {
  const { source, snapshot, target, targetFormat, options, compress, salvage, bitmaps } = params;
  const encryption = encryptionOf(target, options, context);
  try {
    await convertImage(
      {
        sources: [fileOf(source)],
        snapshot: snapshot === null ? null : { idOrName: snapshot },
        target: passing,
        format: targetFormat,
        create: true,
        options: { ...options, ...encryption?.options },
        backing: { name: null, format: null },
        compressed: compress,
        sparseBytes: DEFAULT_SPARSE,
        targetIsZero: false,
        salvage,
        speed: 0,
        coroutines: DEFAULT_COROUTINES,
        outOfOrder: false,
        bitmaps: bitmaps ? { skipBroken: true } : null,
        durable: true,
      },
      { ...context, ...encryption },
    );
  } catch (error) {
    throw error instanceof EngineError ? new EngineError(error.code, error.message.replaceAll(passing, target), error.place, error) : error;
  }
}

function measureImage({ source, targetFormat, options }: Params<'measure'>, context: ManageContext): Promise<MeasureResult> {
  return withChain(source, context, async (chain) =>
    measure({ format: targetFormat, options, source: await measuredSource(chain, ACTIVE_VIEW, context) }, context),
  );
}

async function compare({ first, second, strict }: ManageRequests['compare']['params'], context: ManageContext): Promise<ComparisonResult> {
  return withChain(first, context, (a) =>
    withChain(second, context, async (b) => {
      const ciphers = new Map([...(await unlock(a, context)), ...(await unlock(b, context))]);
      return resultOf(await compareChains(a, b, { ...context, strict, ciphers }));
    }),
  );
}

function unlock(chain: OpenedChain, { passphraseOf, signal }: ManageContext): ReturnType<typeof unlockChain> {
  return unlockChain(chain, passphraseOf, signal);
}

async function withChain<T>(
  { path, format }: ImageReference,
  { gate, signal }: Pick<ManageContext, 'gate' | 'signal'>,
  work: (chain: OpenedChain) => Promise<T>,
): Promise<T> {
  const chain = await openChain(path, { gate, format, signal, open: LOOKING });
  try {
    return await work(chain);
  } finally {
    chain.close();
  }
}

function resultOf(comparison: Comparison): ComparisonResult {
  switch (comparison.kind) {
    case 'identical':
      return {
        identical: true,
        summary: comparison.sizesDiffer ? 'the same, but for zeroes at the end of the longer disk.' : 'a guest reads the same from both.',
        guestOffset: null,
      };
    case 'contentMismatch':
      return {
        identical: false,
        summary: `the first difference is at guest offset ${comparison.guestOffset}${comparison.sizesDiffer ? ', past the end of the shorter disk' : ''}.`,
        guestOffset: comparison.guestOffset,
      };
    case 'sizeMismatch':
      return { identical: false, summary: 'their disks are of different sizes.', guestOffset: null };
    case 'statusMismatch':
      return {
        identical: false,
        summary: `from guest offset ${comparison.guestOffset} on, what is allocated differs.`,
        guestOffset: comparison.guestOffset,
      };
    case 'statusFailed':
    case 'readFailed':
      throw comparison.error;
  }
}
