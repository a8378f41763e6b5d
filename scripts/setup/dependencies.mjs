import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NODE, ROOT } from '../run/paths.mjs';
import { run } from '../run/processes.mjs';

/** Packages whose install scripts are needed: they fetch or check the binary for this machine. No other script is run. */
const BUILT = ['node', 'esbuild'];

/**
 * Installs the project's dependencies, unless they are those of the lock file already.
 *
 * @param {(step: string) => void} say
 */
export async function installDependencies(say) {
  const current = await isCurrent();
  if (current && existsSync(NODE)) {
    return;
  }
  if (!current) {
    say('Installing dependencies (npm ci)');
    // Install scripts are blocked on some machines and start compilers on others; the two that matter are run by name.
    await npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  say('Fetching Node 24');
  await npm(['rebuild', '--ignore-scripts=false', '--loglevel=error', ...BUILT]);
  if (!(await nodeWorks())) {
    // What the blocked script would have done.
    await run('node', ['installArchSpecificPackage.js'], { cwd: join(ROOT, 'node_modules', 'node'), quiet: true });
  }
  if (!(await nodeWorks())) {
    throw new Error(`Node 24 was not installed at ${NODE}. Run: npm rebuild node --ignore-scripts=false`);
  }
  const esbuild = await run(NODE, ['-e', "require('esbuild').transformSync('')"], { quiet: true });
  if (esbuild.code !== 0) {
    throw new Error(`esbuild does not run: ${esbuild.output.trim()}\nRun: npm rebuild esbuild --ignore-scripts=false`);
  }
}

/**
 * Compares the lock file with npm's own record of what node_modules holds.
 *
 * @returns {Promise<boolean>}
 */
async function isCurrent() {
  const record = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) {
    return false;
  }
  const [wanted, installed] = await Promise.all([packages(join(ROOT, 'package-lock.json')), packages(record)]);
  return Object.entries(wanted).every(([path, entry]) => {
    const found = installed[path];
    // The record leaves out the project itself and what is optional and for another platform.
    return path === '' || (found === undefined ? entry?.optional === true : found.version === entry?.version);
  });
}

/**
 * @param {string} file
 * @returns {Promise<Record<string, { version: string, optional?: boolean } | undefined>>}
 */
async function packages(file) {
  /** @type {unknown} */
  const lock = JSON.parse(await readFile(file, 'utf8'));
  return /** @type {{ packages: Record<string, { version: string, optional?: boolean }> }} */ (lock).packages;
}

async function nodeWorks() {
  const { code, output } = await run(NODE, ['--version'], { quiet: true });
  return code === 0 && output.startsWith('v24.');
}

/**
 * Runs the npm that runs this script, or the one on the path. It runs on the Node of the path: this process's own may be the one in
 * node_modules, which an installation replaces.
 *
 * @param {readonly string[]} args
 * @param {string} [cwd]
 */
export async function npm(args, cwd = ROOT) {
  const script = process.env['npm_execpath'];
  const { code, output } = script?.endsWith('.js')
    ? await run('node', [script, ...args], { cwd, env: process.env, quiet: true })
    : await run('npm', args, { cwd, env: process.env, quiet: true, shell: process.platform === 'win32' });
  if (code !== 0) {
    throw new Error(`npm ${args.join(' ')} failed in ${cwd} (exit code ${code}):\n${output.trim()}`);
  }
}
