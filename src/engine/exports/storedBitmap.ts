import type { BlockNode } from '../block/blockNode';
import { ReadOnlyNode } from '../block/graph/readOnlyNode';
import { TrackedNode } from '../block/trackedNode';
import { invalidRequest } from '../errors';
import { listBitmaps, loadBits } from '../formats/qcow2/manage/bitmapStore';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import type { BitmapView } from './nbdExport';

/**
 * A persistent bitmap of an image or of one below it, for an export's clients.
 * @param readOnly of the export
 * @throws EngineError `request.invalid` when there is none of that name, it is inconsistent, or it changes with what clients write
 */
export function storedBitmap(top: BlockNode, name: string, readOnly: boolean): BitmapView {
  for (let node: BlockNode | null = top; node !== null; node = node.backing) {
    const metadata = qcow2MetadataOf(node);
    const bitmap = metadata ? listBitmaps(metadata).find((candidate) => candidate.name === name) : undefined;
    if (metadata && bitmap) {
      if (bitmap.enabled && !readOnly && node === top) {
        throw invalidRequest(`Bitmap '${name}' changes with what is written; a writable export of it is not available.`);
      }
      const bits = loadBits(metadata, bitmap);
      return { name, status: (offset, length) => bits.status(offset, length) };
    }
  }
  throw invalidRequest(`Bitmap '${name}' is not found`);
}

function qcow2MetadataOf(node: BlockNode): Qcow2Metadata | null {
  const image = node instanceof TrackedNode ? node.image : node;
  if (image instanceof Qcow2Node) {
    return image.metadata;
  }
  return image instanceof ReadOnlyNode && image.detail.format === 'qcow2' ? image.detail.metadata : null;
}
