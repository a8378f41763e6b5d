import { dirname, isAbsolute, relative, resolve } from 'node:path';
import type { ChainImage } from '../block/graph/openedImage';
import type { BlockNode } from '../block/blockNode';
import { readOnlyImage } from '../errors';
import { setBackingLink } from '../formats/qcow2/manage/backingLink';
import { QedNode } from '../formats/qed/qedNode';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { protocolOf } from '../gate/filename';
import { withStructure } from '../manage/managedImage';

/**
 * Writes into an image which backing file it has, and which format that is; to be called while none of its requests is in flight.
 * @param name as it is recorded; null for none
 * @throws EngineError `request.readOnly` for a format without backing files, `request.invalid` for a name without room, `file.io`
 */
export async function recordBacking(image: BlockNode, name: string | null, format: string | null): Promise<void> {
  if (image instanceof QedNode) {
    await image.changeBackingFile(name, format);
  } else if (image instanceof Qcow2Node) {
    await withStructure(image, (quiet) => setBackingLink(quiet, name, format));
  } else {
    throw readOnlyImage(image.filename);
  }
  await image.flush();
}

/**
 * The name to record for a backing file: as QEMU's jobs have it, the one it was opened by. One that is relative to where the program runs
 * would mean another file in the image, so it is made relative to the image's folder; and so is a file of a chain whose links are
 * relative, which can then go on being moved as a whole.
 */
export function recordedName(image: ChainImage, base: ChainImage): string {
  const { filename } = base;
  const isPlain = resolve(filename) === base.path;
  if (!isPlain || (isAbsolute(filename) && !isRelative(image.backingName))) {
    return filename;
  }
  const name = relative(dirname(image.path), base.path);
  return protocolOf(name) === null ? name : `./${name}`;
}

function isRelative(name: string | null): boolean {
  return name !== null && protocolOf(name) === null && !isAbsolute(name);
}
