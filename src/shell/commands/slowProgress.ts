import * as vscode from 'vscode';

import { messageText } from '../text/plain';

/** What ends sooner shows nothing but its result; a notification that flashes by tells nobody anything. */
const SLOW_MS = 400;

/** How far something is: for whoever shows it, and as a notification once it takes long enough. */
export class SlowProgress {
  private readonly listeners: ((fraction: number) => void)[] = [];
  private percent = 0;
  private detail = '';

  /** What is shown beside the share done. */
  describe(detail: string): void {
    this.detail = detail;
  }

  /** Called with the fraction done, 0 to 1, at most once for each percent. */
  onDidAdvance(listener: (fraction: number) => void): void {
    this.listeners.push(listener);
  }

  advance(fraction: number): void {
    const percent = Math.floor(fraction * 100);
    if (percent > this.percent) {
      this.percent = percent;
      for (const listener of this.listeners) {
        listener(fraction);
      }
    }
  }

  /** Resolves when the work has ended, however it did; shows a notification by which it can be cancelled while it lasts. */
  async showWhenSlow(work: Promise<unknown>, title: string, cancel: () => void): Promise<void> {
    const ended = work.then(
      () => undefined,
      () => undefined,
    );
    let timer: NodeJS.Timeout | undefined;
    const slow = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(true), SLOW_MS);
    });
    const isSlow = await Promise.race([ended.then(() => false), slow]);
    clearTimeout(timer);
    if (!isSlow) {
      return;
    }
    await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, cancellable: true, title: messageText(title) },
      (progress, token) => {
        token.onCancellationRequested(cancel);
        let shown = 0;
        const show = (): void => {
          progress.report({
            increment: this.percent - shown,
            // Nothing is known of how far work is that has not said anything yet.
            message: [...(this.percent === 0 ? [] : [`${this.percent} %`]), ...(this.detail === '' ? [] : [this.detail])].join(' · '),
          });
          shown = this.percent;
        };
        show();
        this.onDidAdvance(show);
        return ended;
      },
    );
  }
}
