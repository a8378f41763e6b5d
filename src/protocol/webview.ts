import { NotificationType, RequestType } from 'vscode-jsonrpc';

import type { CheckReport } from './check';
import type { ImageCall, ImageMethod, ImageRequests, WireError } from './engine';
import type { Place } from './place';

/* Between the shell and the editor's webview. */

/** An image request without its session, which the shell adds. */
export type ViewCall = Omit<ImageCall, 'session'>;
export const viewCall = new RequestType<ViewCall, ImageRequests[ImageMethod]['result'], WireError>('view/call');

export type EditorTab = 'overview' | 'map' | 'tables' | 'snapshots' | 'check' | 'hex';

/** What the webview keeps in its own state, and the shell can set. */
export interface ViewState {
  readonly tab: EditorTab;
  readonly place: Place | null;
}

/** The page is loaded and listens; the answer is what to show first. */
export const viewReady = new RequestType<null, { readonly path: string; readonly state: ViewState | null }, WireError>('view/ready');

export const copyText = new RequestType<{ readonly text: string; readonly what: string }, null, WireError>('view/copy');
/** Opens another file of the chain in an editor of its own. */
export const openFile = new RequestType<{ readonly path: string; readonly place: Place | null }, null, WireError>('view/openFile');
/** Runs a command of the extension (`chainscope.checkImage`, `chainscope.applySnapshot`, ...) on this image, or on something in it. */
export const runCommand = new RequestType<{ readonly command: string; readonly place: Place | null }, null, WireError>('view/command');

/* Shell -> webview. */
export const goTo = new NotificationType<ViewState>('view/goTo');
export const showReport = new NotificationType<{ readonly report: CheckReport }>('view/showReport');
/** A check is running (0..1), or was cancelled or failed (null). */
export const checkProgress = new NotificationType<{ readonly fraction: number | null; readonly message: string | null }>(
  'view/checkProgress',
);
/** The file changed; everything shown is to be asked for again. */
export const reload = new NotificationType<{ readonly changedFields: readonly string[] }>('view/reload');
