import * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';

export const EXTENSION_ID = 'chainscope.chainscope';

export function extension(): vscode.Extension<ChainscopeApi> {
  const found = vscode.extensions.getExtension<ChainscopeApi>(EXTENSION_ID);
  if (found === undefined) {
    throw new Error('The extension is not there.');
  }
  return found;
}

export async function api(): Promise<ChainscopeApi> {
  return extension().activate();
}

/** The folder that the tests' window is open on. */
export function workspaceFolder(): string {
  const [folder] = vscode.workspace.workspaceFolders ?? [];
  if (folder === undefined) {
    throw new Error('The window has no folder.');
  }
  return folder.uri.fsPath;
}
