import { resolve } from 'node:path';
import type { BlockGraph } from '../block/graph/blockGraph';
import type { ChainImage, OpenedImage } from '../block/graph/openedImage';
import type { Layer } from '../chain/layer';
import { invalidRequest } from '../errors';
import type { OpeningGate } from '../gate/gate';
import { realPath } from '../io/realPath';
import type { GuestActivity } from './guestActivity';
import type { JobWork } from './jobWork';

/** What jobs are prepared with. */
export interface JobParts {
  /** With the exports whose guests go on while jobs run. */
  readonly graph: BlockGraph;
  readonly gate: OpeningGate;
  readonly currentFolder?: string | undefined;
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** The job, as messages call it. */
  readonly user: string;
  readonly activity: GuestActivity;
  /** For the preparation only. */
  readonly signal?: AbortSignal | undefined;
}

/** A job that holds what it needs and can be started. */
export interface PreparedJob {
  readonly work: JobWork;
  /** Its guest's disk. */
  readonly image: OpenedImage;
}

/**
 * An image of a chain by its file.
 * @param name absolute, or relative to `currentFolder`; or as QEMU has it in messages
 * @throws EngineError `request.invalid` in QEMU's words
 */
export function findImage(chain: readonly ChainImage[], name: string, currentFolder: string | undefined): ChainImage {
  const path = resolve(currentFolder ?? '/', name);
  const real = realPath(path);
  const found = chain.find((image) => image.path === path || image.filename === name || realPath(image.path) === real);
  if (!found) {
    throw invalidRequest(`Did not find '${name}' in the backing chain of '${chain[0]?.filename ?? ''}'`);
  }
  return found;
}
