import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Browser, Frame, FrameLocator, Locator, Page } from 'playwright-core';
import { RESULTS } from '../../scripts/run/paths.mjs';
import { THEMES } from './theme';
import type { ThemeKind } from './theme';

/** How long VS Code may take for one step on a slow and busy machine, in milliseconds. */
const STEP_TIMEOUT = 120_000;

/** How long the first try of a step that may be disturbed and is tried again, in milliseconds; each further try may take twice as long. */
const TRY_TIMEOUT = 3000;

/** Before a notification goes from the corner, in milliseconds: VS Code takes it away after ten seconds. */
const TOAST_TIMEOUT = 8000;

/**
 * One window of VS Code as a person uses it: with the keyboard, the mouse and the eyes. Every step waits for its effect to be seen, none
 * for time to pass.
 */
export class VsCodeWindow {
  readonly page: Page;
  /** What the page wrote to its console as an error, in order; for a test that expects none of the extension's. */
  readonly consoleErrors: string[] = [];

  private constructor(page: Page) {
    this.page = page;
    page.setDefaultTimeout(STEP_TIMEOUT);
    page.on('console', (message) => {
      if (message.type() === 'error') {
        this.consoleErrors.push(message.text());
      }
    });
  }

  /** Opens a window and waits until its workbench can be used. Each window is a browser of its own, with no cookies of another's. */
  static async open(browser: Browser, address: string, size = { width: 1280, height: 800 }): Promise<VsCodeWindow> {
    const context = await browser.newContext({ viewport: size, permissions: ['clipboard-read', 'clipboard-write'] });
    const window = new VsCodeWindow(await context.newPage());
    await window.page.goto(address);
    await window.ready();
    return window;
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }

  /** Loads the window anew, as a person's F5 in the browser does; the extension host starts again. */
  async reload(): Promise<void> {
    await this.page.reload();
    await this.ready();
  }

  private async ready(): Promise<void> {
    await this.page.locator('.monaco-workbench .activitybar .action-item').first().waitFor();
    await this.page.locator('.monaco-workbench .statusbar-item').first().waitFor();
  }

  /** Runs a command by its title in the palette ("Chainscope: Check Image"). */
  async runCommand(title: string): Promise<void> {
    await this.choose('F1', `>${title}`, title);
    await this.page.locator('.quick-input-widget').waitFor({ state: 'hidden' });
  }

  /** The same for a command that goes on in the quick pick: it asks for something. */
  async runCommandThatAsks(title: string): Promise<void> {
    await this.choose('F1', `>${title}`, title);
  }

  /** Opens a file of the workspace by its name with Quick Open and waits for its tab. */
  async openFile(name: string): Promise<void> {
    await this.choose('Control+P', name, name);
    await this.tab(name).and(this.page.locator('.active')).waitFor();
  }

  /**
   * Opens a quick pick with a key, types into it and takes the row whose label is exactly `row`. A webview that has just loaded takes the
   * focus and with it closes the quick pick or swallows the key; a person would press the key again.
   */
  private async choose(key: string, text: string, row: string): Promise<void> {
    await untilDone(async (timeout) => {
      await this.page.keyboard.press(key);
      await this.page.locator('.quick-input-widget input.input').fill(text, { timeout: timeout / 3 });
      await this.quickPickRow(row).first().click({ timeout });
    });
  }

  /** A row of the open quick pick by its label. */
  quickPickRow(label: string): Locator {
    const name = new RegExp(`^${escapeRegExp(label)}(,|$)`);
    return this.page.locator('.quick-input-widget').getByRole('option', { name });
  }

  /** An editor's tab by its file name. */
  tab(name: string): Locator {
    return this.page.locator(`.tab[data-resource-name="${name}"]`);
  }

  async closeAllEditors(): Promise<void> {
    await this.runCommand('View: Close All Editors');
    await this.page.locator('.tab').first().waitFor({ state: 'detached' });
  }

  /** What the custom editor of an open file shows. The file must be in front in its group. */
  async editor(name: string): Promise<FrameLocator> {
    const webview = await this.webviewOf(name);
    return this.page.frameLocator(`iframe.webview[name="${webview}"]`).frameLocator('#active-frame');
  }

  /** The same as a frame, to run code in it (axe, measurements). It is another one after the webview was made anew. */
  async editorFrame(name: string): Promise<Frame> {
    const webview = await this.webviewOf(name);
    const element = await this.page.frameLocator(`iframe.webview[name="${webview}"]`).locator('#active-frame').elementHandle();
    const frame = await element.contentFrame();
    if (!frame) {
      throw new Error(`The editor of ${name} has no content.`);
    }
    return frame;
  }

  /**
   * Webviews lie above the window, not inside the editor that they belong to: the one of a file is the one that is seen where the editor
   * group with that file in front is.
   */
  private async webviewOf(name: string): Promise<string> {
    const found = await this.page.waitForFunction((resource) => {
      const groups = Array.from(document.querySelectorAll('.editor-group-container'));
      const group = groups.find(
        (container) => container.querySelector(`.tab.active[data-resource-name="${CSS.escape(resource)}"]`) !== null,
      );
      const area = group?.getBoundingClientRect();
      return Array.from(document.querySelectorAll<HTMLIFrameElement>('iframe.webview.ready')).find((webview) => {
        const { x, y, width, height } = webview.getBoundingClientRect();
        const [centreX, centreY] = [x + width / 2, y + height / 2];
        return (
          area !== undefined &&
          webview.checkVisibility({ visibilityProperty: true }) &&
          width > 0 &&
          centreX > area.left &&
          centreX < area.right &&
          centreY > area.top &&
          centreY < area.bottom
        );
      })?.name;
    }, name);
    const webview = await found.jsonValue();
    if (webview === undefined) {
      throw new Error(`${name} is not open in a custom editor.`);
    }
    return webview;
  }

