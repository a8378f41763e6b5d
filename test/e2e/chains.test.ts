import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { writeSampleImages } from '../../scripts/setup/sample.mjs';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { startTestServer } from '../harness/vscodeServer';
import type { TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';

describe('the view Chains', () => {
  let browser: Browser;
  let server: TestServer;
  let folder: string;
  let window: VsCodeWindow;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'chainscope-chains-'));
    await writeSampleImages(join(folder, 'sample'));
    [browser, server] = await Promise.all([launchChromium(), startTestServer({ log: 'chains-server' })]);
    window = await VsCodeWindow.open(browser, server.address(join(folder, 'sample')));
    await window.showViewContainer('Image Chains');
  });

  after(async () => {
    await browser.close();
    await server.stop();
    await rm(folder, { recursive: true, maxRetries: 10 });
  });

  it('shows a chain with its base last', async () => {
    const rows = window.treeRow(/^(web-server|debian)/);
    await rows.nth(2).waitFor();
    const labels = await rows.evaluateAll((elements) => elements.map((row) => row.getAttribute('aria-label')?.split(',')[0]));
    assert.deepEqual(labels, ['web-server-staging.qcow2', 'web-server.qcow2', 'debian-12-base.qcow2']);
    await window.screenshot('chains');
  });

  it('tells all about an image in its hover', async () => {
    await window.treeRow(/^web-server-staging/).hover();
    const hover = window.page.locator('.workbench-hover').filter({ hasText: 'Virtual size' });
    await hover.waitFor();
    assert.match(await hover.innerText(), /Backing file\s+web-server\.qcow2/);
    assert.equal(await hover.locator('a').count(), 0);
  });

  it('opens an image from the keyboard', async () => {
    await window.runCommand('Image Chains: Focus on Chains View');
    await window.page.locator('.sidebar .monaco-list:focus').waitFor();
    await window.page.keyboard.press('Home');
    await window
      .treeRow(/^corrupted/)
      .and(window.page.locator('.focused'))
      .waitFor();
    await window.page.keyboard.press('Enter');
    await window.tab('corrupted.qcow2').waitFor();
    await window.closeAllEditors();
  });

  it('remembers what is expanded', async () => {
    const base = window.treeRow(/^debian-12-base/);
    await window
      .treeRow(/^web-server-staging/)
      .locator('.monaco-tl-twistie')
      .click();
    await base.waitFor({ state: 'detached' });
    await stored(window.page, 'web-server-staging.qcow2",false');
    await window.reload();
    await window
      .treeRow(/^web-server-staging/)
      .and(window.page.locator('[aria-expanded="false"]'))
      .waitFor();
    assert.equal(await base.count(), 0);
  });

  it('reveals an image that an editor shows', async () => {
    await window.openFile('debian-12-base.qcow2');
    await window.runCommand('Chainscope: Select in Chains');
    await window
      .treeRow(/^debian-12-base/)
      .and(window.page.locator('.selected, [aria-selected=true]'))
      .waitFor();
    await window.closeAllEditors();
  });

  it('opens a located file in place of a missing one, without touching the image', async () => {
    const image = join(folder, 'sample', 'orphan.qcow2');
    const found = join(folder, 'found.qcow2');
    await copyFile(join(folder, 'sample', 'debian-12-base.qcow2'), found);
    const before = await readFile(image);

    const missing = window.treeRow(/^golden-image\.qcow2, missing/);
    await missing.click();
    await missing.getByRole('button', { name: 'Locate Missing Image…' }).click();
    const dialog = window.page.locator('.quick-input-widget');
    await dialog.getByText('Locate gone/golden-image.qcow2').waitFor();
    // The dialog writes its folder's name into the input once it has listed it.
    await window.quickPickRow('web-server.qcow2').waitFor();
    await dialog.locator('input.input').fill(found);
    // The dialog has found the file that was typed.
    await window.quickPickRow('found.qcow2').waitFor();
    await dialog.getByRole('button', { name: 'Use This File' }).click();
    await window.treeRow(/^found\.qcow2, qcow2/).waitFor();
    assert.deepEqual(await readFile(image), before);
  });

  it('shows a snapshot in the editor', async () => {
    const group = window.treeRow(/^Snapshots, 2/);
    await group.locator('.monaco-tl-twistie').click();
    await window.treeRow(/^before-upgrade/).click();
    const editor = await window.editor('web-server-staging.qcow2');
    await editor.getByRole('tab', { name: /Snapshots/, selected: true }).waitFor();
    await editor.getByText('before-upgrade').first().waitFor();
    await window.closeAllEditors();
  });

  it('says what to do where there is nothing to show', async () => {
    const empty = await mkdtemp(join(folder, 'empty-'));
    const other = await VsCodeWindow.open(browser, server.address(empty));
    await other.showViewContainer('Image Chains');
    await other.page.locator('.welcome-view').getByText('No disk images were found').waitFor();
    // Trust is told a moment later.
    await other.page.locator('.welcome-view').getByText('is not trusted').waitFor({ state: 'detached' });
    const chains = other.page.locator('.welcome-view', { hasText: 'No disk images were found' });
    const buttons = await chains.locator('.monaco-button').allInnerTexts();
    assert.deepEqual(buttons, ['Add Image', 'Look Again', 'Create Sample Images']);
    await other.screenshot('chains-empty');
    await other.close();
  });
});

/** Waits until VS Code has put something that an extension remembers into the browser's database, which it does some seconds later. */
async function stored(page: Page, text: string): Promise<void> {
  await page.evaluate(async (wanted) => {
    while (!(await isStored())) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }

    async function isStored(): Promise<boolean> {
      const names = (await indexedDB.databases()).flatMap(({ name = '' }) => (name.startsWith('vscode-web-state-db') ? [name] : []));
      const values = await Promise.all(names.map((name) => valuesOf(name)));
      return values.flat().some((value) => typeof value === 'string' && value.includes(wanted));
    }

    async function valuesOf(database: string): Promise<unknown[]> {
      const opened = await done<IDBDatabase>(indexedDB.open(database));
      try {
        return await done<unknown[]>(opened.transaction('ItemTable').objectStore('ItemTable').getAll());
      } finally {
        opened.close();
      }
    }

    function done<T>(request: IDBRequest<T>): Promise<T> {
      return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error ?? new Error('The database could not be read.'));
      });
    }
  }, text);
}
