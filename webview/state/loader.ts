import type { ReactiveController, ReactiveControllerHost } from 'lit';
import type { Progress } from '../../src/protocol/engine';
import type { CallOptions } from '../../src/protocol/imageClient';
import { isCancelled, problemOf, type Problem } from '../problem';

/**
 * One answer that a component waits for: idle until asked, then loading, ready, failed or cancelled. While it is asked for again the old
 * answer stays, so that nothing flickers.
 */
export class Loader<T> implements ReactiveController {
  private readonly host: ReactiveControllerHost;
  private controller: AbortController | null = null;
  private lastAsk: ((options: CallOptions) => Promise<T>) | null = null;
  private shown: T | null = null;
  private shownProblem: Problem | null = null;
  private shownProgress: Progress | null = null;
  private wasCancelled = false;

  constructor(host: ReactiveControllerHost) {
    this.host = host;
    host.addController(this);
  }

  /** The last answer, perhaps an older one when a newer is being waited for. */
  get value(): T | null {
    return this.shown;
  }

  get problem(): Problem | null {
    return this.shownProblem;
  }

  get loading(): boolean {
    return this.controller !== null;
  }

  get progress(): Progress | null {
    return this.shownProgress;
  }

  /** Whether the person stopped it. */
  get cancelled(): boolean {
    return this.wasCancelled;
  }

  /** Nothing was asked for yet. */
  get idle(): boolean {
    return this.lastAsk === null;
  }

  /** Asks; whatever was asked before is given up. Resolves when this question is settled, one way or the other. */
  async ask(question: (options: CallOptions) => Promise<T>): Promise<void> {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    this.lastAsk = question;
    this.shownProblem = null;
    this.shownProgress = null;
    this.wasCancelled = false;
    this.host.requestUpdate();
    try {
      const value = await question({
        signal: controller.signal,
        onProgress: (progress) => {
          if (this.controller === controller) {
            this.shownProgress = progress;
            this.host.requestUpdate();
          }
        },
      });
      if (this.controller === controller) {
        this.shown = value;
      }
    } catch (error) {
      if (this.controller === controller) {
        if (isCancelled(error)) {
          this.wasCancelled = true;
        } else {
          this.shownProblem = problemOf(error);
        }
      }
    }
    if (this.controller === controller) {
      this.controller = null;
      this.shownProgress = null;
      this.host.requestUpdate();
    }
  }

  /** Asks the same again. */
  async retry(): Promise<void> {
    if (this.lastAsk !== null) {
      await this.ask(this.lastAsk);
    }
  }

  /** Stops waiting, as the person wants it. */
  cancel(): void {
    if (this.controller !== null) {
      this.controller.abort();
      this.controller = null;
      this.shownProgress = null;
      this.wasCancelled = true;
      this.host.requestUpdate();
    }
  }

  /** Forgets answer and question. */
  reset(): void {
    this.controller?.abort();
    this.controller = null;
    this.lastAsk = null;
    this.shown = null;
    this.shownProblem = null;
    this.shownProgress = null;
    this.wasCancelled = false;
    this.host.requestUpdate();
  }

  /** A component that leaves the page leaves no scan running for it. */
  hostDisconnected(): void {
    this.controller?.abort();
    this.controller = null;
  }
}
