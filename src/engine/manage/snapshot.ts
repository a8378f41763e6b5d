import { EngineError } from '../errors';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../formats/qcow2/manage/snapshots';
import type { QuietImage } from '../formats/qcow2/manage/quietImage';
import { whileQuiet, withImage, type ManageContext, type ManagedFile } from './managedImage';

/* Internal snapshots of an image in a file. */

/**
 * Keeps the disk as it is under a name.
 * @throws EngineError `request.unsupported` where the format has none, or a refcount cannot grow; as `withImage`
 */
export async function createImageSnapshot(file: ManagedFile, name: string, context: ManageContext): Promise<void> {
  await change(file, context, 'Operation not supported', (image) => createSnapshot(image, { name }, context));
}

/**
 * Makes the disk what it was; what it is now is lost.
 * @param idOrName an ID wins
 * @throws EngineError `request.invalid` when there is none; as `createImageSnapshot`
 */
export async function applyImageSnapshot(file: ManagedFile, idOrName: string, context: ManageContext): Promise<void> {
  await change(file, context, 'Block driver does not support snapshots', (image) => applySnapshot(image, idOrName, context));
}

/** Gives up the first snapshot of that name. @throws EngineError as `applyImageSnapshot` */
export async function deleteImageSnapshot(
  file: ManagedFile,
  selector: { readonly id: string } | { readonly name: string },
  context: ManageContext,
): Promise<void> {
  await change(file, context, 'snapshot not found', (image) => deleteSnapshot(image, selector, context));
}

/** @param unsupported what is said of an image whose format has no snapshots */
async function change(
  file: ManagedFile,
  context: ManageContext,
  unsupported: string,
  work: (image: QuietImage) => Promise<unknown>,
): Promise<void> {
  await withImage(file, false, context, async ({ node }) => {
    const done = await whileQuiet(node, async (image) => {
      await work(image);
      return true;
    });
    if (done === null) {
      throw new EngineError('request.unsupported', unsupported, { file: file.filename });
    }
  });
}
