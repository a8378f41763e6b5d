import type { JobRequest } from '../../protocol/jobs';
import type { ChainImage, OpenedImage } from '../block/graph/openedImage';
import { invalidRequest } from '../errors';
import { recordBacking, recordedName } from './backingRecord';
import { CommitWork } from './commit';
import type { JobWork } from './jobWork';
import { MirrorWork } from './mirror';
import { findImage, type JobParts, type PreparedJob } from './preparedJob';

export type CommitRequest = Extract<JobRequest, { type: 'commit' }>;

/** The images of a commit, by where they stand in the chain. */
export interface CommitSpan {
  readonly top: number;
  readonly base: number;
}

/** @throws EngineError `request.invalid` in QEMU's words */
export function commitSpan({ top, base }: CommitRequest, chain: readonly ChainImage[], currentFolder: string | undefined): CommitSpan {
  const from = top === null ? 0 : chain.indexOf(findImage(chain, top, currentFolder));
  const to = base === null ? chain.length - 1 : chain.indexOf(findImage(chain, base, currentFolder));
  if (chain.length < 2) {
    throw invalidRequest(`'${chain[0]?.filename ?? ''}' has no backing file.`);
  }
  if (to <= from) {
    throw invalidRequest(`'${chain[to]!.filename}' is not below '${chain[from]!.filename}' in the chain: nothing can be committed there.`);
  }
  return { top: from, base: to };
}

/**
 * Opens the images of a commit. That of the active layer becomes ready when both are alike, keeps them so, and when it is completed the
 * guest goes on in the base.
 * @throws EngineError as `BlockGraph.open`; `request.invalid`; `file.locked` where somebody else uses what would change
 */
export async function prepareCommit(request: CommitRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, passphraseOf, signal } = parts;
  const image = await graph.open(path, { format, readOnly: true, user, passphraseOf, signal });
  try {
    const chain = image.chain();
    const span = commitSpan(request, chain, parts.currentFolder);
    const [top, base] = [chain[span.top]!, chain[span.base]!];
    const unfreeze = image.freeze(base.node, user);
    try {
      const end = await image.writeBelow(top.node, base.node, user);
      const release = async () => {
        unfreeze();
        try {
          await end();
        } finally {
          await image.close();
        }
      };
      const work = span.top === 0 ? activeCommit(image, base, release, parts) : innerCommit(chain, span, release, parts);
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

function activeCommit(image: OpenedImage, { node: base }: ChainImage, release: () => Promise<void>, { activity }: JobParts): JobWork {
  return new MirrorWork({
    source: image.node,
    activity,
    target: base,
    base,
    targetIsZero: false,
    prepare: async () => {
      if (base.size < image.node.size) {
        await base.resize(image.node.size);
      }
    },
    pivot: (settle) => image.pivot(base, settle),
    release,
  });
}

function innerCommit(chain: readonly ChainImage[], { top, base }: CommitSpan, release: () => Promise<void>, parts: JobParts): JobWork {
  const overlay = chain[top - 1]!;
  const target = chain[base]!;
  const relink = async () => {
    const { graph, user } = parts;
    const opened = await graph.open(overlay.path, { format: overlay.format, readOnly: false, unchanged: true, user });
    try {
      await opened.relink(target.node, (driver) => recordBacking(driver, recordedName(overlay, target), target.format));
    } finally {
      await opened.close();
    }
  };
  return new CommitWork({ top: chain[top]!.node, base: target.node, relink, release, activity: parts.activity });
}
