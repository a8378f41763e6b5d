import { NODE } from '../run/paths.mjs';
import { run } from '../run/processes.mjs';

/**
 * Refuses a Node that the scripts themselves cannot run on; everything else runs on the project's own.
 *
 * @throws {Error}
 */
export function requireNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) {
    throw new Error(`Node ${process.versions.node} is too old: install Node 20 or later (https://nodejs.org).`);
  }
}

/**
 * Builds dist/.
 *
 * @param {{ tests: boolean }} what `tests` builds the test bundles too
 * @throws {Error} with esbuild's messages
 */
export async function build({ tests }) {
  const { code, output } = await run(NODE, ['esbuild.mjs', ...(tests ? [] : ['--product'])], { quiet: true });
  if (code !== 0) {
    throw new Error(`The build failed:\n${output.trim()}`);
  }
}
