import type { Preallocation } from '../block/blockNode';
import { EngineError, invalidRequest } from '../errors';
import { withImage, type ManageContext, type ManagedFile } from './managedImage';

export interface ResizeRequest {
  /** Bytes: the new size, or by how much it changes. */
  readonly size: number;
  readonly relative?: '+' | '-' | undefined;
  /** Consents to what is behind the new end being lost. */
  readonly shrink: boolean;
  readonly preallocation?: Preallocation | undefined;
}

/**
 * Changes the size of a disk.
 * @returns bytes of the disk then
 * @throws ShrinkRefused; EngineError `request.invalid` in QEMU's words; `request.unsupported`; as `withImage`
 */
export async function resizeImage(file: ManagedFile, request: ResizeRequest, context: ManageContext): Promise<number> {
  const { relative, shrink, preallocation = 'off' } = request;
  return withImage(file, false, context, async ({ node }) => {
    const before = node.size;
    const size = relative === '+' ? before + request.size : relative === '-' ? before - request.size : request.size;
    if (!(size > 0 && size < 2 ** 63)) {
      throw invalidRequest('New image size must be positive');
    }
    if (size <= before && preallocation !== 'off') {
      throw invalidRequest('Preallocation can only be used for growing images');
    }
    if (size < before && !shrink) {
      throw new ShrinkRefused(file.filename);
    }
    await node.resize(size, preallocation);
    return node.size;
  });
}

/** The disk would become smaller, and nobody consented. */
export class ShrinkRefused extends EngineError {
  constructor(file: string) {
    super('request.invalid', 'Use the --shrink option to perform a shrink operation.', {
      file,
      remedy:
        "Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure there is " +
        'no important data there.',
    });
  }
}
