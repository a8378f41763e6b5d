import * as vscode from 'vscode';

import { tellWarning } from '../messages';

/** Whether the workspace is trusted; where it is not, the person is told what that keeps from happening and may change it. */
export async function requireTrust(consequence: string): Promise<boolean> {
  if (vscode.workspace.isTrusted) {
    return true;
  }
  const manage = 'Manage Workspace Trust';
  const answer = await tellWarning(consequence, manage);
  if (answer === manage) {
    await vscode.commands.executeCommand('workbench.trust.manage');
  }
  return vscode.workspace.isTrusted;
}
