import assert from 'node:assert/strict';
import type { CheckReport, Finding } from '../../../src/protocol/check';
import { usePages } from './harness/fixture';

describe('page: check', () => {
  const pages = usePages();

  it('asks the shell to check, shows progress, and can be cancelled', async () => {
    const editor = await pages().openSample('corrupted');
    await editor.tab('Check').click();
    await editor.page.getByText('This image has not been checked yet.').waitFor();
    await editor.page.getByRole('button', { name: 'Check Image' }).click();
    await editor.shell.checkProgress(0.4, null);
    const bar = editor.page.getByRole('progressbar', { name: 'Check' });
    await bar.waitFor();
    await editor.settled();
    assert.equal(await bar.getAttribute('aria-valuenow'), '40');
    await editor.page.getByRole('button', { name: 'Cancel Check' }).click();
    await editor.shell.checkProgress(null, 'The check was cancelled.');
    await editor.page.locator('check-tab').getByText('The check was cancelled.').waitFor();
    await editor.settled();
    assert.deepEqual(editor.shell.commands, ['chainscope.checkImage', 'chainscope.cancelCheck']);
    await editor.page.getByRole('button', { name: 'Deep Check' }).click();
    await editor.settled();
    assert.equal(editor.shell.commands.at(-1), 'chainscope.checkImageDeep');
  });

  it('groups findings by kind, each with its entry and its cluster', async () => {
    const editor = await pages().openSample('corrupted');
    const report = await editor.playCheck();
    const verdict = await editor.text('check-tab .verdict');
    assert.match(verdict, new RegExp(`^${report.counts.corruptions} corruptions, ${report.counts.leaks} leaked clusters`));
    assert.match(await editor.text('check-tab dl'), new RegExp(`Exit code ${report.exitCode}`));
    const finding = editor.page.getByRole('listitem').filter({ hasText: 'lies past the end of the file' });
    await finding.getByRole('link', { name: 'L2 entry 40' }).click();
    await editor.panel('Tables').waitFor();
    await editor.settled();
    assert.match(await editor.text('row-detail'), /row 40 /);
    await editor.page.keyboard.press('Alt+ArrowLeft');
    await editor.panel('Check').waitFor();
    await editor.settled();
    assert.match(await editor.text('tab-bar'), /Check \d+/);
  });

  it('says so when there is nothing wrong', async () => {
    const editor = await pages().openSample('chain');
    await editor.playCheck();
    assert.match(await editor.text('check-tab .verdict'), /^No errors were found\.$/);
    assert.equal(await editor.announced(), 'Check finished: no errors were found.');
  });

  it('filters, folds and copies findings', async () => {
    const editor = await pages().openSample('corrupted');
    await editor.playCheck();
    await editor.page.getByRole('textbox', { name: 'Filter findings' }).fill('reserved');
    await editor.settled();
    assert.deepEqual(await editor.page.locator('findings-list .kind').allInnerTexts(), ['Reserved bits are set']);
    await editor.page.getByRole('textbox', { name: 'Filter findings' }).fill('no such finding');
    await editor.page.getByText('No finding matches the filter.').waitFor();
    await editor.page.getByRole('textbox', { name: 'Filter findings' }).fill('');
    const group = editor.page.getByRole('button', { name: /^Reserved bits are set/ });
    await group.click();
    await editor.page.getByText('No known program sets these bits').waitFor({ state: 'detached' });
    await editor.page.getByRole('button', { name: 'Copy report' }).click();
    await editor.page.getByRole('menuitem', { name: 'Copy as JSON' }).click();
    const [json] = await editor.shell.copies(1);
    assert.equal((JSON.parse(json ?? '{}') as CheckReport).format, 'qcow2');
  });

  it('takes an earlier report back without turning to it', async () => {
    const image = await pages().image('corrupted');
    const before = await pages().open(image);
    const report = await before.playCheck();
    const again = await pages().open(image);
    await again.panel('Overview').waitFor();
    await again.shell.showReport(report);
    await again.tab('Check').locator('.badge').waitFor();
    assert.equal(await again.panel('Overview').isVisible(), true);
    await again.tab('Check').click();
    assert.match(await again.text('check-tab .verdict'), /corruptions/);
  });

  it('marks findings as outdated when the file changes', async () => {
    const editor = await pages().openSample('corrupted');
    await editor.playCheck();
    await editor.shell.reload(['header.size']);
    await editor.page.getByText('The file changed since it was checked').waitFor();
  });

  it('stays quick with twenty thousand findings', async () => {
    const editor = await pages().openSample('corrupted');
    const report = await editor.playCheck();
    const one = report.findings[0]!;
    const findings = Array.from({ length: 20_000 }, (_, at): Finding => ({
      ...one,
      kind: 'leak',
      category: 'leak',
      message: `Cluster ${at} leaks.`,
    }));
    await editor.shell.checkProgress(0, null);
    await editor.shell.showReport({ ...report, findings, kinds: [{ kind: 'leak', category: 'leak', count: 170_000 }] });
    await editor.page.getByText('Cluster 0 leaks.').waitFor();
    assert.ok((await editor.page.locator('findings-list [role=listitem]').count()) < 60);
    await editor.page.locator('findings-list').evaluate((list) => (list.scrollTop = list.scrollHeight));
    await editor.page.getByText('and 150,000 more, counted but not listed').waitFor();
    await editor.page.getByRole('textbox', { name: 'Filter findings' }).fill('17777');
    await editor.page.getByText('Cluster 17777 leaks.').waitFor();
  });
});
