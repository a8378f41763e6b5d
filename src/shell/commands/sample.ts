import * as vscode from 'vscode';

import type { EngineClient } from '../../worker/client';
import { signalOf } from '../signals';
import { tellError, tellInformation } from '../messages';

/** *Create Sample Images…*: writes the sample workspace into an empty folder of the person's choice. */
export async function createSampleImages(engine: EngineClient): Promise<void> {
  const [folder] =
    (await vscode.window.showOpenDialog({
      title: 'Choose an empty folder for the sample images',
      openLabel: 'Create Here',
      canSelectFiles: false,
      canSelectFolders: true,
      ...(vscode.workspace.workspaceFolders?.[0] ? { defaultUri: vscode.workspace.workspaceFolders[0].uri } : {}),
    })) ?? [];
  if (folder === undefined) {
    return;
  }
  if ((await vscode.workspace.fs.readDirectory(folder)).length > 0) {
    void tellError('The folder is not empty. Choose one without files, or create one in the dialog.');
    return;
  }
  await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: 'Writing sample images', cancellable: true },
    (_, token) => engine.writeSample(folder.fsPath, { signal: signalOf(token) }),
  );
  if (vscode.workspace.getWorkspaceFolder(folder) === undefined) {
    const open = 'Open Folder';
    const answer = await tellInformation('The sample images are written.', open);
    if (answer === open) {
      await vscode.commands.executeCommand('vscode.openFolder', folder);
    }
  }
}
