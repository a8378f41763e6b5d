import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { startTestServer } from '../harness/vscodeServer';
import type { TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';

/**
 * The opening gate in a real window: in restricted mode nothing that an image names is opened, then what lies in the trusted folder, then
 * what the person allows. Whether a file was read is asked of the file system (its access time).
 */
describe('what images name', () => {
  let browser: Browser;
  let server: TestServer;
  let folder: string;
  let outside: string;
  let window: VsCodeWindow;
  /** False on a file system that is mounted without access times: only the view tells there. */
  let recordsReads: boolean;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chainscope-trust-'));
    outside = join(folder, 'outside.qcow2');
    const workspace = join(folder, 'workspace');
    await mkdir(workspace);
    create(outside);
    create(join(workspace, 'inside.qcow2'), outside);
    create(join(workspace, 'top.qcow2'), 'inside.qcow2');
    await forgetReads(outside);
    const control = join(folder, 'control');
    await writeFile(control, 'x');
    await forgetReads(control);
    await readFile(control);
    recordsReads = await wasRead(control);
    [browser, server] = await Promise.all([launchChromium(), startTestServer({ trusted: false, log: 'trust-server' })]);
    window = await VsCodeWindow.open(browser, server.address(workspace));
    await window.showViewContainer('Image Chains');
  });

  after(async () => {
    await browser.close();
    await server.stop();
    await rm(folder, { recursive: true, maxRetries: 10 });
  });

  it('is not opened in restricted mode', async () => {
    await window.treeRow('inside.qcow2, not opened: the workspace is not trusted').waitFor();
    await window.untilRestricted();
    await window.treeRow('outside.qcow2, not opened: the workspace is not trusted').waitFor();
    await window.page.locator('.tree-explorer-viewlet-tree-view .message').getByText('Restricted mode').waitFor();
    await window.screenshot('restricted');
  });

  it('is not opened by the editor or a check in restricted mode', async () => {
    await window.openFile('top.qcow2');
    await window.runCommand('Chainscope: Check Image');
    await window.told('top.qcow2: no errors were found');
    await window.closeAllEditors();
    assert.equal(await wasRead(outside), false);
  });

  it('is opened inside the folder once it is trusted, and not outside', async () => {
    await window.trustWorkspace();
    await window.treeRow(/^inside\.qcow2, qcow2/).waitFor();
    await window.treeRow('outside.qcow2, not opened: outside the workspace').waitFor();
    assert.equal(await wasRead(outside), false);
  });

  it('is opened elsewhere when the person allows it', async () => {
    const row = window.treeRow('outside.qcow2, not opened: outside the workspace');
    // A selected row shows its actions.
    await row.click();
    await row.getByRole('button', { name: 'Allow Access…' }).click();
    const dialog = window.page.locator('.monaco-dialog-box');
    await dialog.getByText('Let inside.qcow2 open outside.qcow2?').waitFor();
    assert.ok((await dialog.innerText()).includes(outside));
    await window.screenshot('allow-access');
    await dialog.getByRole('button', { name: 'Allow' }).click();
    await window.treeRow(/^outside\.qcow2, qcow2/).waitFor();
    assert.equal(await wasRead(outside), recordsReads);
  });

  it('is closed again when the person takes it back', async () => {
    const quickPick = window.page.locator('.quick-input-widget');
    await window.runCommandThatAsks('Chainscope: Manage Access Grants');
    await quickPick.getByRole('checkbox', { name: /^outside\.qcow2, may be opened by inside\.qcow2/ }).click();
    await quickPick.getByRole('button', { name: 'OK' }).click();
    await window.treeRow('outside.qcow2, not opened: outside the workspace').waitFor();
  });

  function create(file: string, backing?: string): void {
    const overlay = backing === undefined ? [] : ['-b', backing, '-F', 'qcow2', '-u'];
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...overlay, file, '64M']);
  }

  /** An access older than the last write: the next read moves it on, whatever the mount says of later ones. */
  async function forgetReads(file: string): Promise<void> {
    await utimes(file, new Date('2020-01-01'), new Date('2021-01-01'));
  }

  async function wasRead(file: string): Promise<boolean> {
    const { atime, mtime } = await stat(file);
    return atime > mtime;
  }
});
