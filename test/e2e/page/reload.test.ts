import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { EngineImage } from './harness/engineImage';
import { usePages } from './harness/fixture';

describe('page: an image that changes', () => {
  const pages = usePages();

  it('shows who uses it, and lets that be dismissed', async () => {
    const editor = await pages().openSample('chain', { prepare: (shell) => (shell.inUse = 'This image is in use by qemu (4711).') });
    const banner = editor.page.getByText('This image is in use by qemu (4711).');
    await banner.waitFor();
    await editor.page.getByRole('button', { name: 'Dismiss' }).click();
    await banner.waitFor({ state: 'detached' });
    await editor.shell.reload([], 'This image is in use by qemu (4712), which writes to it.');
    await editor.page.getByText('This image is in use by qemu (4712)').waitFor();
    await editor.shell.reload([], null);
    await editor.page.getByText('This image is in use').waitFor({ state: 'detached' });
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
    const changed = once(changesOf(image), 'change');
    execFileSync('qemu-img', ['resize', '-q', path, '1G']);
    const [fields] = (await changed) as [readonly string[]];
    await editor.shell.reload(fields, null);
    await editor.page.getByText('1 GiB (1073741824 bytes)').first().waitFor();
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
