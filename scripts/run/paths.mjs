import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder, absolute. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '');

/** What is downloaded and kept beside the project: VS Code itself and what its windows remember. */
export const VSCODE_CACHE = join(ROOT, '.vscode-test');

/** Logs, screenshots and machine-readable results of the last test run. */
export const RESULTS = join(ROOT, 'test-results');

/** Node 24, the Node that current VS Code embeds; the package `node` brings it, whatever the machine's own is. */
export const NODE = join(ROOT, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');

/**
 * The environment for what the project starts: its own tools and Node come first.
 *
 * @returns {NodeJS.ProcessEnv}
 */
export function projectEnvironment() {
  const bin = join(ROOT, 'node_modules', '.bin');
  return { ...process.env, PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` };
}

/**
 * A new folder that is removed when this process ends.
 *
 * @param {string} purpose
 */
export async function temporaryFolder(purpose) {
  const folder = await mkdtemp(join(tmpdir(), `chainscope-${purpose}-`));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
