import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { ImageFolder } from './imageFolder';
import { startTestServer } from './vscodeServer';
import { VsCodeWindow } from './window';
import { Wizard } from './wizard';

/** A window on a folder of its own, in which the qemu tools make the images that a suite is about. */
export class ImagesWindow {
  readonly images: ImageFolder;
  readonly window: VsCodeWindow;
  readonly wizard: Wizard;
  private readonly stop: () => Promise<void>;

  private constructor(images: ImageFolder, window: VsCodeWindow, stop: () => Promise<void>) {
    this.images = images;
    this.window = window;
    this.wizard = new Wizard(window);
    this.stop = stop;
  }

  /**
   * Opens the view *Chains* on what `make` made, and waits until it shows the image that was asked for.
   * @param topic names the folder and the server's log
   */
  static async open(topic: string, awaited: string, make: (images: ImageFolder) => void): Promise<ImagesWindow> {
    const images = new ImageFolder(await mkdtemp(join(tmpdir(), `chainscope-${topic}-`)));
    make(images);
    const [browser, server] = await Promise.all([launchChromium(), startTestServer({ log: `${topic}-server` })]);
    const window = await VsCodeWindow.open(browser, server.address(images.path));
    await window.showViewContainer('Image Chains');
    await window.treeRow(startingWith(awaited)).waitFor();
    return new ImagesWindow(images, window, async () => {
      await browser.close();
      await server.stop();
      // What was killed may still be on its way out.
      await rm(images.path, { recursive: true, maxRetries: 10 });
    });
  }

  /** Clicks an image's row; commands are about the image whose editor is in front. */
  async select(name: string): Promise<void> {
    await this.window.treeRow(startingWith(name)).click();
    await this.window.tab(name).and(this.window.page.locator('.active')).waitFor();
  }

  /** Ends everything, and removes the folder. */
  async close(): Promise<void> {
    await this.stop();
  }
}

/** Rows of a tree begin with the name. */
function startingWith(name: string): RegExp {
  return new RegExp(`^${name.replaceAll('.', String.raw`\.`)}`);
}
