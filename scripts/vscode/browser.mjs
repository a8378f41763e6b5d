import { chromium } from 'playwright-core';
import { findChromium } from './chromium.mjs';

/**
 * Starts Chromium without a screen and without any traffic of its own.
 *
 * @param {readonly string[]} [extra] further command-line flags
 */
export async function launchChromium(extra = []) {
  const executablePath = findChromium();
  if (executablePath === undefined) {
    throw new Error('No Chromium was found. On Debian or Ubuntu: apt-get install chromium');
  }
  return chromium.launch({
    executablePath,
    headless: true,
    // On a slow and busy machine.
    timeout: 180_000,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...extra,
    ],
  });
}
