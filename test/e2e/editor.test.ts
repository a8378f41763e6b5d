import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { writeSampleImages } from '../../scripts/setup/sample.mjs';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { startTestServer } from '../harness/vscodeServer';
import type { TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';

const ACTIVE = 'web-server-staging.qcow2';
const DAMAGED = 'corrupted.qcow2';
const LINK = '[click](command:workbench.action.quit).qcow2';

/** The editor in a real window: what crosses between the page, the shell and the engine. */
describe('the editor', () => {
  let browser: Browser;
  let server: TestServer;
  let folder: string;
  let window: VsCodeWindow;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chainscope-editor-'));
    await writeSampleImages(folder);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, 'written.qcow2'), '64M']);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, LINK), '64M']);
    // What a LUKS volume begins with: a format that is known and cannot be read.
    await writeFile(join(folder, 'volume.img'), Buffer.from('LUKS\xba\xbe\0\x01'.padEnd(4096, '\0'), 'latin1'));
    [browser, server] = await Promise.all([launchChromium(), startTestServer({ log: 'editor-server' })]);
    window = await VsCodeWindow.open(browser, server.address(folder));
  });

  after(async () => {
    await browser.close();
    await server.stop();
    await rm(folder, { recursive: true, maxRetries: 10 });
  });

  it('shows an image, and opens the next file of its chain from there', async () => {
    await window.openFile(ACTIVE);
    const editor = await window.editor(ACTIVE);
    await editor.getByText('backing_file_offset').waitFor();
    await editor.getByRole('button', { name: /^web-server\.qcow2/ }).click();
    await window.tab('web-server.qcow2').waitFor();
    await (await window.editor('web-server.qcow2')).getByText('backing_file_offset').waitFor();
  });

  it('is where it was when its tab comes back', async () => {
    await window.openFile('web-server.qcow2');
    await window.openFile(ACTIVE);
    const editor = await window.editor(ACTIVE);
    await editor.getByRole('tab', { name: 'Hex' }).click();
    await editor.getByText('header and header extensions').first().waitFor();
    const before = editor.getByRole('tab', { name: 'Hex', selected: true });
    await window.tab('web-server.qcow2').click();
    // The page of a hidden editor is gone; only then is the one in front the other's.
    await before.waitFor({ state: 'detached' });
    const other = (await window.editor('web-server.qcow2')).getByRole('tab', { name: 'Overview', selected: true });
    await other.waitFor();
    await window.tab(ACTIVE).click();
    await other.waitFor({ state: 'detached' });
    await (await window.editor(ACTIVE)).getByRole('tab', { name: 'Hex', selected: true }).waitFor();
    await window.closeAllEditors();
  });

  it('shows what a check found, and so does the Problems panel', async () => {
    await window.openFile(DAMAGED);
    await window.runCommand('Chainscope: Check Image');
    await window.told('corrupted.qcow2: 4 corruptions');
    await window.answer('Show Findings');
    const editor = await window.editor(DAMAGED);
    await editor.getByRole('tab', { name: /^Check/, selected: true }).waitFor();
    await editor.getByText('L2 entry 41 at 0x610148').first().waitFor();
    await window.page
      .locator('.statusbar')
      .getByRole('button', { name: /Errors: 4/ })
      .waitFor();
  });

  it('checks an image from its own page', async () => {
    await window.clearNotifications();
    await window.openFile(DAMAGED);
    const editor = await window.editor(DAMAGED);
    await editor.getByRole('tab', { name: /^Check/ }).click();
    await editor.getByText('Deep Check').click();
    await editor.getByText(/4 corruptions/).waitFor();
    await window.told('corrupted.qcow2: 4 corruptions');
  });

  it('goes to an address that is typed into the palette', async () => {
    await window.openFile(DAMAGED);
    const editor = await window.editor(DAMAGED);
    await editor.getByRole('tab', { name: 'Hex' }).waitFor();
    await window.runCommandThatAsks('Chainscope: Go to Address…');
    const input = window.page.locator('.quick-input-widget input.input');
    await input.fill('nonsense');
    await window.page
      .locator('.quick-input-message')
      .filter({ hasText: /nonsense/ })
      .waitFor();
    await input.fill('h:64K');
    await window.page.locator('.quick-input-widget').getByText('host offset 64 KiB (0x10000)').waitFor();
    await window.page.keyboard.press('Enter');
    await editor.getByRole('tab', { name: 'Hex', selected: true }).waitFor();
    await editor.getByText('data of guest offset 0x0').first().waitFor();
    await window.closeAllEditors();
  });

  it('follows an image that another process writes, and says which', async () => {
    await window.openFile('written.qcow2');
    const editor = await window.editor('written.qcow2');
    await editor.getByText(/^\d clusters of 64 KiB/).waitFor();

    const writer = spawn('qemu-io', ['-f', 'qcow2', join(folder, 'written.qcow2')], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      await once(writer.stdout, 'data');
      await editor
        .getByText(`In use by qemu-io (process ${writer.pid ?? 0})`)
        .first()
        .waitFor();
      writer.stdin.write('write -P 1 0 8M\nflush\n');
      await editor.getByText(/^13\d clusters of 64 KiB/).waitFor();
    } finally {
      const ended = once(writer, 'exit');
      writer.stdin.end('quit\n');
      await ended;
    }
    await editor
      .getByText(`In use by qemu-io (process ${writer.pid ?? 0})`)
      .first()
      .waitFor({ state: 'detached' });
    await window.closeAllEditors();
  });

  it('says why an image cannot be opened', async () => {
    await window.openFile('volume.img');
    await window.runCommandThatAsks('View: Reopen Editor With...');
    await window.quickPickRow('Disk Image').click();
    const editor = await window.editor('volume.img');
    await editor.getByRole('alert').filter({ hasText: 'LUKS' }).waitFor();
    await window.screenshot('editor-failure');
    await window.closeAllEditors();
  });

  it('makes no link of a name that looks like one', async () => {
    await window.openFile(LINK);
    await window.runCommand('Chainscope: Check Image');
    const notification = await window.told('no errors were found');
    assert.equal(await notification.locator('.notification-list-item-message a').count(), 0);
    assert.match(await notification.innerText(), /\[click\] \(command:workbench\.action\.quit\)/);
    await window.clearNotifications();
    await window.closeAllEditors();
  });

  it('breaks no rule of its content security policy', () => {
    assert.deepEqual(
      window.consoleErrors.filter((message) => /content security policy/i.test(message)),
      [],
    );
  });
});
