import type { BlockNode } from '../block/blockNode';
import { ReadOnlyNode } from '../block/graph/readOnlyNode';
import { TrackedNode } from '../block/trackedNode';
import { invalidRequest } from '../errors';
import { BitmapKeeper } from '../formats/qcow2/manage/bitmapKeeper';
import { listBitmaps, loadBits } from '../formats/qcow2/manage/bitmapStore';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import type { BitmapView } from './nbdExport';

/**
 * A persistent bitmap of an image or of one below it, for an export's clients: what it says while they write.
 * @throws EngineError `request.invalid` when there is none of that name, or it is inconsistent
 */
export function storedBitmap(top: BlockNode, name: string): BitmapView {
  for (let node: BlockNode | null = top; node !== null; node = node.backing) {
    const metadata = qcow2MetadataOf(node);
    const bitmap = metadata ? listBitmaps(metadata).find((candidate) => candidate.name === name) : undefined;
    if (metadata && bitmap) {
      const bits = loadBits(metadata, bitmap);
      const keeper = keeperOf(node);
      return { name, status: (offset, length) => (keeper?.bitmap(name) ?? bits).status(offset, length) };
    }
  }
  throw invalidRequest(`Bitmap '${name}' is not found`);
}

/** All persistent bitmaps of an image, but for those that were not stored properly. */
export function storedBitmaps(top: BlockNode): readonly BitmapView[] {
  const metadata = qcow2MetadataOf(top);
  return (metadata ? listBitmaps(metadata) : []).filter(({ inconsistent }) => !inconsistent).map(({ name }) => storedBitmap(top, name));
}

function keeperOf(node: BlockNode): BitmapKeeper | null {
  const image = node instanceof TrackedNode ? node.image : node;
  return image instanceof Qcow2Node && image.hooks instanceof BitmapKeeper ? image.hooks : null;
}

function qcow2MetadataOf(node: BlockNode): Qcow2Metadata | null {
  const image = node instanceof TrackedNode ? node.image : node;
  if (image instanceof Qcow2Node) {
    return image.metadata;
  }
  return image instanceof ReadOnlyNode && image.detail.format === 'qcow2' ? image.detail.metadata : null;
}
