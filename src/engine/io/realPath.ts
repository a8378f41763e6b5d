import * as fs from 'node:fs';
import * as path from 'node:path';

import { errnoOf } from '../errors';

/** Symbolic links to follow where the system cannot, because they lead to something that does not exist. */
const MAX_LINKS = 40;

/**
 * Where a path leads once every symbolic link is followed, also when its last part does not exist (the deepest existing folder is
 * resolved and the rest is kept): the gate judges where an open would end up, not how the name reads. A loop of links, or a part that
 * cannot be searched, leaves the rest of the path as it is; opening it fails.
 */
export function realPath(absolute: string): string {
  return resolve(absolute, MAX_LINKS);
}

function resolve(absolute: string, links: number): string {
  try {
    return fs.realpathSync.native(absolute);
  } catch (error) {
    if (errnoOf(error) === undefined) {
      throw error;
    }
  }
  const parent = path.dirname(absolute);
  if (parent === absolute) {
    return absolute;
  }
  const target = links > 0 ? linkTarget(absolute) : null;
  if (target !== null) {
    // A dangling link: creating or appearing, the file would be where the link points.
    return resolve(path.resolve(resolve(parent, links - 1), target), links - 1);
  }
  const name = path.basename(absolute);
  // What is not there has no parent folder to go back to: such a name leads nowhere, and must not come to lead somewhere by being shortened.
  return name === '..' ? resolve(parent, links) : path.join(resolve(parent, links), name);
}

function linkTarget(absolute: string): string | null {
  try {
    return fs.readlinkSync(absolute);
  } catch {
    // No link, or nothing there: the caller keeps the name.
    return null;
  }
}
