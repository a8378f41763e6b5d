import assert from 'node:assert/strict';
import { join } from 'node:path';
import * as vscode from 'vscode';

import { api, workspaceFolder } from './extension';
import { until } from './waiting';

/** The custom editor in front; null for any other editor. */
function inFront(): vscode.TabInputCustom | null {
  const { input } = vscode.window.tabGroups.activeTabGroup.activeTab ?? {};
  return input instanceof vscode.TabInputCustom ? input : null;
}

describe('the editor', () => {
  const sample = vscode.Uri.file(join(workspaceFolder(), 'corrupted.qcow2'));

  before(() => api());

  afterEach(() => vscode.commands.executeCommand('workbench.action.closeAllEditors'));

  it('is what a qcow2 image opens in', async () => {
    await vscode.commands.executeCommand('vscode.open', sample);
    assert.equal(inFront()?.viewType, 'chainscope.image');
  });

  it('opens by the command, and comes to the front when it is open', async () => {
    await vscode.commands.executeCommand('chainscope.openImage', sample);
    await vscode.commands.executeCommand('chainscope.openImage', vscode.Uri.file(join(workspaceFolder(), 'orphan.qcow2')));
    await vscode.commands.executeCommand('chainscope.openImage', sample);
    assert.equal(inFront()?.viewType, 'chainscope.image');
    assert.equal(vscode.window.tabGroups.activeTabGroup.tabs.length, 2);
  });

  it('is what commands are about as soon as its tab is in front, before it shows anything', async () => {
    const sound = vscode.Uri.file(join(workspaceFolder(), 'web-server.qcow2'));
    await vscode.commands.executeCommand('chainscope.openImage', sample);
    const opening = vscode.commands.executeCommand('chainscope.openImage', sound);
    await until(
      () => inFront()?.uri.fsPath === sound.fsPath || undefined,
      vscode.window.tabGroups.onDidChangeTabs,
      () => 'The second image does not come to the front',
    );
    const report = await vscode.commands.executeCommand<{ exitCode: number } | null>('chainscope.checkImage');
    assert.equal(report?.exitCode, 0, 'The first one is corrupt');
    await opening;
  });

  it('is offered for raw images and VMDK, and opens them when asked to', async () => {
    const raw = vscode.Uri.file(join(workspaceFolder(), 'some.raw'));
    await vscode.workspace.fs.writeFile(raw, new Uint8Array(1024));
    await vscode.commands.executeCommand('chainscope.openImage', raw);
    assert.equal(inFront()?.viewType, 'chainscope.otherImage');
    await vscode.workspace.fs.delete(raw);
  });

  it('survives what it cannot open', async () => {
    const gone = vscode.Uri.file(join(workspaceFolder(), 'not-there.qcow2'));
    await vscode.commands.executeCommand('vscode.openWith', gone, 'chainscope.image');
    assert.equal(inFront()?.viewType, 'chainscope.image');
    await vscode.commands.executeCommand('vscode.openWith', sample.with({ scheme: 'untitled' }), 'chainscope.image');
  });

  it('follows a restart of the engine', async () => {
    const { engine } = await api();
    await vscode.commands.executeCommand('chainscope.openImage', sample);
    await vscode.commands.executeCommand('chainscope.restartEngine');
    const report = await vscode.commands.executeCommand<{ exitCode: number } | null>('chainscope.checkImage', sample);
    assert.equal(report?.exitCode, 2);
    assert.equal(engine.isRunning, true);
  });
});
