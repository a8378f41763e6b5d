import assert from 'node:assert/strict';
import { mkdirSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import * as vscode from 'vscode';

import type { CheckReport } from '../../src/protocol/check';
import { api, workspaceFolder } from './extension';
import { ImageFolder } from '../harness/imageFolder';

describe('the command Check Image', () => {
  let images: ImageFolder;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'checked'));
    mkdirSync(images.path);
    for (const name of ['good.qcow2', 'leak.qcow2', 'bad.qcow2']) {
      images.create(name);
      images.qemuIo(name, 'write -P 1 0 1M');
    }
    // Long enough for a cluster that nothing uses to lie in it.
    truncateSync(images.of('leak.qcow2'), 128 * 65_536);
    // The first refcount block is the third cluster of a fresh image: cluster 100 is counted and not used, cluster 5 used and not counted.
    images.patch('leak.qcow2', 2 * 65_536 + 100 * 2, [0, 1]);
    images.patch('bad.qcow2', 2 * 65_536 + 5 * 2, [0, 0]);
    await api();
  });

  after(() => rmSync(images.path, { recursive: true }));

  async function check(name: string, command = 'chainscope.checkImage'): Promise<{ report: CheckReport; problems: vscode.Diagnostic[] }> {
    const uri = vscode.Uri.file(images.of(name));
    const report = await vscode.commands.executeCommand<CheckReport | null>(command, uri);
    assert.ok(report, 'The check ended with a report.');
    return { report, problems: vscode.languages.getDiagnostics(uri) };
  }

  it('has nothing to say about a consistent image', async () => {
    const { report, problems } = await check('good.qcow2');
    assert.equal(report.exitCode, 0);
    assert.deepEqual(problems, []);
  });

  it('puts a leak into the Problems panel as a warning', async () => {
    const { report, problems } = await check('leak.qcow2');
    assert.deepEqual([report.exitCode, report.counts.leaks, report.counts.corruptions], [3, 1, 0]);
    assert.deepEqual(
      problems.map(({ severity, source, code }) => ({ severity, source, code })),
      [{ severity: vscode.DiagnosticSeverity.Warning, source: 'Chainscope', code: 'leak' }],
    );
    assert.match(problems[0]?.message ?? '', /0x640000/);
  });

  it('puts corruption into the Problems panel as an error, and takes it out when the image is mended or gone', async () => {
    const { report, problems } = await check('bad.qcow2', 'chainscope.checkImageDeep');
    assert.equal(report.exitCode, 2);
    assert.equal(report.deep, true);
    assert.ok(problems.some(({ severity }) => severity === vscode.DiagnosticSeverity.Error));

    images.qemuImg('check', '-q', '-r', 'all', 'bad.qcow2');
    assert.deepEqual((await check('bad.qcow2')).problems, []);

    await check('leak.qcow2');
    const uri = vscode.Uri.file(images.of('leak.qcow2'));
    const gone = new Promise<void>((resolve) => {
      const listener = vscode.languages.onDidChangeDiagnostics(() => {
        if (vscode.languages.getDiagnostics(uri).length === 0) {
          listener.dispose();
          resolve();
        }
      });
    });
    rmSync(uri.fsPath);
    await gone;
  });
});
