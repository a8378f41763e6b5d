import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VSCODE_CACHE } from '../run/paths.mjs';
import { npm } from '../setup/dependencies.mjs';

/** The npm package that carries a whole VS Code (1.139.1) as a server; used where the desktop's download cannot be reached. */
const PACKAGE = 'code-server';
const VERSION = '4.139.1';

const QUIET = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--engine-strict=false'];

/**
 * Makes sure that the servable VS Code is there.
 *
 * @param {(step: string) => void} say
 * @returns {Promise<string>} the folder of its `out/server-main.js`
 */
export async function servedVsCode(say) {
  const home = join(VSCODE_CACHE, `${PACKAGE}-${VERSION}`);
  const vscode = join(home, 'node_modules', PACKAGE, 'lib', 'vscode');
  if (existsSync(home)) {
    return vscode;
  }
  say(`Fetching VS Code (npm package ${PACKAGE} ${VERSION}, some 600 MB on disk)`);
  // Made under another name and moved when it is whole: an interrupted or a simultaneous run leaves nothing half done.
  await removeAbandoned();
  const partial = `${home}-by-${process.pid}`;
  await mkdir(partial, { recursive: true });
  try {
    await writeFile(join(partial, 'package.json'), '{ "private": true }\n');
    await npm(['install', ...QUIET, `${PACKAGE}@${VERSION}`], partial);
    const inside = join(partial, 'node_modules', PACKAGE, 'lib', 'vscode');
    await npm(['install', ...QUIET, '--omit=dev'], inside);
    await npm(['install', ...QUIET, '--omit=dev'], join(inside, 'extensions'));
    await rename(partial, home).catch((error) => {
      if (!existsSync(home)) {
        throw error;
      }
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return vscode;
}

/** Removes what interrupted runs left: folders that end in the number of a process that is no more. */
async function removeAbandoned() {
  await mkdir(VSCODE_CACHE, { recursive: true });
  for (const name of await readdir(VSCODE_CACHE)) {
    const owner = /-by-(\d+)$/.exec(name)?.[1];
    if (owner !== undefined && !isRunning(Number(owner))) {
      await rm(join(VSCODE_CACHE, name), { recursive: true, force: true });
    }
  }
}

/** @param {number} pid */
function isRunning(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
