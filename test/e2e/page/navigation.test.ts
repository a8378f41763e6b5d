import assert from 'node:assert/strict';
import { usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

async function selectedTab(editor: EditorPage): Promise<string> {
  return (await editor.page.getByRole('tab', { selected: true }).innerText()).trim();
}

describe('page: navigation', () => {
  const pages = usePages();

  it('goes to a guest address and shows it in every layer', async () => {
    const editor = await pages().openSample('chain');
    await editor.address('1G');
    await editor.panel('Map').waitFor();
    await editor.settled();
    const translation = editor.page.locator('translation-strip');
    assert.match(await editor.text('translation-strip'), /guest offset 1 GiB \(0x40000000\)/);
    assert.deepEqual(await translation.locator('.name').allInnerTexts(), [
      'web-server-staging.qcow2',
      'web-server.qcow2',
      'debian-12-base.qcow2',
    ]);
  });

  it('takes the switch for plain numbers, and prefixes whatever the switch says', async () => {
    const editor = await pages().openSample('chain');
    await editor.page.getByRole('search').getByRole('radio', { name: 'Host' }).click();
    await editor.address('0xce0000');
    await editor.panel('Hex').waitFor();
    await editor.page.locator('translation-strip').getByText('L1 table').first().waitFor();
    await editor.address('g:64K');
    await editor.page.locator('translation-strip').getByText('guest offset 64 KiB').waitFor();
    await editor.tab('Overview').click();
    await editor.address('c:1');
    await editor.panel('Overview').waitFor({ state: 'hidden' });
  });

  it('says in a sentence what is wrong with an address and stays where it is', async () => {
    const editor = await pages().openSample('chain');
    await editor.address('nonsense');
    const alert = editor.page.locator('address-bar').getByRole('alert');
    await alert.getByText('nonsense').waitFor();
    assert.equal(await selectedTab(editor), 'Overview');
    await editor.page.keyboard.press('Escape');
    await alert.getByText('nonsense').waitFor({ state: 'detached' });
  });

  it('stays in the tab that can show the address', async () => {
    const editor = await pages().openSample('chain');
    await editor.tab('Tables').click();
    await editor.address('1G');
    await editor.settled();
    assert.equal(await selectedTab(editor), 'Tables');
    assert.match(await editor.text('row-detail'), /row 16,384/);
    await editor.address('h:0xce0000');
    await editor.settled();
    assert.match(await editor.text('row-detail'), /row 206/);
  });

  it('goes back and forward by keys and buttons', async () => {
    const editor = await pages().openSample('chain');
    await editor.page.getByRole('row').filter({ hasText: 'l1_table_offset' }).getByRole('link').last().click();
    await editor.panel('Hex').waitFor();
    await editor.tab('Check').click();
    await editor.page.keyboard.press('Alt+ArrowLeft');
    await editor.panel('Hex').waitFor();
    await editor.page.getByRole('button', { name: 'Back', exact: true }).click();
    await editor.panel('Overview').waitFor();
    assert.equal(await editor.page.getByRole('button', { name: 'Back', exact: true }).isDisabled(), true);
    await editor.page.keyboard.press('Alt+ArrowRight');
    await editor.page.keyboard.press('Alt+ArrowRight');
    await editor.panel('Check').waitFor();
  });

  it('comes back as it was left when VS Code builds the page anew', async () => {
    const image = await pages().image('chain');
    const editor = await pages().open(image);
    await editor.page.getByRole('tabpanel').waitFor();
    await editor.tab('Map').click();
    await editor.page.getByRole('radio', { name: 'Layer' }).click();
    await editor.page.getByRole('radio', { name: 'Rows' }).click();
    await editor.tab('Hex').click();
    await editor.page.getByRole('textbox', { name: 'Go to host offset' }).fill('0xce0000');
    await editor.page.keyboard.press('Enter');
    await editor.page.getByRole('button', { name: 'Inspect cluster' }).click();
    await editor.page.locator('cluster-inspector').getByText('L1 table').first().waitFor();
    const saved = await editor.saved((state) => state.hexOffset === 0xce0000 && state.inspected !== null);

    const again = await pages().open(image, { saved });
    await again.panel('Hex').waitFor();
    await again.page.locator('cluster-inspector').getByText('L1 table').first().waitFor();
    await again.settled();
    assert.match(await again.text('hex-tab .status'), /0xce0000/);
    await again.tab('Map').click();
    assert.deepEqual(await again.page.locator('map-tab').getByRole('radio', { checked: true }).allInnerTexts(), ['Guest', 'Layer', 'Rows']);
  });

  it('begins where the shell says, before what it had saved', async () => {
    const editor = await pages().open(await pages().image('chain'), {
      saved: { tab: 'check' },
      prepare: (shell) => (shell.state = { tab: 'snapshots', place: { kind: 'snapshot', index: 1 } }),
    });
    await editor.panel('Snapshots & Bitmaps').getByRole('table', { name: 'snapshot table entry 1' }).waitFor();
  });

  it('goes where the shell sends it later', async () => {
    const editor = await pages().openSample('chain');
    await editor.shell.goTo({ tab: 'hex', place: { kind: 'host', hostOffset: 0xd10000 } });
    await editor.panel('Hex').waitFor();
    await editor.page.locator('hex-tab .status').getByText('0xd10000').waitFor();
  });

  it('offers no tab that the format has nothing for', async () => {
    const path = `${pages().folder}/plain.raw`;
    const { writeFile } = await import('node:fs/promises');
    await writeFile(path, Buffer.alloc(1024 * 1024, 'raw '));
    const editor = await pages().open(await pages().engine.open(path));
    await editor.page.getByRole('tabpanel').waitFor();
    assert.deepEqual(
      [await editor.tab('Tables').isDisabled(), await editor.tab('Check').isDisabled(), await editor.tab('Hex').isDisabled()],
      [true, true, false],
    );
  });
});
