import { resolve } from 'node:path';
import * as vscode from 'vscode';

import { runMochaSuite } from '../harness/mochaSuite';

/** Called by VS Code's extension host; a rejection makes the whole test run fail. */
export async function run(): Promise<void> {
  const { failed } = await runMochaSuite({
    name: 'host',
    folder: __dirname,
    results: resolve(__dirname, '../../../test-results'),
    // Longer than anything waits by itself: those say what is missing.
    timeout: 240_000,
    afterFailure: leaveNothing,
    only: process.env['CHAINSCOPE_TEST_ONLY'],
  });
  if (failed > 0) {
    throw new Error(`${failed} tests in the extension host failed.`);
  }
}

/** Exports and jobs end with the engine. */
async function leaveNothing(): Promise<void> {
  for (const command of ['chainscope.restartEngine', 'chainscope.dismissEndedJobs', 'workbench.action.closeAllEditors']) {
    await vscode.commands.executeCommand(command);
  }
}
