import { join } from 'node:path';
import { ROOT } from '../../scripts/run/paths.mjs';
import { ImageEditor } from '../harness/imageEditor';
import type { VsCodeWindow } from '../harness/window';

/** Small enough to be read beside a step's text. */
const SIZE = { width: 960, height: 640 };

/** Takes the pictures of the walkthrough ("Get started with Chainscope"), which shows the one that goes with the theme. */
export async function takeForWalkthrough(window: VsCodeWindow): Promise<void> {
  await inBothThemes(window, async (picture) => {
    await takeAll(window, picture);
    await window.closeAllEditors();
  });
}

/** The same of a job that is under way, beside the map of its image. */
export async function takeJobForWalkthrough(window: VsCodeWindow, editor: ImageEditor): Promise<void> {
  await inBothThemes(window, async (picture) => {
    // Painted anew, in this size and these colours.
    await editor.show('Overview');
    await (await editor.frame()).evaluate(() => performance.clearMarks());
    await editor.show('Map');
    await editor.mapPainted();
    await window.screenshot(picture('jobs'));
  });
}

async function inBothThemes(window: VsCodeWindow, take: (picture: (name: string) => string) => Promise<void>): Promise<void> {
  await window.page.setViewportSize(SIZE);
  for (const theme of ['light', 'dark'] as const) {
    await window.setTheme(theme);
    await take((name) => join(ROOT, 'media', 'walkthrough', `${name}-${theme}.png`));
  }
}

async function takeAll(window: VsCodeWindow, picture: (name: string) => string): Promise<void> {
  await window.treeRow(/^web-server-staging/).hover();
  await window.page.locator('.workbench-hover').filter({ hasText: 'Virtual size' }).waitFor();
  await window.page.screenshot({ path: picture('chains'), animations: 'disabled' });

  const active = await ImageEditor.open(window, 'web-server-staging.qcow2');
  await window.screenshot(picture('overview'));
  await active.show('Map');
  await active.mapPainted();
  await window.screenshot(picture('map'));

  const corrupted = await ImageEditor.open(window, 'corrupted.qcow2');
  const panel = await corrupted.show('Check');
  await window.runCommand('Chainscope: Check Image');
  await panel.locator('.verdict').waitFor();
  await corrupted.settled();
  await window.clearNotifications();
  await window.screenshot(picture('check'));
}
