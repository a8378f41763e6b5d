import { randomBytes } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NODE } from '../run/paths.mjs';
import { start, stop } from '../run/processes.mjs';
import { servedVsCode } from './cache.mjs';

/** How long the server may take until it listens, in milliseconds. */
const START_TIMEOUT = 60_000;

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
 * @property {(window: { folder: string, extension?: string, tests?: string }) => string} address the page of a window on `folder`, as an
 *   extension development host when `extension` is given; `tests` is the module whose `run()` that host calls
 * @property {() => Promise<void>} stop
 */

/**
 * Serves VS Code on a loopback port.
 *
 * @param {object} options
 * @param {string} options.data a folder for everything that this VS Code remembers
 * @param {Record<string, unknown>} [options.settings] user settings beside those that keep the window plain; without them the settings that
 *   were there before stay
 * @param {string} [options.log] where the server's output goes; it complains about native modules that stay unbuilt and are not needed
 * @param {NodeJS.ProcessEnv} [options.env]
 * @param {(step: string) => void} [options.say]
 * @returns {Promise<VsCodeServer>}
 */
export async function serveVsCode({ data, settings, log, env = process.env, say = () => undefined }) {
  const home = await servedVsCode(say);
  const user = join(data, 'user');
  const settingsFile = join(user, 'User', 'settings.json');
  await mkdir(join(user, 'User'), { recursive: true });
  if (settings !== undefined || !existsSync(settingsFile)) {
    await writeFile(settingsFile, JSON.stringify({ ...SETTINGS, ...settings }, null, 2));
  }

  // Whoever can reach the port could run code as the one who started it: the address carries a secret.
  const token = randomBytes(16).toString('hex');
  const child = start(
    NODE,
    [
      'out/server-main.js',
      ...['--host', '127.0.0.1', '--port', '0', '--connection-token', token],
      ...['--accept-server-license-terms', '--enable-smoke-test-driver', '--telemetry-level', 'off'],
      ...['--server-data-dir', join(data, 'server'), '--user-data-dir', user, '--extensions-dir', join(data, 'extensions')],
    ],
    { cwd: home, env },
  );
  if (log !== undefined) {
    await mkdir(resolve(log, '..'), { recursive: true });
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
    address: ({ folder, extension, tests }) => {
      const payload = [
        ...(extension === undefined ? [] : [['extensionDevelopmentPath', remote(origin, extension)]]),
        ...(tests === undefined ? [] : [['extensionTestsPath', remote(origin, tests)]]),
        ['skipWelcome', 'true'],
      ];
      const query = new URLSearchParams({ tkn: token, folder: pathOf(folder), payload: JSON.stringify(payload) });
      return `http://${origin}/?${query.toString()}`;
    },
    stop: () => stop(child),
  };
}

/**
 * @param {string} origin
 * @param {string} path
 */
function remote(origin, path) {
  return `vscode-remote://${origin}${pathToFileURL(resolve(path)).pathname}`;
}

/** @param {string} path */
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
