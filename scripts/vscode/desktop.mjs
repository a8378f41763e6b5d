import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { VSCODE_CACHE } from '../run/paths.mjs';

/** Answers with the list of VS Code's releases. */
const RELEASES = 'https://update.code.visualstudio.com/api/releases/stable';

/** How long to wait for it, in milliseconds; a machine that cannot reach it uses the served VS Code. */
const REACH_TIMEOUT = 5000;

/** How long the download may stall, in milliseconds. */
const STALL_TIMEOUT = 20_000;

/** @returns {boolean} whether a window can be shown on this machine */
export function hasDisplay() {
  return process.platform === 'win32' || process.platform === 'darwin' || Boolean(process.env['DISPLAY'] ?? process.env['WAYLAND_DISPLAY']);
}

/**
 * @param {string} name
 * @returns {string | undefined} the program's path
 */
export function onPath(name) {
  const extensions = process.platform === 'win32' ? ['.exe', '.cmd', '.bat'] : [''];
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .flatMap((folder) => extensions.map((extension) => join(folder, name + extension)))
    .find((file) => existsSync(file));
}

/**
 * A desktop VS Code, downloaded once by test-electron.
 *
 * @param {(step: string) => void} say
 * @returns {Promise<string | undefined>} its executable; undefined where it cannot be shown or fetched
 */
export async function downloadedVsCode(say) {
  if (!hasDisplay() || !(await reachable())) {
    return undefined;
  }
  const { downloadAndUnzipVSCode, SilentReporter } = await import('@vscode/test-electron');
  say('Fetching VS Code');
  try {
    return await downloadAndUnzipVSCode({ cachePath: VSCODE_CACHE, timeout: STALL_TIMEOUT, reporter: new SilentReporter() });
  } catch (error) {
    say(`VS Code could not be downloaded (${error instanceof Error ? error.message : String(error)})`);
    return undefined;
  }
}

async function reachable() {
  try {
    const response = await fetch(RELEASES, { method: 'HEAD', signal: AbortSignal.timeout(REACH_TIMEOUT) });
    return response.ok;
  } catch {
    return false;
  }
}
