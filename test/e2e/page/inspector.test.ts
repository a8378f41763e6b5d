import assert from 'node:assert/strict';
import { usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

async function inspect(editor: EditorPage, address: string): Promise<string> {
  await editor.address(address);
  await editor.page.locator('translation-strip').getByRole('button', { name: 'Inspect cluster' }).click();
  await editor.page.locator('cluster-inspector .class').waitFor();
  await editor.settled();
  return editor.text('cluster-inspector');
}

describe('page: cluster inspector', () => {
  const pages = usePages();

  it('shows a metadata cluster with its refcount and its bytes', async () => {
    const editor = await pages().openSample('chain');
    const text = await inspect(editor, 'h:0xd10000');
    assert.match(text, /Snapshot table/);
    assert.match(text, /Refcount 1, as many references/);
    assert.match(text, /00d10000 {1,2}00 00 00 00/);
    assert.match(text, /qemu-io -r/);
  });

  it('shows where refcount and references differ, and who refers', async () => {
    const editor = await pages().openSample('corrupted');
    const text = await inspect(editor, 'h:0x110000');
    assert.match(text, /Refcount 1, but 2 references/);
    const references = editor.page.locator('cluster-inspector').getByRole('list', { name: 'References' });
    assert.equal(await references.getByRole('link').count(), 2);
    await references.getByRole('link').first().click();
    await editor.panel('Tables').waitFor();
  });

  it('leads into the file of a lower layer', async () => {
    const editor = await pages().openSample('chain');
    await editor.tab('Map').click();
    await editor.page.getByRole('radio', { name: 'Layer' }).click();
    const text = await inspect(editor, 'g:0x80000000');
    assert.match(text, /web-server-staging\.qcow2 .* web-server\.qcow2 .* debian-12-base\.qcow2/);
    await editor.page.locator('cluster-inspector .entry').last().getByRole('link').first().click();
    await editor.settled();
    const opened = editor.shell.opened.at(-1);
    assert.match(opened?.path ?? '', /debian-12-base\.qcow2$/);
    assert.notEqual(opened?.place, null);
  });

  it('follows the links that one takes, and closes', async () => {
    const editor = await pages().openSample('chain');
    await inspect(editor, 'h:0xd10000');
    await editor.tab('Overview').click();
    await editor.page.getByRole('row').filter({ hasText: 'l1_table_offset' }).getByRole('link').last().click();
    await editor.page.locator('cluster-inspector .class').getByText('L1 table').waitFor();
    await editor.page.getByRole('button', { name: 'Close the inspector' }).click();
    await editor.page.locator('cluster-inspector').waitFor({ state: 'detached' });
  });

  it('folds below in a narrow window', async () => {
    const editor = await pages().openSample('chain', { size: { width: 420, height: 720 } });
    await inspect(editor, 'h:0xd10000');
    const [panels, inspector] = await Promise.all([
      editor.page.locator('.panels').boundingBox(),
      editor.page.locator('cluster-inspector').boundingBox(),
    ]);
    assert.ok(inspector !== null && panels !== null);
    assert.ok(inspector.y >= panels.y + panels.height - 1, 'the inspector stands below');
    assert.equal(inspector.width, 420);
    assert.equal(await editor.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true);
  });

  it('says why it cannot show a cluster, and tries again', async () => {
    const image = await pages().image('chain');
    const editor = await pages().open(image);
    await editor.page.getByRole('tabpanel').waitFor();
    image.disturbance.failing.set('inspectCluster', 'The L2 table could not be read.');
    await editor.address('h:0');
    await editor.page.getByRole('button', { name: 'Inspect cluster' }).first().click();
    const inspector = editor.page.locator('cluster-inspector');
    await inspector.getByText('The L2 table could not be read.').waitFor();
    image.disturbance.failing.clear();
    await inspector.getByRole('button', { name: 'Try Again' }).click();
    await inspector.locator('.class').getByText('Header').waitFor();
  });
});
