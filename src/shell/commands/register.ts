import * as vscode from 'vscode';

import { isCancelled, messageOf } from '../errors';
import type { Disposable } from '../lifecycle';
import { tellError } from '../messages';

/** Registers a command whose failure the person is told in one sentence; what was cancelled is not told at all. */
export function registerCommand(id: string, log: vscode.LogOutputChannel, run: (argument: unknown) => unknown): Disposable {
  return vscode.commands.registerCommand(id, async (argument: unknown) => {
    try {
      return await run(argument);
    } catch (error) {
      if (!isCancelled(error)) {
        log.error(`${id}: ${messageOf(error)}`);
        void tellError(messageOf(error));
      }
      return undefined;
    }
  });
}
