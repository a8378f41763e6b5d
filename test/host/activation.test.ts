import assert from 'node:assert/strict';
import * as vscode from 'vscode';

import { api, extension } from './extension';

describe('the extension', () => {
  it('does nothing before something of it is used', () => {
    assert.equal(extension().isActive, false);
  });

  it('activates without starting its engine', async () => {
    const started = performance.now();
    const { engine } = await api();
    process.stdout.write(`      activated in ${(performance.now() - started).toFixed(1)} ms\n`);
    assert.equal(engine.isRunning, false);
  });

  it('registers every command that its manifest declares', async () => {
    const { contributes } = extension().packageJSON as { contributes: { commands: { command: string; title: string }[] } };
    const registered = new Set(await vscode.commands.getCommands(true));
    assert.deepEqual(
      contributes.commands.filter(({ command }) => !registered.has(command)),
      [],
    );
    assert.deepEqual(
      contributes.commands.filter(({ title }) => title.includes('%')),
      [],
      'titles come from package.nls.json',
    );
  });
});
