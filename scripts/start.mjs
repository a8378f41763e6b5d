/**
 * `npm start`: installs what is missing, builds, writes a sample workspace and opens VS Code with the extension in it.
 *
 *   --folder DIR   open this folder, not the sample
 *   --fresh        write the sample anew
 *   --no-open      serve VS Code on a loopback port, print its address and open nothing
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT, VSCODE_CACHE } from './run/paths.mjs';
import { isStopping, run, runsUntilInterrupted, start } from './run/processes.mjs';
import { command, say } from './run/say.mjs';
import { build, requireNode } from './setup/build.mjs';
import { installDependencies } from './setup/dependencies.mjs';
import { SAMPLE, writeSample } from './setup/sample.mjs';
import { downloadedVsCode, hasDisplay, onPath } from './vscode/desktop.mjs';
import { serveVsCode } from './vscode/server.mjs';

/** How long `code` may take to hand its window over, in milliseconds. */
const HAND_OVER_TIMEOUT = 60_000;

await command(main);

async function main() {
  const { values: options } = parseArgs({
    options: { folder: { type: 'string' }, fresh: { type: 'boolean', default: false }, 'no-open': { type: 'boolean', default: false } },
  });
  runsUntilInterrupted();
  const folder = options.folder === undefined ? SAMPLE : resolve(options.folder);
  if (options.folder !== undefined && !existsSync(folder)) {
    throw new Error(`There is no folder ${folder}.`);
  }
  requireNode();
  await installDependencies(say);
  say('Building');
  await build({ tests: false });
  if (folder === SAMPLE) {
    await writeSample(say, options.fresh);
  }
  if (!options['no-open']) {
    if (await openInstalled(folder)) {
      return;
    }
    const downloaded = await downloadedVsCode(say);
    if (downloaded !== undefined) {
      await openDownloaded(downloaded, folder);
      return;
    }
  }
  await serve(folder, !options['no-open']);
}

/**
 * Asks the VS Code that is installed on this machine to open a window.
 *
 * @param {string} folder
 */
async function openInstalled(folder) {
  const code = onPath('code');
  if (code === undefined) {
    return false;
  }
  say(`Opening ${folder} in ${code}`);
  const args = ['--new-window', `--extensionDevelopmentPath=${ROOT}`, folder];
  const result = await run(code, args, { quiet: true, env: process.env, shell: process.platform === 'win32', timeout: HAND_OVER_TIMEOUT });
  if (result.code !== 0) {
    say(`It did not open (exit code ${result.code}): ${result.output.trim()}`);
    return false;
  }
  return true;
}

/**
 * Shows a window of the downloaded VS Code until it is closed.
 *
 * @param {string} executable
 * @param {string} folder
 */
async function openDownloaded(executable, folder) {
  say(`Opening ${folder}; close the window or press Ctrl-C to end`);
  const data = join(VSCODE_CACHE, 'start');
  await run(
    executable,
    [
      `--extensionDevelopmentPath=${ROOT}`,
      `--user-data-dir=${join(data, 'desktop')}`,
      `--extensions-dir=${join(data, 'desktop-extensions')}`,
      ...(folder === SAMPLE ? ['--disable-workspace-trust'] : []),
      // A sandbox needs a user of lesser rights than root.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-updates',
      '--skip-release-notes',
      '--skip-welcome',
      folder,
    ],
    { quiet: true, env: process.env },
  );
}

/**
 * Serves VS Code until Ctrl-C.
 *
 * @param {string} folder
 * @param {boolean} open shows it in a browser where there is one
 */
async function serve(folder, open) {
  const data = join(VSCODE_CACHE, 'start');
  // The sample is our own writing; another folder's trust is its owner's to grant.
  const server = await serveVsCode({ extension: ROOT, data, trustAll: folder === SAMPLE, log: join(data, 'server.log'), say });
  const address = server.address(folder);
  if (open && hasDisplay()) {
    openBrowser(address);
  }
  console.log(`\nVS Code with Chainscope is served at\n\n  ${address}\n\nPress Ctrl-C to end.`);
  const code = await server.ended;
  if (isStopping()) {
    return;
  }
  throw new Error(`The VS Code server ended (exit code ${code}). Its log is ${join(data, 'server.log')}`);
}

/** @param {string} address */
function openBrowser(address) {
  /** @type {Partial<Record<NodeJS.Platform, [string, string[]]>>} */
  const openers = { darwin: ['open', [address]], win32: ['rundll32', ['url.dll,FileProtocolHandler', address]] };
  const [command, args] = openers[process.platform] ?? ['xdg-open', [address]];
  if (onPath(command) !== undefined) {
    start(command, args, { env: process.env });
  }
}
