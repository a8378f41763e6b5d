import { randomBytes } from 'node:crypto';
import * as path from 'node:path';
import { ResponseError } from 'vscode-jsonrpc/node';
import * as vscode from 'vscode';

import type { CheckReport } from '../../protocol/check';
import { progressType, type ImageMethod, type ImageRequests, type Progress, type WireError } from '../../protocol/engine';
import type { Place } from '../../protocol/place';
import {
  checkProgress,
  copyText,
  goTo,
  openFile,
  reload,
  runCommand,
  showReport,
  viewCall,
  viewReady,
  type ViewCall,
  type ViewState,
} from '../../protocol/webview';
import { isCancelled, wireErrorOf } from '../errors';
import { DisposableStore, type Disposable } from '../lifecycle';
import { signalOf } from '../signals';
import { labelText } from '../text/plain';
import type { DocumentState, ImageDocument } from './document';
import { editorPage, failurePage } from './html';
import { WebviewConnections, type PageConnection } from './webviewConnection';

/** What a panel leaves to others. */
export interface PanelHost {
  readonly extensionUri: vscode.Uri;
  readonly log: vscode.LogOutputChannel;
  /** Opens another file of the panel's chain. @throws CallError when the chain has no such file */
  openFile(document: ImageDocument, file: string, place: Place | null): Promise<void>;
  /** Runs a command on the panel's image, or on something in it. @throws CallError when a page may not run it */
  runCommand(document: ImageDocument, command: string, place: Place | null): Promise<void>;
  /** A check that the page asked for has ended. */
  checked(document: ImageDocument, report: CheckReport): void;
}

/** JSON-RPC's code for a request that failed for a reason of its own; the engine's code is in the data. */
const REQUEST_FAILED = -32_803;
/** The one for a request that was cancelled. */
const REQUEST_CANCELLED = -32_800;

/** One editor's webview: its page, and the conversation with it. */
export class ImagePanel implements Disposable {
  readonly document: ImageDocument;
  private readonly disposables = new DisposableStore();
  private readonly panel: vscode.WebviewPanel;
  private readonly host: PanelHost;
  private readonly connections: WebviewConnections;
  /** What to show as soon as the page listens. The report stays: a page that was hidden and is loaded anew shows it again. */
  private pending: { state: ViewState | null; report: CheckReport | null } = { state: null, report: null };
  /** The page may show what an earlier session said. */
  private wasOpen = false;
  private shows: 'nothing' | 'editor' | 'failure' = 'nothing';

  constructor(panel: vscode.WebviewPanel, document: ImageDocument, host: PanelHost) {
    this.panel = panel;
    this.document = document;
    this.host = host;
    panel.webview.options = {
      enableScripts: true,
      enableCommandUris: false,
      localResourceRoots: [vscode.Uri.joinPath(host.extensionUri, 'dist', 'webview'), vscode.Uri.joinPath(host.extensionUri, 'media')],
    };
    this.connections = this.disposables.add(new WebviewConnections(panel.webview, (page) => this.accept(page)));
    this.disposables.add(document.onDidChangeState((state) => this.follow(state)));
    this.disposables.add(document.onDidChangeImage(({ changedFields }) => this.tellReload(changedFields)));
    this.disposables.add(
      panel.onDidChangeViewState(() => {
        if (!panel.visible) {
          this.connections.hangUp();
        }
      }),
    );
    this.follow(document.state);
  }

  get isActive(): boolean {
    return this.panel.active;
  }

  /** Brings the editor to the front. */
  reveal(): void {
    this.panel.reveal();
  }

  /** Goes to a tab and a place. */
  show(state: ViewState): void {
    if (this.connections.connection === undefined) {
      this.pending = { ...this.pending, state };
    } else {
      this.notify((connection) => connection.sendNotification(goTo, state));
    }
  }

  /** Shows a check's findings in the Check tab. */
  showReport(report: CheckReport): void {
    this.pending = { ...this.pending, report };
    this.notify((connection) => connection.sendNotification(showReport, { report }));
  }

