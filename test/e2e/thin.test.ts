import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { ImagesWindow } from '../harness/imagesWindow';
import type { ImageFolder } from '../harness/imageFolder';
import type { VsCodeWindow } from '../harness/window';
import type { Wizard } from '../harness/wizard';

const MIB = 1024 ** 2;

/** The commands about the space that images take, as a person uses them; what they did is asked of qemu-img and of the file system. */
describe('the space of thin images', () => {
  let opened: ImagesWindow;
  let images: ImageFolder;
  let window: VsCodeWindow;
  let wizard: Wizard;

  before(async () => {
    opened = await ImagesWindow.open('thin', 'top.qcow2', (folder) => {
      folder.create('base.qcow2');
      folder.qemuIo('base.qcow2', 'write -P 7 0 8M');
      folder.create('top.qcow2', { backing: 'base.qcow2' });
      folder.create('zeroes.qcow2');
      folder.qemuIo('zeroes.qcow2', 'write -P 7 0 4M', 'write -P 0 4M 12M');
    });
    ({ images, window, wizard } = opened);
  });

  after(() => opened.close());

  afterEach(async () => {
    await window.clearNotifications();
  });

  it('is allocated for a range, after a preview', async () => {
    await opened.select('top.qcow2');
    await window.runCommandThatAsks('Chainscope: Allocate…');
    await wizard.page('Allocate top.qcow2', '1/3');
    await wizard.choose('A range…');
    await wizard.type('65M');
    await wizard.message(/The disk ends at 64 MiB/).waitFor();
    await wizard.type('4M');
    await wizard.message(/4 MiB/).waitFor();
    await wizard.accept();
    await wizard.type('8M');
    await wizard.message(/8 MiB/).waitFor();
    await window.screenshot('allocate-length');
    await wizard.accept();
    await window.screenshot('allocate-mode');
    await wizard.choose('Metadata');
    await wizard.choose('Full speed');
    const dialog = window.dialog();
    await dialog.getByText('Allocate 8 MiB from 4 MiB on of top.qcow2?').waitFor();
    await dialog.getByText(/At most 4 MiB are copied\. top\.qcow2 grows by up to 8 MiB/).waitFor();
    await window.screenshot('allocate-preview');
    await dialog.getByRole('button', { name: 'Allocate' }).click();
    await window.told('No write to that part of top.qcow2 can fail');
    await window.treeRow(/^Allocate top\.qcow2, done/).waitFor();
    await window.screenshot('allocate-done');
    const own = (
      JSON.parse(images.qemuImg('map', '--output=json', 'top.qcow2')) as { start: number; length: number; depth: number }[]
    ).filter(({ depth }) => depth === 0);
    assert.equal(own[0]?.start, 4 * MIB);
    assert.equal(
      own.reduce((bytes, { length }) => bytes + length, 0),
      8 * MIB,
    );
    assert.match(images.qemuImg('compare', 'top.qcow2', 'base.qcow2'), /identical/);
  });

  it('is given back where there are nothing but zeroes, of which the preview says how many', async () => {
    const before = usedBytes('zeroes.qcow2');
    await opened.select('zeroes.qcow2');
    await window.runCommandThatAsks('Chainscope: Trim Zeroes…');
    await wizard.page('Trim Zeroes of zeroes.qcow2', '1/2');
    await window.screenshot('trim-range');
    await wizard.choose('The whole disk');
    await wizard.choose('Full speed');
    const dialog = window.dialog();
    await dialog.getByText('Trim zeroes of zeroes.qcow2?').waitFor();
    await dialog.getByText(/12 MiB of the 16 MiB that take space there hold nothing but zeroes/).waitFor();
    await window.screenshot('trim-preview');
    await dialog.getByRole('button', { name: 'Trim', exact: true }).click();
    await window.told('Zeroes in zeroes.qcow2 take no space any more');
    await window.treeRow(/^Trim zeroes\.qcow2, done/).waitFor();
    await window.screenshot('trim-done');
    assert.ok(before - usedBytes('zeroes.qcow2') >= 11 * MIB);
    assert.match(images.qemuImg('check', 'zeroes.qcow2'), /No errors/);
    // One row: what is left of it is the data.
    assert.match(images.qemuImg('map', 'zeroes.qcow2'), /^0 +0x400000 .*\n$/m);
  });

  it('is bounded by a quota in a new cache image', async () => {
    await opened.select('base.qcow2');
    await window.runCommandThatAsks('Chainscope: New Cache Image…');
    await wizard.choose('An image of this window');
    await wizard.page('New Cache Image of base.qcow2', '1/3');
    await wizard.type('0');
    await wizard.message(/A cache of no size keeps nothing/).waitFor();
    await wizard.type('16M');
    await wizard.message(/16 MiB.*, of a disk of 64 MiB/).waitFor();
    await window.screenshot('cache-image-quota');
    await wizard.accept();
    await window.screenshot('cache-image-clusters');
    await wizard.choose('64 KiB');
    await wizard.saveAs('base-cache.qcow2');
    await window.told('keep up to 16 MiB of what they read there');
    await window.treeRow(/^base-cache\.qcow2/).waitFor();
    await window.screenshot('cache-image-made');
    assert.match(images.qemuImg('info', 'base-cache.qcow2'), /backing file: base\.qcow2/);
    assert.match(images.qemuImg('compare', 'base-cache.qcow2', 'base.qcow2'), /identical/);
  });

  function usedBytes(name: string): number {
    return 512 * statSync(images.of(name)).blocks;
  }
});
