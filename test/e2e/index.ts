import { RESULTS } from '../../scripts/run/paths.mjs';
import { runMochaSuite } from '../harness/mochaSuite';

/** Drives the real window in Chromium; the exit code says whether all went well. */
void runMochaSuite({
  name: 'e2e',
  folder: __dirname,
  results: RESULTS,
  timeout: 600_000,
  only: process.env['CHAINSCOPE_TEST_ONLY'],
}).then(({ failed }) => process.exit(failed === 0 ? 0 : 1));
