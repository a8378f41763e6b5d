import type { JobRequest } from '../../protocol/jobs';
import type { ImageFormat } from '../../protocol/chain';
import type { OpenedImage } from '../block/graph/openedImage';
import { invalidRequest, unsupportedRequest } from '../errors';
import { resolveName } from '../gate/filename';
import { recordBacking } from './backingRecord';
import type { JobParts, PreparedJob } from './preparedJob';
import { RebaseWork } from './rebase';

export type RebaseRequest = Extract<JobRequest, { type: 'rebase' }>;

const REBASED: readonly ImageFormat[] = ['qcow2', 'qed'];

/**
 * Opens an image, also while it is somebody's backing file, and the one that it shall be built on; nobody may change that meanwhile.
 * @throws EngineError as `BlockGraph.open`; `request.unsupported` for a format without backing files; `request.invalid` for an image that is
 * built on this one; `file.locked` where another job works
 */
export async function prepareRebase(request: RebaseRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, activity, passphraseOf, signal } = parts;
  if (!REBASED.includes(format)) {
    throw unsupportedRequest('Operation not supported');
  }
  const image = await graph.open(path, { format, readOnly: false, unchanged: true, user, passphraseOf, signal });
  try {
    const unfreeze = image.freeze(null, user);
    try {
      const below = await openBelow(request, image, parts);
      const { name = null, format: recorded = null } = request.backing ?? {};
      const relink = (settle: () => Promise<void>) =>
        image.relink(below?.node ?? null, async (driver) => {
          await settle();
          await recordBacking(driver, name, recorded);
        });
      const release = async () => {
        unfreeze();
        try {
          await below?.close();
        } finally {
          await image.close();
        }
      };
      return { image, work: new RebaseWork({ image: image.node, below: below?.node ?? null, relink, release, activity }) };
    } catch (error) {
      unfreeze();
      throw error;
    }
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** The image that another one shall be built on; null for none. @throws EngineError as `prepareRebase` */
export async function openBelow(
  { image: { path }, backing }: RebaseRequest,
  image: OpenedImage,
  { graph, user, currentFolder, passphraseOf, signal }: JobParts,
): Promise<OpenedImage | null> {
  if (backing === null) {
    return null;
  }
  const { filename } = resolveName(backing.name, { imageFilename: path, role: 'backing', currentFolder });
  const below = await graph.open(filename, { format: backing.format, readOnly: true, stable: true, user, passphraseOf, signal });
  if (below.chain().some(({ node }) => node === image.node)) {
    await below.close();
    throw invalidRequest(`'${backing.name}' is built on '${image.node.filename}' itself.`);
  }
  return below;
}