  /** A check runs: how far it is, 0 to 1; null when it ended without a report, `message` then says why. */
  showCheckProgress(fraction: number | null, message: string | null): void {
    this.notify((connection) => connection.sendNotification(checkProgress, { fraction, message }));
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private follow(state: DocumentState): void {
    switch (state.kind) {
      case 'opening':
        this.load('editor', () => this.editorHtml());
        break;
      case 'open':
        this.load('editor', () => this.editorHtml());
        if (this.wasOpen) {
          this.tellReload([]);
        }
        this.wasOpen = true;
        break;
      case 'failed':
        this.shows = 'nothing';
        this.load('failure', () => this.failureHtml(state.error, state.retried));
        break;
    }
  }

  /** The page is loaded while the worker opens the image; it waits for what it asks. */
  private load(what: 'editor' | 'failure', html: () => string): void {
    if (this.shows !== what) {
      this.connections.hangUp();
      this.shows = what;
      this.panel.webview.html = html();
    }
  }

  private editorHtml(): string {
    const { webview } = this.panel;
    const uriOf = (name: string): string =>
      webview.asWebviewUri(vscode.Uri.joinPath(this.host.extensionUri, 'dist', 'webview', name)).toString();
    return editorPage({
      nonce: randomBytes(24).toString('base64url'),
      cspSource: webview.cspSource,
      script: uriOf('main.js'),
      styleSheet: uriOf('main.css'),
      title: path.basename(this.document.path),
    });
  }

  private failureHtml({ message, remedy }: WireError, retried: boolean): string {
    return failurePage({
      title: path.basename(this.document.path),
      message,
      remedy,
      retried,
    });
  }

  private accept({ connection, gone }: PageConnection): void {
    const { document, host } = this;
    connection.onError(([error]) => host.log.error(`Conversation with the editor of '${document.path}': ${error.message}`));

    connection.onRequest(viewReady, () =>
      answer(async () => {
        await document.opened();
        const { state, report } = this.pending;
        this.pending = { state: null, report };
        if (report !== null) {
          // Behind the answer, which the page waits for before it listens.
          setImmediate(() => this.showReport(report));
        }
        return { path: document.path, state };
      }),
    );
    connection.onRequest(viewCall, (call, token) => answer(() => this.relay(call, AbortSignal.any([signalOf(token), gone]), connection)));
    connection.onRequest(copyText, ({ text, what }) =>
      answer(async () => {
        await vscode.env.clipboard.writeText(text);
        vscode.window.setStatusBarMessage(`$(copy) Copied ${labelText(what)}`, 3_000);
        return null;
      }),
    );
    connection.onRequest(openFile, ({ path: file, place }) =>
      answer(async () => {
        await host.openFile(document, file, place);
        return null;
      }),
    );
    connection.onRequest(runCommand, ({ command, place }) =>
      answer(async () => {
        await host.runCommand(document, command, place);
        return null;
      }),
    );
  }

  /** Passes a request on to the session. */
  private async relay(
    { method, params, progressToken }: ViewCall,
    signal: AbortSignal,
    connection: PageConnection['connection'],
  ): Promise<ImageRequests[ImageMethod]['result']> {
    const { session } = await this.document.opened();
    const onProgress = (progress: Progress): void => this.send(connection.sendProgress(progressType, progressToken ?? '', progress));
    const result = await session.call(method, params, { signal, onProgress: progressToken === null ? undefined : onProgress });
    if (method === 'check') {
      this.host.checked(this.document, result as CheckReport);
    }
    return result;
  }

  private tellReload(changedFields: readonly string[]): void {
    // Findings are about the file as it was; the page that shows them says so, one that is loaded later need not.
    this.pending = { ...this.pending, report: null };
    this.notify((connection) => connection.sendNotification(reload, { changedFields }));
  }

  /** What is told while no page listens needs no telling: a page that loads asks for everything. */
  private notify(tell: (connection: PageConnection['connection']) => Promise<void>): void {
    const { connection } = this.connections;
    if (connection !== undefined) {
      this.send(tell(connection));
    }
  }

  private send(sent: Promise<void>): void {
    sent.catch((error: unknown) => this.host.log.debug(`A message did not reach the editor: ${String(error)}`));
  }
}

/** Lets errors cross to the page with all that the engine knows of them. */
async function answer<T>(work: () => Promise<T>): Promise<T | ResponseError<WireError>> {
  try {
    return await work();
  } catch (error) {
    const wire = wireErrorOf(error);
    return new ResponseError(isCancelled(error) ? REQUEST_CANCELLED : REQUEST_FAILED, wire.message, wire);
  }
}
