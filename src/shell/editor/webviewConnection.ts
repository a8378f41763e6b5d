import { createMessageConnection, type MessageConnection } from 'vscode-jsonrpc/node';
import * as vscode from 'vscode';

import { PortReader, PortWriter, type PostPort } from '../../protocol/portTransport';
import { viewReady } from '../../protocol/webview';
import { DisposableStore, type Disposable } from '../lifecycle';

/** The conversation with one load of the page. */
export interface PageConnection {
  readonly connection: MessageConnection;
  /** Aborted when the page is gone. */
  readonly gone: AbortSignal;
}

interface Conversation extends Disposable {
  readonly connection: MessageConnection;
  receive(message: unknown): void;
}

/**
 * Conversations with a webview's page, one after the other: VS Code tears the page down when its tab is hidden and loads it anew when it
 * is shown. A page begins by saying that it is ready.
 */
export class WebviewConnections implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly webview: vscode.Webview;
  private readonly accept: (page: PageConnection) => void;
  private now: Conversation | undefined;

  /** `accept` puts the handlers on a new conversation. */
  constructor(webview: vscode.Webview, accept: (page: PageConnection) => void) {
    this.webview = webview;
    this.accept = accept;
    this.disposables.add(webview.onDidReceiveMessage((message: unknown) => this.receive(message)));
  }

  /** The present conversation; undefined while no page listens. */
  get connection(): MessageConnection | undefined {
    return this.now?.connection;
  }

  /** The page is gone: what it asked for is given up. */
  hangUp(): void {
    this.now?.dispose();
    this.now = undefined;
  }

  dispose(): void {
    this.hangUp();
    this.disposables.dispose();
  }

  private receive(message: unknown): void {
    if (isReady(message)) {
      this.hangUp();
      this.now = this.begin();
    }
    this.now?.receive(message);
  }

  private begin(): Conversation {
    const received = new vscode.EventEmitter<unknown>();
    const port: PostPort = {
      postMessage: (message) => void this.webview.postMessage(message),
      onMessage: (listener) => received.event(listener),
    };
    const writer = new PortWriter(port, { transferResults: false });
    const connection = createMessageConnection(new PortReader(port), writer);
    const gone = new AbortController();
    this.accept({ connection, gone: gone.signal });
    connection.listen();
    return {
      connection,
      receive: (message) => received.fire(message),
      dispose: () => {
        // What still answers this page must not reach the one that comes after it, which counts its requests from the beginning too.
        writer.end();
        gone.abort();
        connection.dispose();
        received.dispose();
      },
    };
  }
}

function isReady(message: unknown): boolean {
  return typeof message === 'object' && message !== null && 'method' in message && message.method === viewReady.method;
}
