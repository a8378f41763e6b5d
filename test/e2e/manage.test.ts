import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { ImageEditor } from '../harness/imageEditor';
import { ImagesWindow } from '../harness/imagesWindow';
import type { ImageFolder } from '../harness/imageFolder';
import type { VsCodeWindow } from '../harness/window';
import type { Wizard } from '../harness/wizard';

const SECRET = ['--object', 'secret,id=s,data=open sesame'];

/** The commands that make, change and compare images, as a person uses them; what they did is asked of qemu-img. */
describe('managing images', () => {
  let opened: ImagesWindow;
  let images: ImageFolder;
  let window: VsCodeWindow;
  let wizard: Wizard;

  before(async () => {
    opened = await ImagesWindow.open('manage', 'top.qcow2', (folder) => {
      folder.create('base.qcow2');
      folder.create('top.qcow2', { backing: 'base.qcow2' });
      folder.qemuIo('top.qcow2', 'write -P 7 1M 64k');
      const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
      folder.qemuImg('create', '-q', ...SECRET, '-f', 'qcow2', '-o', options, 'secret.qcow2', '4M');
      const image = ['--image-opts', 'driver=qcow2,file.filename=secret.qcow2,encrypt.key-secret=s'];
      execFileSync('qemu-io', [...SECRET, ...image, '-c', 'write -P 0x5a 1M 64k'], { cwd: folder.path, stdio: 'pipe' });
    });
    ({ images, window, wizard } = opened);
  });

  after(() => opened.close());

  afterEach(async () => {
    await window.clearNotifications();
  });

  it('compares two images and offers the command', async () => {
    await opened.select('top.qcow2');
    await window.runCommandThatAsks('Chainscope: Compare With…');
    await wizard.page('Compare top.qcow2 With', '1/2');
    await wizard.choose('base.qcow2');
    await wizard.page('Compare top.qcow2 With', '2/2');
    await wizard.back();
    await wizard.page('Compare top.qcow2 With', '1/2');
    await wizard.choose('base.qcow2');
    await wizard.choose('What the guest reads');
    await window.told('the first difference is at guest offset 1048576');
    await window.screenshot('compare');
    const command = await window.copied(() => window.answer('Copy as qemu-img Command'));
    assert.equal(command, `qemu-img compare -f qcow2 -F qcow2 ${images.of('top.qcow2')} ${images.of('base.qcow2')}`);
  });

  it('creates an image in a few pages, the last of which shows what it comes to', async () => {
    await window.runCommandThatAsks('Chainscope: New Image…');
    await wizard.page('New Image', '1/4');
    await wizard.choose('qcow2');
    await wizard.page('New Image', '2/4');
    await wizard.type('12X');
    await wizard.message(/That is no size/).waitFor();
    await wizard.type('10G');
    await wizard.message(/10 GiB/).waitFor();
    await wizard.accept();
    await wizard.saveAs('disk.qcow2', images.of('new.qcow2'));
    await wizard.page('New Image', '4/4');
    await window.screenshot('new-image');
    await window.page
      .locator('.quick-input-widget')
      .getByRole('option', { name: /Create new\.qcow2/ })
      .click();
    await window.told('new.qcow2 is created');
    await window.treeRow(/^new\.qcow2/).waitFor();
    assert.match(images.qemuImg('info', 'new.qcow2'), /virtual size: 10 GiB/);
  });

  it('asks before a disk is shrunk, and says what builds on it', async () => {
    await opened.select('base.qcow2');
    await window.runCommandThatAsks('Chainscope: Resize…');
    await wizard.page('Resize base.qcow2');
    await wizard.type('-16M');
    await wizard.message(/cuts off the last 16 MiB/).waitFor();
    await wizard.accept();
    const dialog = window.dialog();
    await dialog.getByText('Shrink base.qcow2 to 48 MiB?').waitFor();
    await dialog.getByText(/top\.qcow2/).waitFor();
    await window.screenshot('resize-review');
    await dialog.getByRole('button', { name: 'Shrink' }).click();
    await window.told('base.qcow2 is now 48 MiB');
    assert.match(images.qemuImg('info', 'base.qcow2'), /virtual size: 48 MiB/);
  });

  it('serves an image, shows who is connected, and ends it', async () => {
    await opened.select('top.qcow2');
    const uri = await wizard.exportForReading();
    assert.match(uri, /^nbd:\/\/127\.0\.0\.1:\d+\/$/);
    await window.treeRow(/^top\.qcow2.*0 clients/).waitFor();
    const client = spawn('qemu-io', ['-r', '-f', 'raw', uri], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(client, 'exit');
    await once(client.stdout, 'data');
    client.stdin.write('read -P 7 1M 64k\n');
    await window.treeRow(/^top\.qcow2.*1 client.*64 KiB read/).waitFor();
    await window.screenshot('exports');
    client.stdin.end('quit\n');
    await ended;
    await window.treeRow(/^top\.qcow2.*0 clients/).waitFor();
    await window.runCommand('Chainscope: Stop NBD Export');
    await window.page.getByText('This window serves no image.').waitFor();
    assert.throws(() => execFileSync('qemu-img', ['info', uri], { stdio: 'pipe' }));
  });

  it('unlocks an encrypted image, after a wrong passphrase too, and shows what a cluster holds until that is forgotten', async () => {
    const editor = await ImageEditor.open(window, 'secret.qcow2');
    const banner = editor.page.locator('notice-banner');
    await editor.page.locator('address-bar').getByRole('textbox').fill('1M');
    await editor.page.locator('address-bar').getByRole('textbox').press('Enter');
    await editor.page.locator('translation-strip').getByRole('button', { name: 'Inspect cluster' }).click();
    const inspector = editor.page.locator('cluster-inspector');
    await inspector.getByText('The data is encrypted.').waitFor();
    await inspector.getByRole('button', { name: 'Unlock…' }).click();
    await wizard.page('Passphrase of secret.qcow2');
    await wizard.type('open barley');
    await window.page.keyboard.press('Enter');
    await wizard.message('That passphrase does not open secret.qcow2. Try another.').waitFor();
    await window.screenshot('passphrase');
    await wizard.type('open sesame');
    await window.page.keyboard.press('Enter');
    await inspector.getByText('Decrypted.').waitFor();
    await inspector.locator('cluster-bytes').getByText('5a').first().waitFor();
    await window.screenshot('unlocked');
    await banner.getByRole('button', { name: 'Forget Passphrases' }).click();
    await inspector.getByText('The data is encrypted.').waitFor();
    await banner.getByRole('button', { name: 'Unlock…' }).waitFor();
  });
});
