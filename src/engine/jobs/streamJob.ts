import type { JobRequest } from '../../protocol/jobs';
import type { ChainImage } from '../block/graph/openedImage';
import { invalidRequest } from '../errors';
import { recordBacking, recordedName } from './backingRecord';
import { findImage, type JobParts, type PreparedJob } from './preparedJob';
import { StreamWork } from './stream';

export type StreamRequest = Extract<JobRequest, { type: 'stream' }>;

/**
 * Opens what a stream needs: the image for writing, also while it is somebody's backing file, and its chain.
 * @throws EngineError as `BlockGraph.open`; `request.invalid` for a base that is not in the chain; `file.locked` where another job works
 */
export async function prepareStream(request: StreamRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, activity, passphraseOf, signal } = parts;
  const image = await graph.open(path, { format, readOnly: false, unchanged: true, user, passphraseOf, signal });
  try {
    const chain = image.chain();
    const base = baseOf(request, chain, parts.currentFolder);
    const unfreeze = image.freeze(base?.node ?? null, user);
    const relink = async () => {
      const own = image.chain();
      if (own[1]?.node === base?.node) {
        return;
      }
      const name = base && recordedName(own[0]!, base);
      await image.relink(base?.node ?? null, (driver) => recordBacking(driver, name, base?.format ?? null));
    };
    const release = async () => {
      unfreeze();
      await image.close();
    };
    const { range } = request;
    const work = new StreamWork({ node: image.node, base: base?.node ?? null, range: range ?? undefined, relink, release, activity });
    return { image, work };
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** What stays below the image; null when nothing does. */
export function baseOf(
  { base, bottom }: StreamRequest,
  chain: readonly ChainImage[],
  currentFolder: string | undefined,
): ChainImage | null {
  if (base !== null && bottom !== null) {
    throw invalidRequest("'base' and 'bottom' cannot be specified at the same time");
  }
  const found = (name: string): number => {
    const index = chain.indexOf(findImage(chain, name, currentFolder));
    if (index === 0) {
      throw invalidRequest(`'${name}' is the image itself; what is streamed into it lies below.`);
    }
    return index;
  };
  if (bottom !== null) {
    return chain[found(bottom) + 1] ?? null;
  }
  return base === null ? null : chain[found(base)]!;
}
