import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { startTestServer } from '../harness/vscodeServer';
import type { TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';
import { Wizard } from '../harness/wizard';

/** The commands that make, change and compare images, as a person uses them; what they did is asked of qemu-img. */
describe('managing images', () => {
  let browser: Browser;
  let server: TestServer;
  let folder: string;
  let window: VsCodeWindow;
  let wizard: Wizard;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chainscope-manage-'));
    qemuImg('create', '-f', 'qcow2', 'base.qcow2', '64M');
    qemuImg('create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
    qemuIo('top.qcow2', 'write -P 7 1M 64k');
    [browser, server] = await Promise.all([launchChromium(), startTestServer({ log: 'manage-server' })]);
    window = await VsCodeWindow.open(browser, server.address(folder));
    wizard = new Wizard(window);
    await window.showViewContainer('Image Chains');
    await window.treeRow(/^top\.qcow2/).waitFor();
  });

  after(async () => {
    await browser.close();
    await server.stop();
    await rm(folder, { recursive: true });
  });

  afterEach(async () => {
    await window.clearNotifications();
  });

  it('compares two images and offers the command', async () => {
    await window.treeRow(/^top\.qcow2/).click();
    await window.runCommandThatAsks('Chainscope: Compare With…');
    await wizard.page('Compare top.qcow2 With', '1/2');
    await wizard.choose('base.qcow2');
    await wizard.page('Compare top.qcow2 With', '2/2');
    await wizard.back();
    await wizard.page('Compare top.qcow2 With', '1/2');
    await wizard.choose('base.qcow2');
    await wizard.choose('What the guest reads');
    const told = window.notifications().filter({ hasText: 'the first difference is at guest offset 1048576' });
    await told.waitFor();
    await window.screenshot('compare');
    await window.notificationButton('Copy as qemu-img Command').click();
    assert.equal(await window.clipboard(), `qemu-img compare -f qcow2 -F qcow2 ${join(folder, 'top.qcow2')} ${join(folder, 'base.qcow2')}`);
  });

  function qemuImg(...args: string[]): string {
    return execFileSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
  }

  function qemuIo(image: string, ...commands: string[]): string {
    return execFileSync('qemu-io', [...commands.flatMap((command) => ['-c', command]), '-f', 'qcow2', image], {
      cwd: folder,
      encoding: 'utf8',
    });
  }
});
