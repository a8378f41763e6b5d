import { resolve } from 'node:path';
import type { JobRequest } from '../../protocol/jobs';
import type { ChainImage, OpenedImage } from '../block/graph/openedImage';
import { invalidRequest } from '../errors';
import { removeFile } from '../io/fileStorage';
import { realPath } from '../io/realPath';
import { createImage } from '../manage/create';
import { recordedName } from './backingRecord';
import { MirrorWork } from './mirror';
import type { JobParts, PreparedJob } from './preparedJob';

export type MirrorRequest = Extract<JobRequest, { type: 'mirror' }>;

/**
 * Makes the image that a disk is copied to. When the job is completed the guest goes on there. One that ends before both are alike removes
 * it again; one that is cancelled later leaves a copy of the disk as it was then.
 * @throws EngineError as `BlockGraph.open` and `createImage`
 */
export async function prepareMirror(request: MirrorRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, passphraseOf, signal } = parts;
  const image = await graph.open(path, { format, readOnly: true, user, passphraseOf, signal });
  try {
    const chain = image.chain();
    requireOther(resolve(parts.currentFolder ?? '.', request.target), chain);
    const unfreeze = image.freeze(null, user);
    const below = request.sync === 'top' ? (chain[1] ?? null) : null;
    try {
      const target = await makeTarget(request, image, below, parts);
      const release = async () => {
        unfreeze();
        try {
          await target.close();
        } finally {
          await image.close();
        }
      };
      const work = new MirrorWork({
        source: image.node,
        activity: parts.activity,
        target: target.node,
        base: below?.node ?? null,
        targetIsZero: below === null,
        pivot: (settle) => image.pivot(target.node, settle),
        release,
        giveUp: () => removeFile(request.target),
      });
      return { image, work };
    } catch (error) {
      unfreeze();
      throw error;
    }
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** What is made new must not be what is copied. @throws EngineError `request.invalid` */
function requireOther(target: string, chain: readonly ChainImage[]): void {
  const real = realPath(target);
  if (chain.some(({ path }) => realPath(path) === real)) {
    throw invalidRequest(`'${target}' is an image of the chain that is to be copied.`);
  }
}

async function makeTarget(
  { target, targetFormat, options }: MirrorRequest,
  image: OpenedImage,
  below: ChainImage | null,
  { graph, gate, currentFolder, user, signal }: JobParts,
): Promise<OpenedImage> {
  const own = image.chain()[0]!;
  const backing = below && { name: recordedName({ ...own, path: target }, below), format: below.format };
  const { size } = image.node;
  await createImage(
    { filename: target, format: targetFormat, size, backing: backing ?? undefined, options },
    { gate, currentFolder, signal },
  );
  try {
    return await graph.open(target, { format: targetFormat, readOnly: false, user, signal });
  } catch (error) {
    removeFile(target);
    throw error;
  }
}
