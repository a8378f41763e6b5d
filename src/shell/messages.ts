import * as vscode from 'vscode';

import { messageText } from './text/plain';

/* Notifications. All go through here, since names out of files stand in them and VS Code makes links of some texts. */

export function tellInformation(message: string, ...actions: readonly string[]): Thenable<string | undefined> {
  return vscode.window.showInformationMessage(messageText(message), ...actions);
}

export function tellWarning(message: string, ...actions: readonly string[]): Thenable<string | undefined> {
  return vscode.window.showWarningMessage(messageText(message), ...actions);
}

export function tellError(message: string, ...actions: readonly string[]): Thenable<string | undefined> {
  return vscode.window.showErrorMessage(messageText(message), ...actions);
}

/** Asks before something is done. `detail` is one paragraph each, and whole: what a person agrees to is not cut short. */
export async function askPermission(question: string, detail: readonly string[], action: string): Promise<boolean> {
  const options = { modal: true, detail: detail.join('\n\n') };
  return (await vscode.window.showWarningMessage(messageText(question), options, action)) === action;
}

/** The same with a second thing to do instead; null when the person did neither. */
export async function askWhich<T extends string>(question: string, detail: readonly string[], ...actions: readonly T[]): Promise<T | null> {
  const options = { modal: true, detail: detail.join('\n\n') };
  const answer = await vscode.window.showWarningMessage<string>(messageText(question), options, ...actions);
  return actions.find((action) => action === answer) ?? null;
}
