import { resolve } from 'node:path';
import { runMochaSuite } from '../harness/mochaSuite';

/** Called by VS Code's extension host; a rejection makes the whole test run fail. */
export async function run(): Promise<void> {
  const { failed } = await runMochaSuite({
    name: 'host',
    folder: __dirname,
    results: resolve(__dirname, '../../../test-results'),
    timeout: 60_000,
    only: process.env['CHAINSCOPE_TEST_ONLY'],
  });
  if (failed > 0) {
    throw new Error(`${failed} tests in the extension host failed.`);
  }
}
