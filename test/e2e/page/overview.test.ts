import assert from 'node:assert/strict';
import { usePages } from './harness/fixture';

describe('page: overview', () => {
  const pages = usePages();

  it('shows facts, the chain and the header field by field, without waiting for the scan', async () => {
    const image = await pages().image('chain');
    image.disturbance.held.add('usage');
    const editor = await pages().open(image);
    const panel = editor.panel('Overview');
    await panel.getByText('4 GiB (4294967296 bytes)').first().waitFor();
    assert.deepEqual(
      await panel
        .getByRole('list', { name: /^Chain/ })
        .getByRole('listitem')
        .locator('.name')
        .allInnerTexts(),
      ['web-server-staging.qcow2', 'web-server.qcow2', 'debian-12-base.qcow2'],
    );
    assert.match(
      await editor.text('tr:has(td.name:text-is("size"))'),
      /^size 0x18 00 00 00 01 00 00 00 00 4 GiB \(4294967296 bytes\) Virtual disk size in bytes\.$/,
    );
    await editor.page.waitForFunction(() => performance.getEntriesByName('chainscope-overview-painted').length === 1);

    await panel.getByText(/^Counting clusters/).waitFor();
    image.release();
    const usage = panel.getByRole('list', { name: /spent on/ });
    await usage.getByText('L2 table').waitFor();
    assert.match(await editor.text('usage-bar'), /Header 64 KiB/);
  });

  it('stops the scan when told, and runs it again', async () => {
    const image = await pages().image('chain');
    image.disturbance.held.add('usage');
    const editor = await pages().open(image);
    await editor.page.getByText('Counting clusters 25 %').waitFor();
    await editor.page.getByRole('button', { name: 'Cancel' }).click();
    await editor.page.getByText('Stopped: Counting clusters').waitFor();
    assert.deepEqual(editor.shell.cancelled, ['usage']);
    image.disturbance.held.clear();
    await editor.page.getByRole('button', { name: 'Run Again' }).click();
    await editor.page.getByRole('list', { name: /spent on/ }).waitFor();
  });

  it('names feature bits, set and not set', async () => {
    const editor = await pages().openSample('chain');
    const row = editor.page.getByRole('row').filter({ hasText: 'autoclear_features' });
    assert.match(await row.innerText(), /bit 0: bitmaps\s+not set: raw external data/);
  });

  it('unfolds a structure and copies it as text, hex, JSON and command', async () => {
    const editor = await pages().openSample('chain');
    await editor.page.getByRole('button', { name: 'bitmaps extension' }).first().click();
    await editor.page.getByRole('table', { name: 'bitmaps extension' }).waitFor();
    for (const kind of ['Text', 'Hex', 'JSON', 'qemu-io Command']) {
      await editor.page.getByRole('button', { name: 'Copy bitmaps extension' }).click();
      await editor.page.getByRole('menuitem', { name: `Copy as ${kind}` }).click();
    }
    const [text, hex, json, command] = await editor.shell.copies(4);
    assert.match(text ?? '', /^bitmaps extension at 0x208, 32 bytes\n0x208 +type +23852875/);
    assert.match(hex ?? '', /^23 85 28 75\n00 00 00 18\n00 00 00 02\n/);
    assert.equal((JSON.parse(json ?? '{}') as { title: string }).title, 'bitmaps extension');
    assert.match(command ?? '', /^qemu-io -r -f raw -c 'read -v 0x208 32' \/.*web-server-staging\.qcow2$/);
  });

  it('leads from an offset to its bytes, and from a layer to its file', async () => {
    const editor = await pages().openSample('chain');
    await editor.page.getByRole('row').filter({ hasText: 'l1_table_offset' }).getByRole('link').last().click();
    await editor.panel('Hex').getByText('L1 table').first().waitFor();
    await editor.tab('Overview').click();
    await editor.page.getByRole('button', { name: /web-server\.qcow2/ }).click();
    await editor.settled();
    assert.equal(editor.shell.opened.at(-1)?.path, `${pages().folder}/web-server.qcow2`);
  });

  it('says what is missing and offers to locate it', async () => {
    const editor = await pages().openSample('orphan');
    await editor.page.getByText("The backing file 'gone/golden-image.qcow2' does not exist").waitFor();
    await editor.page.getByRole('button', { name: 'Locate…' }).click();
    await editor.settled();
    assert.deepEqual(editor.shell.commands, ['chainscope.locateMissing']);
  });

  it('shows the menu of an offset by keyboard, copies it, and gives the focus back', async () => {
    const editor = await pages().openSample('chain');
    const link = editor.page.getByRole('row').filter({ hasText: 'l1_table_offset' }).getByRole('link').last();
    await link.focus();
    const before = await editor.focused();
    await editor.page.keyboard.press('ContextMenu');
    await editor.page.getByRole('menu').waitFor();
    assert.equal(await editor.focused(), 'menuitem: Show in Hex');
    await editor.page.keyboard.press('End');
    await editor.page.keyboard.press('Enter');
    assert.deepEqual(await editor.shell.copies(1), [String(0xce0000)]);
    assert.equal(await editor.focused(), before);
  });
});
