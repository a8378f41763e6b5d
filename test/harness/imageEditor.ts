import type { Frame, FrameLocator, Locator } from 'playwright-core';
import type { VsCodeWindow } from './window';

/** The mark that the page leaves in its performance timeline (webview/painted.ts). */
const MAP_PAINTED = 'chainscope-map-painted';

/** The views of an image, as their tabs are labelled. */
export const IMAGE_TABS = ['Overview', 'Map', 'Tables', 'Snapshots & Bitmaps', 'Check', 'Hex'] as const;

export type ImageTab = (typeof IMAGE_TABS)[number];

/** Chainscope's editor of one image in a window. */
export class ImageEditor {
  readonly window: VsCodeWindow;
  readonly name: string;
  readonly page: FrameLocator;

  private constructor(window: VsCodeWindow, name: string, page: FrameLocator) {
    this.window = window;
    this.name = name;
    this.page = page;
  }

  /** Opens an image of the workspace by its file name and waits until its Overview is there. */
  static async open(window: VsCodeWindow, name: string): Promise<ImageEditor> {
    await window.openFile(name);
    const editor = new ImageEditor(window, name, await window.editor(name));
    await editor.panel('Overview').waitFor();
    await editor.settled();
    return editor;
  }

  /** A tab; its name may go on with a count. */
  tab(label: ImageTab): Locator {
    return this.page.getByRole('tab', { name: new RegExp(`^${label}( |$)`) });
  }

  panel(label: ImageTab): Locator {
    return this.page.getByRole('tabpanel', { name: label, exact: true });
  }

  /** Goes to a tab with the mouse and waits until it shows what it has. */
  async show(label: ImageTab): Promise<Locator> {
    await this.tab(label).click();
    await this.panel(label).waitFor();
    await this.settled();
    return this.panel(label);
  }

  /** Waits until nothing that is seen says that it still loads. */
  async settled(): Promise<void> {
    const loading = this.page.locator('[aria-busy="true"]:visible, vscode-progress-ring:visible');
    await loading.first().waitFor({ state: 'detached' });
  }

  /** Waits until the map that the tab shows has been on the screen. */
  async mapPainted(): Promise<void> {
    const frame = await this.frame();
    await frame.waitForFunction((mark) => performance.getEntriesByName(mark).length > 0, MAP_PAINTED);
  }

  /** The page as a frame, to run code in it (axe, measurements). */
  frame(): Promise<Frame> {
    return this.window.editorFrame(this.name);
  }
}
