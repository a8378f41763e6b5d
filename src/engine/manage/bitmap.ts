import { EngineError, invalidRequest } from '../errors';
import type { BitmapBits } from '../formats/qcow2/manage/bitmapBits';
import {
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  readBitmap,
  removeBitmap,
} from '../formats/qcow2/manage/bitmaps';
import type { QuietImage } from '../formats/qcow2/manage/quietImage';
import { openChain } from '../chain/openChain';
import { requireComplete } from '../chain/complete';
import { readerLocks } from '../block/graph/layerFiles';
import { requireOpenableLayer } from '../info/opening';
import { acquireLocks } from '../io/imageLocks';
import { whileQuiet, withImage, type ManageContext, type ManagedFile } from './managedImage';

/** What is done to a persistent bitmap; `source` is the name of the one that is merged. */
export type BitmapAction =
  | { readonly kind: 'add'; readonly granularity: number | null; readonly enabled: boolean }
  | { readonly kind: 'remove' | 'clear' | 'enable' | 'disable' }
  | { readonly kind: 'merge'; readonly source: string };

/** An action failed; those before it were done. */
export class BitmapActionError extends EngineError {
  readonly action: BitmapAction['kind'];

  constructor(action: BitmapAction['kind'], cause: EngineError) {
    super(cause.code, cause.message, cause.place, cause);
    this.action = action;
  }
}

/**
 * Does one thing after the other to a bitmap of an image.
 * @param mergeFrom the image whose bitmaps are merged; the same one when null
 * @throws BitmapActionError in QEMU's words; EngineError as `withImage`
 */
export async function changeBitmap(
  file: ManagedFile,
  name: string,
  actions: readonly BitmapAction[],
  mergeFrom: ManagedFile | null,
  context: ManageContext,
): Promise<void> {
  await withImage(file, false, context, async ({ node }) => {
    const source = mergeFrom ? await openSource(mergeFrom, context) : null;
    try {
      for (const action of actions) {
        try {
          const done = await whileQuiet(node, async (image) => {
            await perform(image, name, action, source);
            return true;
          });
          if (done === null) {
            throw notHere(action, name, node.nodeName);
          }
        } catch (error) {
          throw error instanceof EngineError ? new BitmapActionError(action.kind, error) : error;
        }
      }
    } finally {
      source?.close();
    }
  });
}

interface MergeSource {
  bits(name: string): BitmapBits;
  close(): void;
}

async function perform(image: QuietImage, name: string, action: BitmapAction, source: MergeSource | null): Promise<void> {
  switch (action.kind) {
    case 'add':
      return addBitmap(image, { name, granularity: action.granularity ?? undefined, enabled: action.enabled });
    case 'remove':
      return removeBitmap(image, name);
    case 'clear':
      return clearBitmap(image, name);
    case 'enable':
      return enableBitmap(image, name);
    case 'disable':
      return disableBitmap(image, name);
    case 'merge':
      return mergeBitmap(image, name, source ? source.bits(action.source) : readBitmap(image.metadata, action.source));
  }
}

/** QEMU opens the image that is merged from without locking others out. */
async function openSource({ filename, format }: ManagedFile, { gate, currentFolder, signal }: ManageContext): Promise<MergeSource> {
  const chain = await openChain(filename, { gate, currentFolder, format, signal, locks: null });
  try {
    requireComplete(chain);
    for (const layer of chain.layers) {
      requireOpenableLayer(layer.detail);
    }
    acquireLocks(chain.layers.flatMap(readerLocks));
  } catch (error) {
    chain.close();
    throw error;
  }
  const { detail } = chain.layers[0]!;
  return {
    bits: (name) => {
      if (detail.format !== 'qcow2') {
        throw invalidRequest(`Dirty bitmap '${name}' not found`);
      }
      return readBitmap(detail.metadata, name);
    },
    close: () => {
      chain.close();
    },
  };
}

/** Formats other than qcow2 store none. */
function notHere(action: BitmapAction, name: string, nodeName: string): EngineError {
  return action.kind === 'add'
    ? new EngineError('request.unsupported', `Can't store persistent bitmaps to ${nodeName}: Operation not supported`)
    : invalidRequest(`Dirty bitmap '${name}' not found`);
}
