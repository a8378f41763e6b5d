import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { temporaryFolder } from '../../scripts/run/paths.mjs';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { THEMES } from '../harness/theme';
import type { ThemeKind } from '../harness/theme';
import { startTestServer } from '../harness/vscodeServer';
import type { TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';

describe('a window of VS Code', () => {
  let browser: Browser;
  let server: TestServer;
  let folder: string;
  let window: VsCodeWindow;

  before(async () => {
    folder = await temporaryFolder('smoke');
    await writeFile(join(folder, 'notes.txt'), 'hello\n');
    [browser, server] = await Promise.all([launchChromium(), startTestServer({ trusted: false, log: 'smoke-server' })]);
    window = await VsCodeWindow.open(browser, server.address(folder));
  });

  after(async () => {
    await browser.close();
    await server.stop();
  });

  it('opens a file by its name', async () => {
    await window.openFile('notes.txt');
    await window.page.locator('.monaco-editor .view-line').filter({ hasText: 'hello' }).waitFor();
    await window.closeAllEditors();
  });

  it('is restricted until the folder is trusted', async () => {
    await window.untilRestricted();
    await window.trustWorkspace();
  });

  for (const kind of Object.keys(THEMES) as ThemeKind[]) {
    it(`shows the ${kind} theme`, async () => {
      await window.setTheme(kind);
      await window.screenshot(`smoke-${kind}`);
    });
  }
});
