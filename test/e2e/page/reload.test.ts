import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { EventEmitter, on, once } from 'node:events';
import type { EngineImage } from './harness/engineImage';
import { ImageFolder } from '../../harness/imageFolder';
import { usePages } from './harness/fixture';

describe('page: an image that changes', () => {
  const pages = usePages();

  it('shows who uses it, and lets that be dismissed', async () => {
    const images = new ImageFolder(pages().folder);
    images.create('held.qcow2');
    const image = await pages().engine.open(images.of('held.qcow2'));
    const changes = changesOf(image);
    const editor = await pages().open(image);
    const taken = once(changes, 'change');
    const holder = await images.hold('held.qcow2');
    await taken;
    await editor.shell.reload([]);
    const banner = editor.page.getByText(`In use by qemu-io (process ${holder.pid}), which may write to it.`);
    await banner.waitFor();
    await editor.page.getByRole('button', { name: 'Dismiss' }).click();
    await banner.waitFor({ state: 'detached' });
    const left = once(changes, 'change');
    await holder.stop();
    await left;
    await editor.shell.reload([]);
    await editor.page.getByText('The file was read again.').waitFor({ state: 'attached' });
    await editor.settled();
    assert.equal(await editor.page.getByText('In use by').count(), 0);
  });

  it('is read again, and what moved is highlighted', async () => {
    const path = `${pages().folder}/growing.qcow2`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    const image = await pages().engine.open(path);
    const editor = await pages().open(image);
    await editor.page.getByText('64 MiB (67108864 bytes)').first().waitFor();
    for (const tab of ['Map', 'Tables', 'Hex', 'Overview']) {
      await editor.tab(tab).click();
      await editor.settled();
    }
    const changes = on(changesOf(image), 'change');
    execFileSync('qemu-img', ['resize', '-q', path, '1G']);
    // It grows in several writes, and may be seen between two of them.
    for await (const [fields] of changes as AsyncIterable<[readonly string[]]>) {
      await editor.shell.reload(fields);
      if (fields.includes('header.size')) {
        break;
      }
    }
    await editor.page.getByText('1 GiB (1073741824 bytes)').first().waitFor();
    await editor.settled();
    assert.equal(await editor.text('tr.changed:has(td.name:text-is("size")) td.value'), '1 GiB (1073741824 bytes)');
    assert.match(await editor.announced(), /^The file changed: \d+ fields? differ/);
    await editor.tab('Map').click();
    await editor.settled();
    assert.match(await editor.text('map-tab .status'), /^16,384 clusters/);
    await editor.tab('Tables').click();
    await editor.settled();
    assert.match(await editor.text('tables-tab select'), /L2 tables \( ?16,384 ?\)/);
  });
});

/** The engine's word that the file changed, as an event emitter. */
function changesOf({ session }: EngineImage): EventEmitter {
  const emitter = new EventEmitter();
  session.onDidChange(({ changedFields }) => emitter.emit('change', changedFields));
  return emitter;
}
