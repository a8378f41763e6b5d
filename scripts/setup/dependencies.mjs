import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NODE, ROOT } from '../run/paths.mjs';
import { run } from '../run/processes.mjs';

/** Holds the digest of the lock file that node_modules was installed from. */
const STAMP = join(ROOT, 'node_modules', '.chainscope-installed');

/** Packages whose install scripts are needed: they fetch or check the binary for this machine. No other script is run. */
const BUILT = ['node', 'esbuild'];

/**
 * Installs the project's dependencies, unless they are those of the lock file already.
 *
 * @param {(step: string) => void} say
 */
export async function installDependencies(say) {
  const digest = createHash('sha256')
    .update(await readFile(join(ROOT, 'package-lock.json')))
    .update(`${process.platform} ${process.arch}`)
    .digest('hex');
  if (existsSync(STAMP) && (await readFile(STAMP, 'utf8')) === digest && existsSync(NODE)) {
    return;
  }
  say('Installing dependencies (npm ci)');
  // Install scripts are blocked on some machines and start compilers on others; the two that matter are run by name.
  await npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
  await npm(['rebuild', '--ignore-scripts=false', '--loglevel=error', ...BUILT]);
  if (!(await nodeWorks())) {
    say('Fetching Node 24');
    await run(process.execPath, ['installArchSpecificPackage.js'], { cwd: join(ROOT, 'node_modules', 'node'), quiet: true });
  }
  if (!(await nodeWorks())) {
    throw new Error(`Node 24 was not installed at ${NODE}. Run: npm rebuild node --ignore-scripts=false`);
  }
  const esbuild = await run(NODE, [join(ROOT, 'node_modules', 'esbuild', 'bin', 'esbuild'), '--version'], { quiet: true });
  if (esbuild.code !== 0) {
    throw new Error(`esbuild does not run: ${esbuild.output.trim()}\nRun: npm rebuild esbuild --ignore-scripts=false`);
  }
  await writeFile(STAMP, digest);
}

async function nodeWorks() {
  const { code, output } = await run(NODE, ['--version'], { quiet: true });
  return code === 0 && output.startsWith('v24.');
}

/**
 * Runs the npm that runs this script, or the one on the path.
 *
 * @param {readonly string[]} args
 * @param {string} [cwd]
 */
export async function npm(args, cwd = ROOT) {
  const script = process.env['npm_execpath'];
  const { code, output } = script?.endsWith('.js')
    ? await run(process.execPath, [script, ...args], { cwd, env: process.env, quiet: true })
    : await run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, {
        cwd,
        env: process.env,
        quiet: true,
        shell: process.platform === 'win32',
      });
  if (code !== 0) {
    throw new Error(`npm ${args.join(' ')} failed in ${cwd} (exit code ${code}):\n${output.trim()}`);
  }
}
