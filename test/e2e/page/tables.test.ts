import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

async function openTable(editor: EditorPage, title: RegExp): Promise<void> {
  await editor.tab('Tables').click();
  const choice = editor.page.getByLabel('Which table');
  await choice.waitFor();
  const label = (await choice.locator('option').allInnerTexts()).find((option) => title.test(option));
  assert.ok(label !== undefined, `no table ${String(title)}`);
  await choice.selectOption({ label });
  await editor.settled();
}

/** A drawn row of the grid, as text. */
function row(editor: EditorPage, number: number): Promise<string> {
  return editor.text(`table-grid [role=row][aria-rowindex="${number + 2}"]`);
}

describe('page: tables', () => {
  const pages = usePages();

  it('show the L1 table with its entries decoded', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^L1 table/);
    assert.match(await row(editor, 0), /^0 0xce0000 80 00 00 00 00 c0 00 00 table 0x0 0xc00000 OFLAG_COPIED$/);
    assert.match(await row(editor, 5), /^5 0xce0028 00 00 00 00 00 00 00 00 unallocated 0xa0000000 –$/);
    assert.match(await editor.text('row-detail'), /9-55 l2_offset 0xc00000 63 OFLAG_COPIED 1/);
  });

  it('lead from L1 to L2 to the cluster, and back up', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^L1 table/);
    await editor.page.getByRole('grid', { name: /^L1 table/ }).focus();
    await editor.page.keyboard.press('ArrowDown');
    await editor.page.locator('row-detail').getByRole('link', { name: 'its L2 entries' }).click();
    await editor.page.getByRole('grid', { name: /^L2 tables/ }).waitFor();
    await editor.settled();
    assert.match(await editor.text('row-detail'), /^L2 tables.* row 8,192 /);
    await editor.page.getByRole('button', { name: 'Next used row' }).click();
    await editor.settled();
    assert.match(await editor.text('row-detail'), / host_cluster_offset 0x[1-9a-f]/);
    await editor.page.locator('row-detail').getByRole('button', { name: 'Inspect', exact: true }).click();
    await editor.page.locator('cluster-inspector h2').filter({ hasText: 'Guest cluster' }).waitFor();
    await editor.page.locator('row-detail').getByRole('link', { name: 'L1 entry' }).click();
    await editor.page.getByRole('grid', { name: /^L1 table/ }).waitFor();
  });

  it('lead from the refcount table to a refcount', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^Refcount table/i);
    await editor.page.locator('row-detail').getByRole('link', { name: 'its refcounts' }).click();
    await editor.settled();
    assert.match(await row(editor, 0), /^0 0x[0-9a-f]+ 00 01 1 /);
  });

  it('move by keys, cell by cell, and follow a link by Enter', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^L2 tables/);
    const grid = editor.page.getByRole('grid');
    await grid.focus();
    for (const key of ['PageDown', 'PageDown', 'ArrowDown', 'ArrowRight']) {
      await editor.page.keyboard.press(key);
    }
    const at = (await grid.getAttribute('aria-activedescendant')) ?? '';
    assert.match(at, /^cell-\d+-1$/);
    await editor.page.keyboard.press('Control+End');
    await editor.settled();
    assert.equal(await grid.getAttribute('aria-activedescendant'), 'cell-65535-1');
    assert.match(await row(editor, 65_535), /^65,535 0x/);
    await editor.page.keyboard.press('Enter');
    await editor.panel('Hex').waitFor();
  });

  it('go to a row that is typed, and say when there is none', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^L2 tables/);
    const field = editor.page.getByRole('textbox', { name: 'Go to row' });
    await field.fill('0x2000');
    await editor.page.keyboard.press('Enter');
    await editor.settled();
    assert.match(await editor.text('row-detail'), /row 8,192 /);
    await field.fill('65536');
    await editor.page.keyboard.press('Enter');
    await editor.page.getByText('Type a row from 0 to 65,535').waitFor();
  });

  it('scroll through the entries of 64 TiB to the very last, one row at a time too', async () => {
    const path = `${pages().folder}/huge.qcow2`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64T']);
    const editor = await pages().open(await pages().engine.open(path));
    await editor.page.getByRole('tabpanel').waitFor();
    await openTable(editor, /^L2 tables/);
    const grid = editor.page.getByRole('grid');
    assert.equal(await grid.getAttribute('aria-rowcount'), String(2 ** 30 + 1));
    await grid.focus();
    await editor.page.keyboard.press('Control+End');
    await editor.settled();
    assert.match(await row(editor, 2 ** 30 - 1), /^1,073,741,823 .* 0x3fffffff0000/);
    await grid.hover();
    await editor.page.mouse.wheel(0, -22 * 3);
    await editor.settled();
    await editor.page.locator(`[id="cell-${2 ** 30 - 4}-0"]`).waitFor();
    assert.ok((await editor.page.locator('table-grid [role=row]').count()) < 100);
  });

  it('show the subclusters of extended L2 entries', async () => {
    const editor = await pages().openSample('extendedL2');
    await openTable(editor, /^L2 tables/);
    await editor.page.getByRole('button', { name: 'Next used row' }).click();
    await editor.settled();
    const strips = editor.page.getByRole('img', { name: /^Subclusters: (?!0-31 unallocated)/ });
    assert.match((await strips.first().getAttribute('aria-label')) ?? '', /^Subclusters: 0-\d+ (allocated|zero)/);
    assert.match(await editor.text('row-detail'), /64-95 allocated 0x/);
  });

  it('mark what is wrong with an entry', async () => {
    const editor = await pages().openSample('corrupted');
    await openTable(editor, /^L2 tables/);
    await editor.page.getByRole('textbox', { name: 'Go to row' }).fill('41');
    await editor.page.keyboard.press('Enter');
    await editor.settled();
    assert.match(await row(editor, 41), /[Rr]eserved/);
    assert.match(await editor.text('row-detail'), /56-61 reserved 0x/);
  });

  it('copy a row by key and by menu', async () => {
    const editor = await pages().openSample('chain');
    await openTable(editor, /^L1 table/);
    await editor.page.getByRole('grid').focus();
    await editor.page.keyboard.press('Control+c');
    await editor.page.keyboard.press('ContextMenu');
    await editor.page.getByRole('menuitem', { name: 'Copy as JSON' }).click();
    const [text, json] = await editor.shell.copies(2);
    assert.match(text ?? '', /^row 0 {2}entry at 0xce0000 {2}8000000000c00000 {2}table {2}guest 0x0/);
    assert.equal((JSON.parse(json ?? '{}') as { rawHex: string }).rawHex, '8000000000c00000');
    assert.match(await editor.focused(), /^grid: /);
  });

  it('show the tables of a snapshot', async () => {
    const editor = await pages().openSample('chain');
    await editor.tab('Snapshots & Bitmaps').click();
    await editor.page.getByRole('button', { name: 'Look at this snapshot' }).first().click();
    await editor.page.getByText('Tables and map show it').waitFor();
    await openTable(editor, /^L1 table/);
    assert.doesNotMatch(await row(editor, 0), / 0xce0000 /);
    await editor.page.getByLabel('Which mapping').selectOption({ label: 'Active layer' });
    await editor.settled();
    assert.match(await row(editor, 0), / 0xce0000 /);
  });
});
