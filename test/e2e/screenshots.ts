import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../scripts/run/paths.mjs';
import { writeSampleImages } from '../../scripts/setup/sample.mjs';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { IMAGE_TABS, ImageEditor } from '../harness/imageEditor';
import { THEMES } from '../harness/theme';
import type { ThemeKind } from '../harness/theme';
import { startTestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';
import { Wizard } from '../harness/wizard';
import { takeForWalkthrough, takeJobForWalkthrough } from './walkthroughPictures';

/*
 * `npm run screenshots`: every tab in every theme into test-results/screenshots, to be looked at, the README's pictures into docs/images
 * and the walkthrough's into media/walkthrough. `--folder DIR --image NAME` takes the first kind of another image and leaves the rest alone.
 */

const SIZE = { width: 1280, height: 860 };

void main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);

async function main(): Promise<void> {
  const folder = option('--folder');
  const image = option('--image') ?? 'web-server-staging.qcow2';
  const workspace = folder ?? (await shownFolder());
  if (folder === undefined) {
    await writeSampleImages(workspace);
  }
  const [browser, server] = await Promise.all([launchChromium(), startTestServer({ log: 'screenshots-server' })]);
  const window = await VsCodeWindow.open(browser, server.address(workspace), SIZE);
  await window.showViewContainer('Image Chains');
  if (folder === undefined) {
    await takeForReadme(window);
    await takeForWalkthrough(window);
    await window.page.setViewportSize(SIZE);
  }
  await takeGallery(window, image);
  if (folder === undefined) {
    // Last, since it changes an image.
    await window.setTheme('dark');
    await window.closeAllEditors();
    await takeJobs(window, join(ROOT, 'docs', 'images', 'jobs.png'));
    await window.closeAllEditors();
    await takeExports(window, workspace, join(ROOT, 'docs', 'images', 'exports.png'));
  }
  await browser.close();
  await server.stop();
}

/** The path stands in the pictures: one that is the same each time and looks like somebody's. It must not be there yet. */
async function shownFolder(): Promise<string> {
  const home = join(tmpdir(), 'vm');
  await mkdir(home);
  process.once('exit', () => rmSync(home, { recursive: true, force: true }));
  return join(home, 'images');
}

async function takeForReadme(window: VsCodeWindow): Promise<void> {
  const picture = (name: string): string => join(ROOT, 'docs', 'images', `${name}.png`);
  await window.setTheme('dark');
  await window.treeRow(/^debian-12-base/).waitFor();
  const active = await ImageEditor.open(window, 'web-server-staging.qcow2');
  await window.screenshot(picture('overview'));
  await active.show('Map');
  await active.mapPainted();
  await window.screenshot(picture('map'));
  const corrupted = await ImageEditor.open(window, 'corrupted.qcow2');
  await check(corrupted);
  await window.screenshot(picture('check'));
  await window.closeAllEditors();
}

/** A job that is under way, slow enough to stay so. */
async function takeJobs(window: VsCodeWindow, picture: string): Promise<void> {
  const editor = await ImageEditor.open(window, 'web-server-staging.qcow2');
  await editor.show('Map');
  await editor.mapPainted();
  const wizard = new Wizard(window);
  await window.runCommandThatAsks('Chainscope: Flatten…');
  await wizard.choose('At most…');
  await wizard.type('256K');
  await wizard.message(/At most 256 KiB/).waitFor();
  await wizard.accept();
  await window.dialog().getByRole('button', { name: 'Flatten' }).click();
  const row = window.treeRow(/^Flatten web-server-staging\.qcow2/);
  await window.treeRow(/^Flatten web-server-staging\.qcow2, [1-9]\d? % · .* left/).waitFor();
  await window.screenshot(picture);
  await takeJobForWalkthrough(window, editor);
  await window.page.setViewportSize(SIZE);
  await window.setTheme('dark');
  await window.runCommand('Chainscope: Cancel Job');
  await window.treeRow(/^Flatten web-server-staging\.qcow2, cancelled/).waitFor();
  await window.runCommand('Chainscope: Dismiss Jobs That Have Ended');
  await row.waitFor({ state: 'detached' });
}

/** Two guests' images on a cache image, of which one is served and was read twice. */
async function takeExports(window: VsCodeWindow, workspace: string, picture: string): Promise<void> {
  const overlay = ['-b', 'debian-12-cache.qcow2', '-F', 'qcow2'];
  const cache = ['-o', 'cache_img_quota=256M', '-b', 'debian-12-base.qcow2', '-F', 'qcow2'];
  chainscope(workspace, 'create', '-q', '-f', 'qcow2', ...cache, 'debian-12-cache.qcow2');
  for (const guest of ['mail-server.qcow2', 'print-server.qcow2']) {
    chainscope(workspace, 'create', '-q', '-f', 'qcow2', ...overlay, guest);
  }
  await window.treeRow(/^mail-server/).click();
  await window.tab('mail-server.qcow2').and(window.page.locator('.active')).waitFor();
  const uri = await new Wizard(window).exportForReading();
  for (let reading = 0; reading < 2; reading++) {
    chainscope(workspace, 'compare', '-f', 'qcow2', '-F', 'raw', 'debian-12-base.qcow2', uri);
  }
  const row = window.treeRow(/^mail-server\.qcow2.*0 clients.*saved/);
  await row.hover();
  await window.page.locator('.workbench-hover').filter({ hasText: 'Cache hits' }).waitFor();
  // The pointer stays: its hover is what the picture is about.
  await window.page.screenshot({ path: picture, animations: 'disabled', caret: 'hide' });
  await window.runCommand('Chainscope: Stop NBD Export');
  await row.waitFor({ state: 'detached' });
}

/** The command line, on the images of the workspace. */
function chainscope(workspace: string, ...args: string[]): void {
  execFileSync(process.execPath, [join(ROOT, 'dist', 'cli.js'), ...args], { cwd: workspace, stdio: ['ignore', 'ignore', 'inherit'] });
}

async function takeGallery(window: VsCodeWindow, image: string): Promise<void> {
  const editor = await ImageEditor.open(window, image);
  await check(editor);
  for (const theme of Object.keys(THEMES) as ThemeKind[]) {
    await window.setTheme(theme);
    for (const tab of IMAGE_TABS) {
      await editor.show(tab);
      if (tab === 'Map') {
        await editor.mapPainted();
      }
      const name = `${tab.toLowerCase().replace(/\W+/g, '-')}-${theme}`;
      await window.screenshot(name);
      console.log(name);
    }
  }
}

/** Checks the image in front and waits for the verdict. */
async function check(editor: ImageEditor): Promise<void> {
  const panel = await editor.show('Check');
  await editor.window.runCommand('Chainscope: Check Image');
  await panel.locator('.verdict').waitFor();
  await editor.settled();
  await editor.window.clearNotifications();
}

function option(name: string): string | undefined {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
}