  /** Shows a view container of the activity bar by its title ("Image Chains"). */
  async showViewContainer(title: string): Promise<void> {
    const item = this.page.locator('.activitybar').getByRole('tab', { name: title });
    const shown = this.page.locator('.sidebar .composite.title').filter({ hasText: title });
    // A window that comes back shows the container by itself a moment later; the click then has put it away.
    await untilDone(async (timeout) => {
      if ((await item.getAttribute('aria-selected')) !== 'true') {
        await item.click();
      }
      await shown.waitFor({ timeout });
    });
  }

  /** The rows of a tree in the side bar whose accessible name contains `name`. */
  treeRow(name: string | RegExp): Locator {
    return this.page.locator('.sidebar').getByRole('treeitem', { name });
  }

  /** Waits until a notification says something. */
  async told(text: string): Promise<Locator> {
    const notification = this.page.locator('.notification-list-item').filter({ hasText: text }).first();
    await this.notified(notification);
    return notification;
  }

  /** A button of a notification. */
  notificationButton(label: string): Locator {
    return this.page.locator('.notification-list-item').getByRole('button', { name: label });
  }

  /** Presses a button of a notification. */
  async answer(label: string): Promise<void> {
    const button = this.notificationButton(label);
    await this.notified(button);
    await button.click();
  }

  /** Notifications go from the corner after some seconds; the list of all of them keeps them. */
  private async notified(what: Locator): Promise<void> {
    await untilDone(async (timeout) => {
      try {
        await what.waitFor({ timeout });
      } catch (error) {
        await this.runCommand('Notifications: Show Notifications');
        throw error;
      }
    }, TOAST_TIMEOUT);
  }

  /** A modal dialog. */
  dialog(): Locator {
    return this.page.locator('.monaco-dialog-box');
  }

  /** The text that `copy` puts into the clipboard. */
  async copied(copy: () => Promise<void>): Promise<string> {
    await this.page.evaluate(() => navigator.clipboard.writeText(''));
    await copy();
    // A predicate that answers later counts as true before it has.
    return this.page.evaluate(async () => {
      for (;;) {
        const text = await navigator.clipboard.readText();
        if (text !== '') {
          return text;
        }
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    });
  }

  /** Puts all notifications away; one that shows progress goes when its work is done. */
  async clearNotifications(): Promise<void> {
    await this.leaveDialog();
    await this.runCommand('Notifications: Clear All Notifications');
    await this.page.waitForFunction(() => document.querySelector('.notification-toast') === null);
  }

  /** A dialog that a test which failed has left takes every key. */
  private async leaveDialog(): Promise<void> {
    if (await this.dialog().isVisible()) {
      await this.page.keyboard.press('Escape');
      await this.dialog().waitFor({ state: 'detached' });
    }
  }

  /** Switches the colour theme, as a person does, and waits until the window shows it. */
  async setTheme(kind: ThemeKind): Promise<void> {
    const { name, kind: windowClass } = THEMES[kind];
    const widget = this.page.locator('.quick-input-widget');
    await this.choose('F1', '>Preferences: Color Theme', 'Preferences: Color Theme');
    await widget.locator('input.input[placeholder*="Color Theme"]').fill(name);
    await this.quickPickRow(name).first().click();
    await widget.waitFor({ state: 'hidden' });
    await this.page.locator(`.monaco-workbench.${windowClass}`).waitFor();
  }

  /** Waits until the window says that its folder is not trusted, which it does a while after it has opened. */
  async untilRestricted(): Promise<void> {
    await this.restrictedMode.waitFor();
  }

  /** Grants trust to the open folder, as a person does. */
  async trustWorkspace(): Promise<void> {
    await this.runCommand('Workspaces: Manage Workspace Trust');
    await this.page.locator('.workspace-trust-editor').getByRole('button', { name: 'Trust', exact: true }).click();
    await this.restrictedMode.waitFor({ state: 'detached' });
    await this.runCommand('View: Close Editor');
  }

  /** Keeps a picture of the window among the test results, or at `path` when it is absolute. */
  async screenshot(path: string): Promise<void> {
    const file = path.startsWith('/') ? path : join(RESULTS, 'screenshots', `${path}.png`);
    await mkdir(dirname(file), { recursive: true });
    // The pointer would leave its hover in the picture.
    await this.page.mouse.move(0, 0);
    await this.page.screenshot({ path: file, animations: 'disabled', caret: 'hide' });
  }

  private get restrictedMode(): Locator {
    return this.page.locator('.statusbar-item').filter({ hasText: 'Restricted Mode' });
  }
}

/** Tries a step again until it is done; throws what the last try threw when that takes too long. */
async function untilDone(step: (timeout: number) => Promise<void>, first = TRY_TIMEOUT): Promise<void> {
  const deadline = Date.now() + STEP_TIMEOUT;
  for (let timeout = first; ; timeout *= 2) {
    try {
      await step(timeout);
      return;
    } catch (error) {
      if (Date.now() > deadline) {
        throw error;
      }
    }
  }
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}
