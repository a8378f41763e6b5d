/**
 * `npm run package`: makes chainscope-VERSION.vsix, which runs on every system that VS Code runs on. npm installs a native module's binary
 * for its own system only; the others are fetched here.
 */
import { cp, readFile, stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { NODE, ROOT, temporaryFolder } from './run/paths.mjs';
import { run } from './run/processes.mjs';
import { command, say } from './run/say.mjs';
import { build } from './setup/build.mjs';
import { installDependencies, npm } from './setup/dependencies.mjs';

/** What the package is made of, beside the native modules; .vscodeignore chooses among it. */
const PARTS = ['.vscodeignore', 'CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'media', 'package.nls.json'];

/** The systems with calls that koffi is used for. */
const KOFFI_SYSTEMS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

await command(main);

async function main() {
  await installDependencies(say);
  say('Building');
  await build({ tests: false });

  const stage = await temporaryFolder('package');
  for (const part of PARTS) {
    await cp(join(ROOT, part), join(stage, part), { recursive: true });
  }
  const manifest = await stagedManifest();
  await writeFile(join(stage, 'package.json'), JSON.stringify(manifest, null, 2));
  say('Fetching the native modules of all systems');
  await npm(['install', '--force', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], stage);

  const vsix = join(ROOT, `${manifest.name}-${manifest.version}.vsix`);
  const { code, output } = await run(
    NODE,
    [
      join(ROOT, 'node_modules', '@vscode', 'vsce', 'vsce'),
      'package',
      '--allow-missing-repository',
      '--no-rewrite-relative-links',
      '--out',
      vsix,
    ],
    { cwd: stage, quiet: true },
  );
  if (code !== 0) {
    throw new Error(`vsce package failed (exit code ${code}):\n${output.trim()}`);
  }
  const { size } = await stat(vsix);
  console.log(`${relative(process.cwd(), vsix)}: ${(size / 2 ** 20).toFixed(2)} MiB`);
}

/**
 * The project's manifest with exact versions of what is shipped unbundled, and nothing that builds it.
 *
 * @returns {Promise<{ name: string, version: string, dependencies: Record<string, string> }>}
 */
async function stagedManifest() {
  const manifest = /** @type {{ name: string, version: string, dependencies: Record<string, string> }} */ (
    await readJson(join(ROOT, 'package.json'))
  );
  const lock = /** @type {{ packages: Record<string, { version: string } | undefined> }} */ (
    await readJson(join(ROOT, 'package-lock.json'))
  );
  const shipped = [...Object.keys(manifest.dependencies), ...KOFFI_SYSTEMS.map((system) => `@koromix/koffi-${system}`)];
  const dependencies = Object.fromEntries(shipped.map((name) => [name, lock.packages[`node_modules/${name}`]?.version ?? '']));
  return { ...manifest, dependencies, ...{ devDependencies: undefined, scripts: undefined, allowScripts: undefined } };
}

/**
 * @param {string} file
 * @returns {Promise<unknown>}
 */
async function readJson(file) {
  /** @type {unknown} */
  const json = JSON.parse(await readFile(file, 'utf8'));
  return json;
}
