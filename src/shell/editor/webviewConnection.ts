import {
  AbstractMessageReader,
  AbstractMessageWriter,
  createMessageConnection,
  type DataCallback,
  type Message,
  type MessageConnection,
  type MessageWriter,
} from 'vscode-jsonrpc/node';
import * as vscode from 'vscode';

import { viewReady } from '../../protocol/webview';
import { DisposableStore, type Disposable } from '../lifecycle';

/** Messages are posted as the objects they are; VS Code moves typed arrays in them as bytes. */
class PageReader extends AbstractMessageReader {
  private callback: DataCallback | undefined;

  override listen(callback: DataCallback): Disposable {
    this.callback = callback;
    return { dispose: () => (this.callback = undefined) };
  }

  receive(message: Message): void {
    this.callback?.(message);
  }
}

class PageWriter extends AbstractMessageWriter implements MessageWriter {
  private closed = false;
  private readonly webview: vscode.Webview;

  constructor(webview: vscode.Webview) {
    super();
    this.webview = webview;
  }

  async write(message: Message): Promise<void> {
    // What answers a page that is gone must not reach the one that came after it, which counts its requests from the beginning too.
    if (!this.closed) {
      await this.webview.postMessage(message);
    }
  }

  end(): void {
    this.closed = true;
  }
}

/** The conversation with one load of the page. */
export interface PageConnection {
  readonly connection: MessageConnection;
  /** Cancelled when the page is gone. */
  readonly life: vscode.CancellationToken;
}

/**
 * Conversations with a webview's page, one after the other: VS Code tears the page down when its tab is hidden and loads it anew when it
 * is shown. A page begins by saying that it is ready.
 */
export class WebviewConnections implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly webview: vscode.Webview;
  private readonly accept: (page: PageConnection) => void;
  private now: { reader: PageReader; connection: MessageConnection; dispose(): void } | undefined;

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
    if (!isMessage(message)) {
      return;
    }
    if ('method' in message && message.method === viewReady.method) {
      this.hangUp();
      this.now = this.begin();
    }
    this.now?.reader.receive(message);
  }

  private begin(): { reader: PageReader; connection: MessageConnection; dispose(): void } {
    const reader = new PageReader();
    const writer = new PageWriter(this.webview);
    const connection = createMessageConnection(reader, writer);
    const life = new vscode.CancellationTokenSource();
    this.accept({ connection, life: life.token });
    connection.listen();
    return {
      reader,
      connection,
      dispose: () => {
        writer.end();
        life.cancel();
        life.dispose();
        connection.dispose();
      },
    };
  }
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0';
}
