import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../../../scripts/run/paths.mjs';
import { THEMES, type ThemeKind } from '../../harness/theme';
import { usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

const TABS = ['Overview', 'Map', 'Tables', 'Snapshots & Bitmaps', 'Check', 'Hex'] as const;

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly help: string; readonly nodes: readonly { readonly target: unknown }[] }[];
}

/** What axe-core finds wrong with the page as it is, one line each. */
async function complaints({ page }: EditorPage): Promise<string[]> {
  const { violations } = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(context: Document, options: unknown): Promise<AxeResult> } };
    // The page is a part of a window: it has landmarks of its own only where they help.
    return axe.run(document, { resultTypes: ['violations'], rules: { region: { enabled: false } } });
  });
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${JSON.stringify(nodes.slice(0, 3).map(({ target }) => target))}`);
}

describe('page: accessibility', () => {
  const pages = usePages();
  let axe: string;

  before(async () => {
    axe = await readFile(join(ROOT, 'node_modules', 'axe-core', 'axe.min.js'), 'utf8');
  });

  for (const theme of Object.keys(THEMES) as ThemeKind[]) {
    it(`finds nothing wrong in any tab in ${theme}`, async () => {
      const editor = await pages().openSample('chain', { theme });
      await editor.page.evaluate(axe);
      const found: string[] = [];
      for (const name of TABS) {
        await editor.tab(name).click();
        await editor.settled();
        found.push(...(await complaints(editor)).map((complaint) => `${name}: ${complaint}`));
      }
      assert.deepEqual(found, []);
    });

    it(`finds nothing wrong with problems, an inspected cluster and a translated address in ${theme}`, async () => {
      const editor = await pages().openSample('corrupted', {
        theme,
      });
      await editor.page.evaluate(axe);
      await editor.address('h:0x110000');
      await editor.page.getByRole('button', { name: 'Inspect cluster' }).first().click();
      await editor.playCheck();
      await editor.settled();
      const found = await complaints(editor);
      await editor.tab('Overview').click();
      await editor.settled();
      found.push(...(await complaints(editor)));
      assert.deepEqual(found, []);
    });
  }

  it('finds nothing wrong in a narrow window', async () => {
    const editor = await pages().openSample('orphan', { size: { width: 400, height: 700 } });
    await editor.page.evaluate(axe);
    const found: string[] = [];
    for (const name of ['Overview', 'Map', 'Tables', 'Hex']) {
      await editor.tab(name).click();
      await editor.settled();
      found.push(...(await complaints(editor)));
    }
    assert.deepEqual(found, []);
  });

  it('is reached by the keyboard alone, tab by tab', async () => {
    const { page } = await pages().openSample('chain');
    await page.getByRole('tab', { name: 'Overview' }).focus();
    const visited: string[] = [];
    for (let step = 0; step < TABS.length; step++) {
      visited.push((await page.getByRole('tab', { selected: true }).innerText()).trim());
      await page.keyboard.press('ArrowRight');
    }
    assert.deepEqual(visited, [...TABS]);
    // And round to the first again.
    assert.equal((await page.getByRole('tab', { selected: true }).innerText()).trim(), 'Overview');
  });
});
