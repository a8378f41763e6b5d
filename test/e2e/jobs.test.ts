import assert from 'node:assert/strict';
import { ImagesWindow } from '../harness/imagesWindow';
import type { ImageFolder } from '../harness/imageFolder';
import type { VsCodeWindow } from '../harness/window';
import type { Wizard } from '../harness/wizard';

/** The view *Jobs* as a person works it; what the jobs did is asked of qemu-img. */
describe('jobs', () => {
  let opened: ImagesWindow;
  let images: ImageFolder;
  let window: VsCodeWindow;
  let wizard: Wizard;

  before(async () => {
    opened = await ImagesWindow.open('jobs', 'top.qcow2', (folder) => {
      folder.create('base.qcow2');
      folder.qemuIo('base.qcow2', 'write -P 7 0 32M');
      folder.create('top.qcow2', { backing: 'base.qcow2' });
    });
    ({ images, window, wizard } = opened);
  });

  after(() => opened.close());

  afterEach(async () => {
    await window.clearNotifications();
  });

  it('are started after a preview, steered in their row, and stay until they are dismissed', async () => {
    await window.page.getByText('No job runs in this window.').waitFor();
    await opened.select('top.qcow2');
    await window.runCommandThatAsks('Chainscope: Flatten…');
    await wizard.choose('At most…');
    // The page is there, with what it suggests.
    await wizard.message(/At most 50 MiB\/s/).waitFor();
    await wizard.type('fast');
    await wizard.message(/That is no speed/).waitFor();
    // So slow that it is at work until it is told otherwise, however slow the machine is.
    await wizard.type('128K');
    await wizard.message(/At most 128 KiB\/s/).waitFor();
    await wizard.accept();
    const dialog = window.dialog();
    await dialog.getByText('Flatten top.qcow2?').waitFor();
    await dialog.getByText(/At most 32 MiB are copied/).waitFor();
    await window.screenshot('job-preview');
    await dialog.getByRole('button', { name: 'Flatten' }).click();

    await window.treeRow(/^Flatten top\.qcow2, \d+ % · .* left/).waitFor();
    const status = window.page.locator('.statusbar-item').filter({ hasText: 'Flatten top.qcow2' });
    await status.waitFor();
    await window.notificationButton('Cancel').waitFor();
    await window.screenshot('job-running');
    await press('top.qcow2', 'Pause Job');
    await window.treeRow(/^Flatten top\.qcow2, paused/).waitFor();
    await press('top.qcow2', 'Limit Speed of Job…');
    await wizard.page('Speed of Flatten top.qcow2');
    await wizard.type('');
    await wizard.message('No limit').waitFor();
    await wizard.accept();
    await press('top.qcow2', 'Resume Job');

    await window.told('top.qcow2 holds all of its disk itself now');
    await window.treeRow(/^Flatten top\.qcow2, done/).waitFor();
    await status.waitFor({ state: 'hidden' });
    assert.doesNotMatch(images.qemuImg('info', 'top.qcow2'), /backing file/);
    await press('top.qcow2', 'Dismiss Job');
    await window.page.getByText('No job runs in this window.').waitFor();
  });

  it('are shown as interrupted in the next window, and resumed there', async () => {
    images.create('again.qcow2', { backing: 'base.qcow2' });
    await opened.select('again.qcow2');
    await window.runCommandThatAsks('Chainscope: Flatten…');
    await wizard.choose('At most…');
    // The page is there, with what it suggests.
    await wizard.message(/At most 50 MiB\/s/).waitFor();
    await wizard.type('128K');
    await wizard.message(/At most 128 KiB\/s/).waitFor();
    await wizard.accept();
    await window.dialog().getByRole('button', { name: 'Flatten' }).click();
    await window.treeRow(/^Flatten again\.qcow2, \d+ % · .* left/).waitFor();
    await window.reload();
    await window.showViewContainer('Image Chains');
    const row = window.treeRow(/^Flatten again\.qcow2, interrupted/);
    await row.waitFor();
    await window.screenshot('job-interrupted');
    assert.match(images.qemuImg('check', 'again.qcow2'), /No errors/);
    await press('again.qcow2', 'Retry or Resume Job');
    await window.treeRow(/^Flatten again\.qcow2, \d+ % · .* left/).waitFor();
    await press('again.qcow2', 'Cancel Job');
    await window.treeRow(/^Flatten again\.qcow2, cancelled/).waitFor();
    assert.match(images.qemuImg('info', 'again.qcow2'), /backing file: base\.qcow2/);
    assert.match(images.qemuImg('compare', 'again.qcow2', 'base.qcow2'), /identical/);
  });

  /** A button in the row of the job, which shows when the pointer is there. */
  async function press(image: string, title: string): Promise<void> {
    const row = window.treeRow(`Flatten ${image},`);
    await row.hover();
    await row.getByRole('button', { name: title }).click();
  }
});
