// eslint-disable-next-line @typescript-eslint/no-restricted-imports -- Resolves symbolic links in names; no file is read.
import { realpath } from 'node:fs/promises';
import * as path from 'node:path';

import type { Chain, ChainLink } from '../../protocol/chain';

/** A path with `..` and symbolic links resolved; where there is no such file, as it is spelt. */
export async function realPathOf(file: string): Promise<string> {
  try {
    return await realpath(file);
  } catch {
    // It went away, or a folder on the way cannot be looked into.
    return path.normalize(file);
  }
}

/**
 * A chain in which each file has one name, however the images spell it, so that the same image is found again in several chains. Of what
 * the gate did not let be opened nothing is looked up.
 */
export async function withRealPaths({ links }: Chain): Promise<Chain> {
  return { links: await Promise.all(links.map(withRealPath)) };
}

async function withRealPath(link: ChainLink): Promise<ChainLink> {
  if (link.path === null) {
    return link;
  }
  const wasOpened = link.state.kind === 'open' || link.state.kind === 'loop';
  return { ...link, path: wasOpened ? await realPathOf(link.path) : path.normalize(link.path) };
}
