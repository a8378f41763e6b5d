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
    await this.leaving(() => row.click());
  }

  /** Types into the page's field, over what stands there. */
  async type(text: string): Promise<void> {
    await this.widget.locator('input.input').fill(text);
  }

  /** Goes on with what stands in the field, and waits until its page is gone. */
  async accept(): Promise<void> {
    await this.leaving(() => this.widget.locator('input.input').press('Enter'));
  }

  /** Has the image of the editor in front served to readers, on a port of this machine that the system chooses. Returns its URI. */
  async exportForReading(): Promise<string> {
    await this.window.runCommandThatAsks('Chainscope: Export over NBD…');
    await this.choose('Read');
    await this.choose('TCP port on 127.0.0.1');
    await this.type('0');
    await this.accept();
    await this.window.notificationButton('Copy URI').click();
    // Until then the clipboard has what was copied before.
    await this.window.page.locator('.statusbar-item').filter({ hasText: 'Copied the URI' }).waitFor();
    return this.window.clipboard();
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

  /** What is typed before the next page is there would go to the page before. */
  private async leaving(act: () => Promise<void>): Promise<void> {
    const before = await this.window.page.evaluate(shownPage);
    await act();
    await this.window.page.waitForFunction(`(${shownPage.toString()})() !== ${JSON.stringify(before)}`);
  }
}

/** What tells one page from the next; null when there is none. Runs in the page. */
function shownPage(): string | null {
  const widget = document.querySelector<HTMLElement>('.quick-input-widget');
  if (!widget || widget.style.display === 'none') {
    return null;
  }
  const input = widget.querySelector<HTMLInputElement>('input.input');
  const rows = [...widget.querySelectorAll('.quick-input-list .monaco-list-row')].map((row) => row.textContent);
  return JSON.stringify([widget.querySelector('.quick-input-title')?.textContent, input?.value, input?.placeholder, rows]);
}
