import { randomBytes } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NODE } from '../run/paths.mjs';
import { start, stop } from '../run/processes.mjs';
import { servedVsCode } from './cache.mjs';

/** How long the server may take until it listens, in milliseconds. */
const START_TIMEOUT = 180_000;

/** Keeps what has nothing to do with disk images out of the window. */
const SETTINGS = {
  'chat.disableAIFeatures': true,
  'extensions.autoCheckUpdates': false,
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'git.enabled': false,
  'telemetry.telemetryLevel': 'off',
  'workbench.enableExperiments': false,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.startupEditor': 'none',
  'workbench.tips.enabled': false,
};

/**
 * @typedef {object} VsCodeServer
 * @property {number} port
 * @property {(folder: string) => string} address the page of a window on a folder
 * @property {(folder: string, tests: string) => string} testAddress the page of a window whose extension development host calls `run()` of
 *   the module `tests`; only when served for automation
 * @property {Promise<number | null>} ended the server's exit code, once it ended
 * @property {() => Promise<void>} stop
 */

/**
 * Serves VS Code with one extension on a loopback port.
 *
 * @param {object} options
 * @param {string} options.extension folder of the extension
 * @param {string} options.data a folder for everything that this VS Code remembers
 * @param {boolean} [options.automation] lets a page run an extension's tests; such a window shows no notification by itself, so windows that
 *   are looked at go without
 * @param {boolean} [options.trustAll] no workspace is restricted
 * @param {Record<string, unknown>} [options.settings] user settings beside those that keep the window plain; without them the settings that
 *   were there before stay
 * @param {string} [options.log] where the server's output goes; it complains about native modules that stay unbuilt and are not needed
 * @param {NodeJS.ProcessEnv} [options.env]
 * @param {(step: string) => void} [options.say]
 * @returns {Promise<VsCodeServer>}
 */
export async function serveVsCode({
  extension,
  data,
  automation = false,
  trustAll = false,
  settings,
  log,
  env = process.env,
  say = () => undefined,
}) {
  const home = await servedVsCode(say);
  await writeSettings(join(data, 'user', 'User'), settings);
  await installInPlace(join(data, 'extensions'), automation ? undefined : extension);

  // Whoever can reach the port could run code as the one who started it: the address carries a secret.
  const token = randomBytes(16).toString('hex');
  const child = start(
    NODE,
    [
      'out/server-main.js',
      ...['--host', '127.0.0.1', '--port', '0', '--connection-token', token],
      ...['--accept-server-license-terms', '--telemetry-level', 'off'],
      ...['--server-data-dir', join(data, 'server'), '--user-data-dir', join(data, 'user'), '--extensions-dir', join(data, 'extensions')],
      ...(automation ? ['--enable-smoke-test-driver'] : []),
      ...(trustAll ? ['--disable-workspace-trust'] : []),
    ],
    { cwd: home, env },
  );
  if (log !== undefined) {
    await mkdir(dirname(log), { recursive: true });
    const file = createWriteStream(log);
    child.stdout.pipe(file);
    child.stderr.pipe(file);
  }
  const port = await listening(child).catch(async (error) => {
    await stop(child);
    throw error;
  });
  const origin = `127.0.0.1:${port}`;
  return {
    port,
    address: (folder) => page({ folder: pathOf(folder) }),
    testAddress: (folder, tests) =>
      page({
        folder: pathOf(folder),
        payload: JSON.stringify([
          ['extensionDevelopmentPath', `vscode-remote://${origin}${pathOf(extension)}`],
          ['extensionTestsPath', `vscode-remote://${origin}${pathOf(tests)}`],
          ['skipWelcome', 'true'],
        ]),
      }),
    ended: new Promise((ended) => child.once('exit', ended)),
    stop: () => stop(child),
  };

  /** @param {Record<string, string>} query */
  function page(query) {
    return `http://${origin}/?${new URLSearchParams({ tkn: token, ...query }).toString()}`;
  }
}

/**
 * @param {string} folder
 * @param {Record<string, unknown> | undefined} settings
 */
async function writeSettings(folder, settings) {
  const file = join(folder, 'settings.json');
  await mkdir(folder, { recursive: true });
  if (settings !== undefined || !existsSync(file)) {
    await writeFile(file, JSON.stringify({ ...SETTINGS, ...settings }, null, 2));
  }
}

/**
 * Makes an extension an installed one that stays where it is: the list of installed extensions names its folder.
 *
 * @param {string} list the folder of installed extensions
 * @param {string | undefined} extension
 */
async function installInPlace(list, extension) {
  /** @type {object[]} */
  const installed = [];
  if (extension !== undefined) {
    /** @type {unknown} */
    const json = JSON.parse(await readFile(join(extension, 'package.json'), 'utf8'));
    const manifest = /** @type {{ publisher: string, name: string, version: string }} */ (json);
    installed.push({
      identifier: { id: `${manifest.publisher}.${manifest.name}` },
      version: manifest.version,
      location: { $mid: 1, scheme: 'file', path: pathOf(extension) },
      metadata: { source: 'vsix' },
    });
  }
  await mkdir(list, { recursive: true });
  await writeFile(join(list, 'extensions.json'), JSON.stringify(installed));
}

/**
 * @param {string} path
 * @returns {string} as a URI has it, not yet encoded
 */
function pathOf(path) {
  return decodeURIComponent(pathToFileURL(resolve(path)).pathname);
}

/**
 * @param {import('node:child_process').ChildProcessByStdio<null, import('node:stream').Readable, import('node:stream').Readable>} child
 * @returns {Promise<number>} the port that it listens on
 */
function listening(child) {
  return new Promise((found, failed) => {
    let output = '';
    const timer = setTimeout(() => settle('did not listen in time'), START_TIMEOUT);
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('error', (error) => settle(`did not start: ${error.message}`));
    child.on('exit', (code) => settle(`ended with code ${code}`));

    /** @param {Buffer} chunk */
    function read(chunk) {
      output += chunk.toString();
      const port = /Extension host agent listening on (\d+)/.exec(output)?.[1];
      if (port !== undefined) {
        settle('', Number(port));
      }
    }

    /**
     * @param {string} problem
     * @param {number} [port]
     */
    function settle(problem, port) {
      clearTimeout(timer);
      child.stdout.off('data', read).resume();
      child.stderr.off('data', read).resume();
      if (port === undefined) {
        failed(new Error(`The VS Code server ${problem}.\n${output.trim()}`));
      } else {
        found(port);
      }
    }
  });
}
