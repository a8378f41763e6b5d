import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import { exported } from './exported';
import { api, workspaceFolder } from './extension';
import { agrees, choosesFile, failsWith, Person, picks, types } from './person';
import { until } from './waiting';
import { ImageFolder } from '../harness/imageFolder';

const run = promisify(execFile);

/** Jobs as a person starts, steers and reads them; qemu-img tells what they did. */
describe('jobs', () => {
  let images: ImageFolder;
  let sockets: string;
  let extensionApi: ChainscopeApi;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'jobs'));
    mkdirSync(images.path);
    sockets = mkdtempSync(join(tmpdir(), 'chainscope-jobs-'));
    images.create('base.qcow2');
    images.qemuIo('base.qcow2', 'write -P 1 0 16M');
    overlay('base.qcow2', 'mid.qcow2');
    images.qemuIo('mid.qcow2', 'write -P 2 16M 16M');
    extensionApi = await api();
  });

  after(async () => {
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
    rmSync(images.path, { recursive: true });
    rmSync(sockets, { recursive: true });
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
      [picks(/^base\.qcow2$/), picks(/^At most…$/), types('256K'), agrees('Stream', /^Stream slow\.qcow2/)],
      async () => {
        const running = vscode.commands.executeCommand('chainscope.streamImage', uri('slow.qcow2'));
        await row(/copies at most 256 KiB\/s/);
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
      await row(/copies at most 256 KiB\/s/);
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
    const answers = [picks(/^At most…$/), types('256K'), agrees('Flatten'), failsWith(/torn\.qcow2 was interrupted/)];
    await Person.watches(answers, async () => {
      const running = vscode.commands.executeCommand('chainscope.flattenImage', uri('torn.qcow2'));
      await row(/^[1-9]\d* % · /);
      await vscode.commands.executeCommand('chainscope.restartEngine');
      await running;
    });
    assert.match(rowOf('torn.qcow2'), /^interrupted · /);
    images.qemuImg('check', 'torn.qcow2');
    execFileSync('qemu-img', ['compare', 'torn.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    await Person.watches([types('')], async (patient) => {
      const again = vscode.commands.executeCommand('chainscope.retryJob');
      await row(/copies at most 256 KiB\/s/);
      await vscode.commands.executeCommand('chainscope.setJobSpeed');
      await again;
      await patient.hears(/torn\.qcow2 holds all of its disk itself now/);
    });
    assert.equal(backingOf('torn.qcow2'), undefined);
    execFileSync('qemu-img', ['compare', 'torn.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('commit what a guest has, which then goes on in the base', async () => {
    images.create('low.qcow2');
    images.qemuIo('low.qcow2', 'write -P 1 0 8M');
    overlay('low.qcow2', 'high.qcow2');
    images.qemuIo('high.qcow2', 'write -P 3 4M 8M');
    const socket = join(sockets, 'high.sock');
    await Person.runs('startExport', uri('high.qcow2'), picks(/^Read and write$/), picks(/^Unix socket$/), types(socket));
    const guest = async (...commands: readonly string[]): Promise<void> => {
      await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), `nbd+unix:///?socket=${socket}`]);
    };
    const person = await Person.watches([picks(/^Full speed$/), agrees('Commit', /^Commit high\.qcow2 into low\.qcow2/)], async () => {
      const running = vscode.commands.executeCommand('chainscope.commitRunning', uri('high.qcow2'));
      await row(/ready to be completed/);
      await guest('write -P 9 20M 64k', 'flush');
      await vscode.commands.executeCommand('chainscope.completeJob');
      await running;
      await guest('read -P 9 20M 64k', 'read -P 3 4M 8M', 'write -P 8 30M 64k', 'flush');
      await exported(({ clients, bytesWritten }) => clients === 0 && bytesWritten >= 128 * 1024);
      await Person.runs('stopExport', undefined);
    });
    await person.hears(/high\.qcow2 is committed into low\.qcow2/);
    images.qemuIo('low.qcow2', 'read -P 1 0 4M', 'read -P 3 4M 8M', 'read -P 9 20M 64k', 'read -P 8 30M 64k');
    images.qemuImg('check', 'low.qcow2');
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('mirror a disk to a new image', async () => {
    const person = await Person.watches(
      [
        picks(/^The whole disk$/),
        picks(/^qcow2$/),
        choosesFile(images.of('mirror.qcow2')),
        picks(/^Full speed$/),
        agrees('Mirror', /^Mirror mid\.qcow2 to mirror\.qcow2/),
      ],
      async () => {
        const running = vscode.commands.executeCommand('chainscope.mirrorImage', uri('mid.qcow2'));
        await row(/ready to be completed/);
        await vscode.commands.executeCommand('chainscope.completeJob');
        await running;
      },
    );
    await person.hears(/mirror\.qcow2 holds what mid\.qcow2 held/);
    execFileSync('qemu-img', ['compare', 'mid.qcow2', 'mirror.qcow2'], { cwd: images.path, stdio: 'pipe' });
    images.qemuImg('check', 'mirror.qcow2');
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('allocate a range, and what a guest reads stays', async () => {
    overlay('mid.qcow2', 'thin.qcow2');
    const answers = [picks(/^A range…$/), types('24M'), types('16M'), picks(/^Metadata$/), picks(/^Full speed$/)];
    const question = /^Allocate 16 MiB from 24 MiB on of thin\.qcow2\?/;
    const person = await Person.runs('allocateImage', uri('thin.qcow2'), ...answers, agrees('Allocate', question));
    // Half of it comes from below; the other half is empty.
    assert.match(person.asked.join(), /At most 8 MiB are copied\. thin\.qcow2 grows by up to 16 MiB/);
    await person.hears(/No write to that part of thin\.qcow2 can fail/);
    const map = execFileSync('qemu-img', ['map', '--output=json', 'thin.qcow2'], { cwd: images.path, encoding: 'utf8' });
    const own = (JSON.parse(map) as { start: number; length: number; depth: number; offset?: number }[]).filter(({ depth }) => depth === 0);
    assert.equal(own[0]?.start, 24 * 1024 ** 2);
    assert.equal(
      own.reduce((sum, { length }) => sum + length, 0),
      16 * 1024 ** 2,
    );
    assert.ok(own.every(({ offset }) => offset !== undefined));
    execFileSync('qemu-img', ['compare', 'thin.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    images.qemuImg('check', 'thin.qcow2');
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('allocate the whole disk with zeroes written out', async () => {
    images.create('bare.qcow2');
    const answers = [picks(/^The whole disk$/), picks(/^Zero-filled$/), picks(/^Full speed$/)];
    const person = await Person.runs('allocateImage', uri('bare.qcow2'), ...answers, agrees('Allocate', /^Allocate bare\.qcow2\?/));
    await person.hears(/No write to bare\.qcow2 can fail/);
    const map = execFileSync('qemu-img', ['map', '--output=json', 'bare.qcow2'], { cwd: images.path, encoding: 'utf8' });
    assert.ok((JSON.parse(map) as { data: boolean; offset?: number }[]).every(({ data, offset }) => data && offset !== undefined));
    await vscode.commands.executeCommand('chainscope.dismissEndedJobs');
  });

  it('rebase an image, which reads the same without the one that it built on', async () => {
    overlay('mid.qcow2', 'moved.qcow2');
    const answers = [picks(/^\$\(circle-slash\) None$/), picks(/^Full speed$/)];
    const person = await Person.runs('rebaseRunning', uri('moved.qcow2'), ...answers, agrees('Rebase', /^Rebase moved\.qcow2/));
    await person.hears(/moved\.qcow2 holds all of its disk itself now/);
    assert.equal(backingOf('moved.qcow2'), undefined);
    execFileSync('qemu-img', ['compare', 'moved.qcow2', 'mid.qcow2'], { cwd: images.path, stdio: 'pipe' });
    images.qemuImg('check', 'moved.qcow2');
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
    const { jobs } = extensionApi;
    const shown = (): readonly string[] => jobs.getChildren().map((item) => String(jobs.getTreeItem(item).description));
    await until(
      () => shown().find((description) => what.test(description)),
      jobs.onDidChangeTreeData,
      () => `No row says ${String(what)}, only: ${shown().join(' | ')}`,
    );
  }
});
