import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, open, truncate, writeFile } from 'node:fs/promises';
import { Random, testSeed } from '../../interop/random';
import { SAMPLES, usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

const TABS = ['Overview', 'Map', 'Tables', 'Snapshots & Bitmaps', 'Check', 'Hex'] as const;

/** Looks into every tab that is offered; the page must show something in each, if only why it cannot. */
async function lookAround(editor: EditorPage): Promise<void> {
  await editor.page.locator('[role=tabpanel], state-box').first().waitFor();
  for (const name of TABS) {
    if (await editor.tab(name).isEnabled()) {
      await editor.tab(name).click();
      await editor.settled();
      assert.ok((await editor.text(`[role=tabpanel][aria-label="${name}"]`)).length > 0, `${name} is empty`);
    }
  }
}

describe('page: hostile images', () => {
  const pages = usePages();

  it('shows names with markup and control characters as text', async () => {
    const path = `${pages().folder}/markup.qcow2`;
    const name = '<img src=x onerror="document.title=1">\u001b[31m\u202e\n';
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
    execFileSync('qemu-img', ['snapshot', '-c', '<script>document.title=2</script>', path]);
    execFileSync('qemu-img', ['rebase', '-u', '-b', name, '-F', 'qcow2', path]);
    const editor = await pages().open(await pages().engine.open(path));
    const title = await editor.page.title();
    await lookAround(editor);
    await editor.tab('Overview').click();
    const shown = await editor.text('overview-tab .facts');
    assert.match(shown, /<img src=x onerror="document\.title=1">\\u\{1b\}\[31m\\u\{202e\}\\u\{a\}/);
    assert.match(await editor.text('snapshots-tab'), /<script>document\.title=2<\/script>/);
    assert.deepEqual([await editor.page.locator('img, chainscope-app script').count(), await editor.page.title()], [0, title]);
  });

  it('shows what can be shown of a header followed by random bytes', async () => {
    const seed = testSeed();
    const random = new Random(seed);
    for (let round = 0; round < 3; round++) {
      const path = `${pages().folder}/random-${round}.qcow2`;
      const bytes = Buffer.alloc(1 << 20);
      for (let at = 0; at < bytes.length; at++) {
        bytes[at] = random.bits() & 0xff;
      }
      bytes.write('QFI\u00fb', 'latin1');
      bytes.writeUInt32BE(3, 4);
      bytes.writeUInt32BE(9 + (round % 3) * 6, 20);
      await writeFile(path, bytes);
      const editor = await pages().open(await pages().engine.open(path));
      await lookAround(editor);
    }
  });

  it('shows a truncated image', async () => {
    const path = `${pages().folder}/truncated.qcow2`;
    await copyFile(`${pages().folder}/${SAMPLES.chain}`, path);
    await truncate(path, 0xce0004);
    await lookAround(await pages().open(await pages().engine.open(path)));
  });

  it('shows an image that says it is as large as can be', async () => {
    const path = `${pages().folder}/giant.qcow2`;
    await copyFile(`${pages().folder}/${SAMPLES.base}`, path);
    const file = await open(path, 'r+');
    await file.write(Buffer.from('3fffffffffff0000', 'hex'), 0, 8, 24);
    await file.write(Buffer.from('ffffffff', 'hex'), 0, 4, 36);
    await file.close();
    await lookAround(await pages().open(await pages().engine.open(path)));
  });
});
