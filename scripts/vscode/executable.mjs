#!/usr/bin/env node
/**
 * Stands in for a desktop VS Code as test-electron's `vscodeExecutablePath`: takes the same arguments, runs the extension's tests in the
 * served VS Code, driven by Chromium, and ends with their exit code.
 */
import { join } from 'node:path';
import { format, parseArgs } from 'node:util';
import { RESULTS, temporaryFolder } from '../run/paths.mjs';
import { launchChromium } from './browser.mjs';
import { serveVsCode } from './server.mjs';

/** What the window says about itself: native modules that this copy goes without, services that it cannot reach, its own sockets. */
const NOISE =
  /spdlog|watchdog|sqlite|kerberos|connection token|Creating a socket|builtin extensions cache|open-vsx|static\/out\/vs\/|AgentHost|ChatModel|AccountPolicy|\[Service Worker\]|grace.time/i;

const { values, positionals } = parseArgs({
  strict: false,
  allowPositionals: true,
  options: {
    extensionDevelopmentPath: { type: 'string' },
    extensionTestsPath: { type: 'string' },
    'disable-workspace-trust': { type: 'boolean', default: false },
  },
});
const extension = String(values.extensionDevelopmentPath);
const tests = String(values.extensionTestsPath);
const folder = positionals[0] ?? process.cwd();

process.exitCode = await runTests();

/** @returns {Promise<number>} */
async function runTests() {
  const server = await serveVsCode({
    extension,
    data: await temporaryFolder('host'),
    automation: true,
    trustAll: values['disable-workspace-trust'] === true,
    settings: {},
    log: join(RESULTS, 'host-server.log'),
  });
  const browser = await launchChromium();
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    /** @type {Promise<number>} */
    const ended = new Promise((done, failed) => {
      void page.exposeFunction('codeAutomationExit', done);
      page.once('crash', () => failed(new Error('The page of VS Code crashed.')));
      browser.once('disconnected', () => failed(new Error('Chromium ended before the tests did.')));
    });
    await page.exposeFunction('codeAutomationLog', (/** @type {string} */ type, /** @type {unknown[]} */ args) => {
      const line = format(...args);
      if (!NOISE.test(line)) {
        (type === 'error' || type === 'warn' ? process.stderr : process.stdout).write(`${line}\n`);
      }
    });
    await page.goto(server.testAddress(folder, tests));
    return await ended;
  } finally {
    await browser.close();
    await server.stop();
  }
}
