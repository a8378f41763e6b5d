import type { Locator } from 'playwright-core';
import type { VsCodeWindow } from './window';

/** Chainscope's multi-step questions, which VS Code's quick input shows one page at a time. */
export class Wizard {
  private readonly window: VsCodeWindow;
  private readonly widget: Locator;

  constructor(window: VsCodeWindow) {
    this.window = window;
    this.widget = window.page.locator('.quick-input-widget');
  }

  /** Waits for a page by its title, with its place ("2/3") where it has one. */
  async page(title: string, place?: string): Promise<void> {
    const text = place === undefined ? title : `${title} (${place})`;
    await this.widget.locator('.quick-input-title').getByText(text, { exact: true }).waitFor();
  }

  /** Takes the row whose label is exactly this, and waits until its page is gone. */
  async choose(label: string): Promise<void> {
    const row = this.window.quickPickRow(label).first();
    await row.waitFor();
    await this.leaving(() => row.click());
  }

  /** Types into the page's field, over what stands there. */
  async type(text: string): Promise<void> {
    await this.field.fill(text);
  }

  /** Goes on with what stands in the field, and waits until its page is gone. */
  async accept(): Promise<void> {
    const field = this.field;
    await field.waitFor();
    await this.leaving(() => field.press('Enter'));
  }

  /** Goes on with the place that the file dialog suggests for a new file, or with another. */
  async saveAs(suggested: string, path?: string): Promise<void> {
    // The dialog writes it into the field once it has listed the folder, over whatever was typed until then.
    await this.window.page.waitForFunction(
      (name) => document.querySelector<HTMLInputElement>('.quick-input-widget input.input')?.value.endsWith(`/${name}`),
      suggested,
    );
    if (path !== undefined) {
      await this.type(path);
    }
    await this.accept();
  }

  /** Has the image of the editor in front served to readers, on a port of this machine that the system chooses. Returns its URI. */
  async exportForReading(): Promise<string> {
    await this.window.runCommandThatAsks('Chainscope: Export over NBD…');
    await this.choose('Read');
    await this.choose('TCP port on 127.0.0.1');
    await this.type('0');
    await this.accept();
    return this.window.copied(() => this.window.answer('Copy URI'));
  }

  private get field(): Locator {
    return this.widget.locator('input.input');
  }

  async back(): Promise<void> {
    await this.widget.getByRole('button', { name: 'Back' }).click();
  }

  /** What stands under the field. */
  message(text: string | RegExp): Locator {
    return this.widget.locator('.quick-input-message').getByText(text);
  }

  /** Gives it up. */
  async escape(): Promise<void> {
    await this.window.page.keyboard.press('Escape');
    await this.widget.waitFor({ state: 'hidden' });
  }

  /** What is typed before the next page is there would go to the page before. The page must be there; a row or a field of it is. */
  private async leaving(act: () => Promise<void>): Promise<void> {
    const before = await this.window.page.evaluate(shownPage);
    await act();
    await this.window.page.waitForFunction(`(${shownPage.toString()})() !== ${JSON.stringify(before)}`);
  }
}

/** What tells one page from the next, and stays while it is there; null when there is none. Runs in the page. */
function shownPage(): string | null {
  const widget = document.querySelector<HTMLElement>('.quick-input-widget');
  if (!widget || widget.style.display === 'none') {
    return null;
  }
  const input = widget.querySelector<HTMLInputElement>('input.input');
  return JSON.stringify([widget.querySelector('.quick-input-title')?.textContent, input?.placeholder]);
}
