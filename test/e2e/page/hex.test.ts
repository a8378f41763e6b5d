import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { SAMPLES, usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

async function openHex(editor: EditorPage): Promise<void> {
  await editor.tab('Hex').click();
  await editor.settled();
}

async function goTo(editor: EditorPage, offset: string): Promise<void> {
  await editor.page.getByRole('textbox', { name: 'Go to host offset' }).fill(offset);
  await editor.page.keyboard.press('Enter');
  await editor.settled();
}

async function find(editor: EditorPage, text: string): Promise<void> {
  await editor.page.getByRole('textbox', { name: /^Find/ }).fill(text);
  await editor.page.keyboard.press('Enter');
  await editor.settled();
  // It asks twice when it goes round, and is quiet in between.
  await editor.page.locator('hex-tab').getByText('Searching…').waitFor({ state: 'detached' });
}

describe('page: hex', () => {
  const pages = usePages();

  it('shows the bytes that stand in the file, as hex and ASCII, with their region', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    await goTo(editor, '0xd10000');
    const file = await open(`${pages().folder}/${SAMPLES.chain}`);
    const { buffer } = await file.read(Buffer.alloc(16), 0, 16, 0xd10000);
    await file.close();
    const row = await editor.text(`hex-grid [role=row][aria-rowindex="${0xd10000 / 16 + 2}"]`);
    const hex = Array.from(buffer, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    assert.ok(row.startsWith(`00d10000 ${hex}`), row);
    assert.match(row, /snapshot/i);
  });

  it('selects by keys and mouse, reads numbers, and copies', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    const grid = editor.page.getByRole('grid', { name: 'Bytes of the file' });
    await grid.focus();
    for (let step = 0; step < 3; step++) {
      await editor.page.keyboard.press('Shift+ArrowRight');
    }
    assert.match(await editor.text('hex-tab .status'), /^0x0, 4 bytes selected .* u32 BE 1,363,560,955/);
    await editor.page.keyboard.press('Control+c');
    await editor.shell.copies(1);
    assert.deepEqual(editor.shell.copied, [{ text: '51 46 49 fb', what: '4 bytes' }]);

    await editor.page.locator('#byte-16').hover();
    await editor.page.mouse.down();
    await editor.page.locator('#byte-47').hover();
    await editor.page.mouse.up();
    await editor.page.getByRole('button', { name: 'Copy selected bytes' }).click();
    await editor.page.getByRole('menuitem', { name: 'Copy as qemu-io Command' }).click();
    assert.match((await editor.shell.copies(2))[1] ?? '', /'read -v 0x10 32'/);
  });

  it('copies what was never on the screen', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    const grid = editor.page.getByRole('grid', { name: 'Bytes of the file' });
    await goTo(editor, '0x20000');
    await grid.focus();
    for (let step = 0; step < 300; step++) {
      await editor.page.keyboard.press('Shift+PageDown');
    }
    const selected = Number(/([\d,]+) bytes selected/.exec(await editor.text('hex-tab .status'))?.[1]?.replaceAll(',', ''));
    assert.ok(selected > 65_536, String(selected));
    await editor.page.keyboard.press('Control+c');
    assert.equal((await editor.shell.copies(1))[0]?.split(' ').length, selected);
  });

  it('finds bytes and text, goes round at the end, and says when there is nothing', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    await find(editor, 'e2 79 2a ca');
    assert.match(await editor.text('hex-tab [role=status]'), /^Found at 0x70\.$/);
    await find(editor, 'e2 79 2a ca');
    assert.match(await editor.text('hex-tab [role=status]'), /Found at 0x70, beginning again/);
    await editor.page.locator('hex-tab').getByRole('radio', { name: 'Text' }).click();
    await find(editor, 'before-upgrade');
    assert.match(await editor.text('hex-tab [role=status]'), /^Found at 0xd100/);
    await find(editor, 'this is nowhere to be found');
    assert.equal(await editor.text('hex-tab [role=status]'), 'Not found in the whole file.');
    await editor.page.locator('hex-tab').getByRole('radio', { name: 'Hex' }).click();
    await find(editor, 'not hex');
    assert.match(await editor.text('hex-tab [role=status]'), /^Type bytes as hexadecimal digits/);
  });

  it('lets a search be stopped', async () => {
    const image = await pages().image('chain');
    const editor = await pages().open(image);
    await editor.page.getByRole('tabpanel').waitFor();
    await openHex(editor);
    image.disturbance.held.add('findBytes');
    await editor.page.getByRole('textbox', { name: /^Find/ }).fill('00 01');
    await editor.page.keyboard.press('Enter');
    await editor.page.getByText('Searching… 25 %').waitFor();
    await editor.page.getByRole('button', { name: 'Stop' }).click();
    await editor.page.getByText('Search stopped.').waitFor();
    assert.deepEqual(editor.shell.cancelled, ['findBytes']);
  });

  it('refuses offsets past the end in a sentence', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    await goTo(editor, '1T');
    assert.match(await editor.text('hex-tab [role=status]'), /^0x10000000000 lies past the end of the file, which is at 0x[0-9a-f]+\.$/);
    await goTo(editor, 'x');
    assert.match(await editor.text('hex-tab [role=status]'), /^Type an offset/);
  });

  it('goes to the last byte of the file by Control+End', async () => {
    const editor = await pages().openSample('chain');
    await openHex(editor);
    await editor.page.getByRole('grid', { name: 'Bytes of the file' }).focus();
    await editor.page.keyboard.press('Control+End');
    await editor.settled();
    assert.match(await editor.text('hex-tab .status'), /^0xd8ffff /);
    await editor.page.locator('[data-offset="14221311"].cursor').first().waitFor();
    await editor.page.keyboard.press('Enter');
    await editor.page.locator('cluster-inspector').getByText('Host', { exact: true }).waitFor();
  });
});
