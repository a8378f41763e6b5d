import type { CheckReport } from '../src/protocol/check';
import type { ImageClient } from '../src/protocol/imageClient';
import type { Place } from '../src/protocol/place';
import type { ViewState } from '../src/protocol/webview';

/* What the page knows of the world outside: the shell and, through it, the engine's session on this image. */

/** What the shell tells the page without being asked. */
export interface HostEvents {
  goTo(state: ViewState): void;
  showReport(report: CheckReport): void;
  checkProgress(progress: { readonly fraction: number | null; readonly message: string | null }): void;
  reload(change: { readonly changedFields: readonly string[] }): void;
}

export interface Greeting {
  readonly path: string;
  readonly state: ViewState | null;
}

/** All calls reject with CallError. */
export interface EditorHost extends ImageClient {
  /** Says that the page listens. Events come only to `events`, from then on. */
  ready(events: HostEvents): Promise<Greeting>;
  copyText(text: string, what: string): Promise<void>;
  openFile(path: string, place: Place | null): Promise<void>;
  runCommand(command: string, place: Place | null): Promise<void>;
  /** What `saveState` was given before the page was last torn down. */
  savedState(): unknown;
  saveState(state: unknown): void;
}
