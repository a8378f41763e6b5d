import * as fs from 'node:fs';
import * as nodeModule from 'node:module';
import { homedir } from 'node:os';
import * as path from 'node:path';

import { version } from './program';

/** Builds whose compiled code is kept, the latest of them: there may be more than one installation. */
const KEPT = 4;

/**
 * Lets Node keep this program's compiled code in the person's cache folder, and take it from there: it saves a third of the time to start.
 * Node finds out what is stale or damaged. Whoever can write there could make this program do anything, so the folder is the person's own
 * or is not used. Where nothing can be kept (no home, a read-only one, an older Node) everything is compiled, as without.
 */
export function keepCompiledCode(): void {
  const { enableCompileCache } = nodeModule as Partial<typeof nodeModule>;
  const folder = cacheFolder();
  if (folder === null || !enableCompileCache) {
    return;
  }
  try {
    const all = path.join(folder, 'chainscope', 'compiled');
    // By the build too: rebuilt code under one version is kept apart.
    const own = path.join(all, `${version}-${Math.trunc(fs.statSync(__filename).mtimeMs).toString(36)}`);
    if (!fs.existsSync(own)) {
      // One by one, since Node's own loop for that does not end in folders like /proc.
      [folder, path.dirname(all), all, own].forEach(makeFolder);
      removeOld(all);
    }
    if (isOwn(own)) {
      enableCompileCache(own);
    }
  } catch {
    // A folder that cannot be made.
  }
}

/** Where programs keep what they can make again; null where the system does not say. */
function cacheFolder(): string | null {
  const home = homedir();
  switch (process.platform) {
    case 'win32':
      return process.env['LOCALAPPDATA'] ?? null;
    case 'darwin':
      return path.isAbsolute(home) ? path.join(home, 'Library', 'Caches') : null;
    default: {
      const chosen = process.env['XDG_CACHE_HOME'] ?? '';
      // The specification of these folders has relative ones ignored.
      return path.isAbsolute(chosen) ? chosen : path.isAbsolute(home) ? path.join(home, '.cache') : null;
    }
  }
}

function makeFolder(folder: string): void {
  if (!fs.existsSync(folder)) {
    fs.mkdirSync(folder, { mode: 0o700 });
  }
}

function isOwn(folder: string): boolean {
  const { uid, mode } = fs.statSync(folder);
  return process.platform === 'win32' || (uid === process.getuid?.() && (mode & 0o022) === 0);
}

function removeOld(folder: string): void {
  const builds = fs.readdirSync(folder).map((name) => path.join(folder, name));
  const made = new Map(builds.map((build) => [build, fs.statSync(build).mtimeMs]));
  builds.sort((a, b) => made.get(b)! - made.get(a)!);
  for (const build of builds.slice(KEPT)) {
    fs.rmSync(build, { recursive: true, force: true });
  }
}
