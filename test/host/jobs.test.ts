import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import { api, workspaceFolder } from './extension';
import { agrees, Person, picks, types } from './person';
import { ImageFolder } from './qemu';

/** How long a job may take to get somewhere, in milliseconds. */
const PATIENCE = 20_000;

/** Jobs as a person starts, steers and reads them; qemu-img tells what they did. */
describe('jobs', () => {
  let images: ImageFolder;
  let extensionApi: ChainscopeApi;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'jobs'));
    mkdirSync(images.path);
    images.create('base.qcow2');
    images.qemuIo('base.qcow2', 'write -P 1 0 16M');
    overlay('base.qcow2', 'mid.qcow2');
    images.qemuIo('mid.qcow2', 'write -P 2 16M 16M');
    extensionApi = await api();
  });

  after(async () => {
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
    rmSync(images.path, { recursive: true });
    await vscode.commands.executeCommand('chainscope.refresh');
  });

  it('flatten an image after saying what that takes', async () => {
    overlay('mid.qcow2', 'flat.qcow2');
    const person = await Person.runs('flattenImage', uri('flat.qcow2'), picks(/^Full speed$/), agrees('Flatten', /^Flatten flat\.qcow2/));
    assert.match(person.asked.join(), /At most 32 MiB are copied\. flat\.qcow2 grows by up to 32 MiB/);
    assert.match(person.asked.join(), /flat\.qcow2 has no backing file/);
    await person.hears(/flat\.qcow2 holds all of its disk itself now/);
    assert.equal(backingOf('flat.qcow2'), undefined);
    execFileSync('qemu-img', ['compare', 'flat.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    images.qemuImg('check', 'flat.qcow2');
    assert.match(rowOf('flat.qcow2'), /^done · /);
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
    assert.deepEqual(extensionApi.jobs.entries, []);
  });

  it('stream as slowly as they are told, pause, go on, and are cancelled', async () => {
    overlay('mid.qcow2', 'slow.qcow2');
    const person = await Person.watches(
      [picks(/^base\.qcow2$/), picks(/^At most…$/), types('1M'), agrees('Stream', /^Stream slow\.qcow2/)],
      async () => {
        const running = vscode.commands.executeCommand('chainscope.streamImage', uri('slow.qcow2'));
        await row(/at most 1 MiB\/s/);
        await vscode.commands.executeCommand('chainscope.pauseJob');
        await row(/^paused · /);
        await vscode.commands.executeCommand('chainscope.resumeJob');
        await row(/^\d+ % · /);
        await vscode.commands.executeCommand('chainscope.cancelJob');
        await running;
      },
    );
    assert.deepEqual(person.told, []);
    assert.match(rowOf('slow.qcow2'), /^cancelled · /);
    assert.equal(backingOf('slow.qcow2'), 'mid.qcow2');
    images.qemuImg('check', 'slow.qcow2');

    const speeding = await Person.watches([types('')], async (impatient) => {
      const again = vscode.commands.executeCommand('chainscope.retryJob');
      await row(/at most 1 MiB\/s/);
      await vscode.commands.executeCommand('chainscope.setJobSpeed');
      await again;
      await impatient.hears(/slow\.qcow2 holds what lay between and builds on base\.qcow2 now/);
    });
    assert.equal(speeding.told.length, 1);
    assert.equal(backingOf('slow.qcow2'), 'base.qcow2');
    execFileSync('qemu-img', ['compare', 'slow.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('are interrupted when the engine ends, and go on when they are resumed', async () => {
    overlay('mid.qcow2', 'torn.qcow2');
    const person = await Person.watches([picks(/^At most…$/), types('1M'), agrees('Flatten')], async () => {
      const running = vscode.commands.executeCommand('chainscope.flattenImage', uri('torn.qcow2'));
      await row(/^[1-9]\d* % · /);
      await vscode.commands.executeCommand('chainscope.restartEngine');
      await running;
    });
    await person.hears(/torn\.qcow2 was interrupted/);
    assert.match(rowOf('torn.qcow2'), /^interrupted · /);
    images.qemuImg('check', 'torn.qcow2');
    execFileSync('qemu-img', ['compare', 'torn.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    await Person.watches([types('')], async (patient) => {
      const again = vscode.commands.executeCommand('chainscope.retryJob');
      await row(/at most 1 MiB\/s/);
      await vscode.commands.executeCommand('chainscope.setJobSpeed');
      await again;
      await patient.hears(/torn\.qcow2 holds all of its disk itself now/);
    });
    assert.equal(backingOf('torn.qcow2'), undefined);
    execFileSync('qemu-img', ['compare', 'torn.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('say what an image without a backing file has to be flattened for', async () => {
    const person = await Person.runs('flattenImage', uri('base.qcow2'));
    await person.hears(/base\.qcow2 has no backing file/);
  });

  function overlay(backing: string, name: string): void {
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', name);
  }

  function uri(name: string): vscode.Uri {
    return vscode.Uri.file(images.of(name));
  }

  /** The name of its file, in whichever folder. */
  function backingOf(name: string): string | undefined {
    const text = execFileSync('qemu-img', ['info', '--output=json', name], { cwd: images.path, encoding: 'utf8' });
    const backing = (JSON.parse(text) as { 'backing-filename'?: string })['backing-filename'];
    return backing && basename(backing);
  }

  /** What the row of the job on an image says. */
  function rowOf(name: string): string {
    const drawn = extensionApi.jobs.getChildren().map((item) => extensionApi.jobs.getTreeItem(item));
    return String(drawn.find(({ label }) => typeof label === 'string' && label.endsWith(name))?.description);
  }

  /** Waits until some job's row says this. */
  async function row(what: RegExp): Promise<void> {
    const deadline = AbortSignal.timeout(PATIENCE);
    const shown = (): readonly string[] =>
      extensionApi.jobs.getChildren().map((item) => String(extensionApi.jobs.getTreeItem(item).description));
    while (!shown().some((description) => what.test(description))) {
      if (deadline.aborted) {
        throw new Error(`No row says ${String(what)}, only: ${shown().join(' | ')}`);
      }
      await new Promise<void>((resolve) => {
        const listener = extensionApi.jobs.onDidChangeTreeData(() => {
          listener.dispose();
          resolve();
        });
        deadline.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }
});
