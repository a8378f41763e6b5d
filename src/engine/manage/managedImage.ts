import type { ImageFormat } from '../../protocol/chain';
import { BlockGraph } from '../block/graph/blockGraph';
import type { OpenedImage } from '../block/graph/openedImage';
import type { Layer } from '../chain/layer';
import type { TrackedNode } from '../block/trackedNode';
import { EngineError } from '../errors';
import { QuietImage } from '../formats/qcow2/manage/quietImage';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { run } from '../formats/qcow2/write/steps';
import type { OpeningGate } from '../gate/gate';
import type { PaceOptions } from '../pace';

/** An image that something is done to. */
export interface ManagedFile {
  readonly filename: string;
  /** Null: by its first bytes. */
  readonly format: ImageFormat | null;
}

export interface ManageContext extends PaceOptions {
  /** Asked before what the image names is opened. */
  readonly gate: OpeningGate;
  readonly currentFolder?: string | undefined;
  /** The passphrase of an encrypted image, null where there is none. */
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** Where images may be in use already; one of its own when left out. */
  readonly graph?: BlockGraph | undefined;
  /** Told when nobody said that an image is raw, and it is written. */
  readonly onProbedRaw?: ((filename: string) => void) | undefined;
}

/**
 * Opens an image with all that it is built on, locked as QEMU's, does something and closes it.
 * @throws EngineError as `BlockGraph.open`, and what `work` throws
 */
export async function withImage<T>(
  { filename, format }: ManagedFile,
  readOnly: boolean,
  context: ManageContext,
  work: (image: OpenedImage) => Promise<T>,
): Promise<T> {
  const { gate, currentFolder, passphraseOf, signal } = context;
  const graph = context.graph ?? new BlockGraph({ gate, currentFolder });
  let image: OpenedImage;
  try {
    image = await graph.open(filename, { format, readOnly, user: 'a change of the image', passphraseOf, signal });
  } catch (error) {
    throw notOpened(filename, error);
  }
  let result: T;
  try {
    if (!readOnly && format === null && image.node.driver === 'raw') {
      context.onProbedRaw?.(filename);
    }
    result = await work(image);
  } catch (error) {
    // What went wrong first is what is said.
    await image.close().catch(() => undefined);
    throw error;
  }
  await image.close();
  return result;
}

/**
 * Does something to the structure of a qcow2 image while no request is in flight; null for an image of another format.
 * @throws what `work` throws
 */
export async function whileQuiet<T>(node: TrackedNode, work: (image: QuietImage) => Promise<T>): Promise<T | null> {
  return node.requests.run(0, Infinity, true, () => {
    const { image } = node;
    return image instanceof Qcow2Node ? withStructure(image, work) : Promise.resolve(null);
  });
}

/** Does something to the structure of a qcow2 image; the caller sees to it that no request is in flight. @throws what `work` throws */
export async function withStructure<T>(image: Qcow2Node, work: (image: QuietImage) => Promise<T>): Promise<T> {
  // What the node has in memory goes to the file, bitmaps too, and is read again.
  await run(image.settle());
  await image.hooks.beforeClose?.(image);
  try {
    return await work(QuietImage.open(image.storage, { settled: true }));
  } finally {
    image.reload();
  }
}

/** QEMU says of what could not be opened that it could not. */
function notOpened(filename: string, error: unknown): unknown {
  if (error instanceof EngineError && (error.code === 'data.encrypted' || error.code === 'data.passphrase')) {
    const prefix = `${error.place.file ?? ''}: `;
    const message = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
    return new EngineError(error.code, `Could not open '${filename}': ${message}`, error.place, error);
  }
  return error;
}
