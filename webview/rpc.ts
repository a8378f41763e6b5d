import { CancellationTokenSource, createMessageConnection, ResponseError, type MessageConnection } from 'vscode-jsonrpc/browser';
import { progressType, type ImageMethod, type ImageRequests, type WireError } from '../src/protocol/engine';
import { CallError, INTERNAL, plainError, type CallOptions } from '../src/protocol/imageClient';
import type { Place } from '../src/protocol/place';
import { PortReader, PortWriter, type PostPort } from '../src/protocol/portTransport';
import { checkProgress, copyText, goTo, openFile, reload, runCommand, showReport, viewCall, viewReady } from '../src/protocol/webview';
import type { EditorHost, Greeting, HostEvents } from './host';

/** What VS Code gives a webview's page, once. */
interface VsCodeApi {
  postMessage(message: unknown): void;
  getState(): unknown;
  setState(state: unknown): void;
}

declare function acquireVsCodeApi(): VsCodeApi;

/** The shell behind the page's message port. */
class Shell implements EditorHost {
  private readonly api: VsCodeApi;
  private readonly connection: MessageConnection;
  private progressTokens = 0;

  constructor(api: VsCodeApi) {
    this.api = api;
    const port = portOf(api);
    this.connection = createMessageConnection(new PortReader(port), new PortWriter(port, { transferResults: false }));
  }

  async ready(events: HostEvents): Promise<Greeting> {
    this.connection.onNotification(goTo, (state) => events.goTo(state));
    this.connection.onNotification(showReport, ({ report }) => events.showReport(report));
    this.connection.onNotification(checkProgress, (progress) => events.checkProgress(progress));
    this.connection.onNotification(reload, (change) => events.reload(change));
    this.connection.listen();
    return await answered(this.connection.sendRequest(viewReady, null));
  }

  async call<M extends ImageMethod>(
    method: M,
    params: ImageRequests[M]['params'],
    { signal, onProgress }: CallOptions = {},
  ): Promise<ImageRequests[M]['result']> {
    if (signal?.aborted === true) {
      throw cancelled();
    }
    const cancellation = new CancellationTokenSource();
    const progressToken = onProgress === undefined ? null : `progress-${String(++this.progressTokens)}`;
    const listener =
      onProgress === undefined || progressToken === null ? null : this.connection.onProgress(progressType, progressToken, onProgress);
    const answer = this.connection.sendRequest(viewCall, { method, params, progressToken }, cancellation.token);
    // Given up means given up at once, however long the engine takes to notice.
    let abort = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        cancellation.cancel();
        reject(cancelled());
      };
    });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      // The wire's type is the union over all methods; the engine answers each with its own.
      return await answered(Promise.race([answer, aborted]));
    } finally {
      signal?.removeEventListener('abort', abort);
      listener?.dispose();
      cancellation.dispose();
    }
  }

  async copyText(text: string, what: string): Promise<void> {
    await answered(this.connection.sendRequest(copyText, { text, what }));
  }

  async openFile(path: string, place: Place | null): Promise<void> {
    await answered(this.connection.sendRequest(openFile, { path, place }));
  }

  async runCommand(command: string, place: Place | null): Promise<void> {
    await answered(this.connection.sendRequest(runCommand, { command, place }));
  }

  savedState(): unknown {
    return this.api.getState();
  }

  saveState(state: unknown): void {
    this.api.setState(state);
  }
}

/** VS Code clones what is posted; buffers are not moved. */
function portOf(api: VsCodeApi): PostPort {
  return {
    postMessage: (message) => api.postMessage(message),
    onMessage: (listener) => {
      const receive = ({ data }: MessageEvent<unknown>) => listener(data);
      window.addEventListener('message', receive);
      return { dispose: () => window.removeEventListener('message', receive) };
    },
  };
}

function cancelled(): CallError {
  return plainError('cancelled', 'Cancelled.');
}

/** Waits for an answer; an error is made what it was on the other side. */
async function answered<T>(answer: Promise<unknown>): Promise<T> {
  try {
    return (await answer) as T;
  } catch (error) {
    if (error instanceof ResponseError) {
      throw isWireError(error.data) ? new CallError(error.data, error) : plainError(INTERNAL, error.message);
    }
    throw error;
  }
}

function isWireError(data: unknown): data is WireError {
  return typeof data === 'object' && data !== null && 'code' in data && 'message' in data;
}

/** Connects the page to the shell that made it. */
export function connectToShell(): EditorHost {
  return new Shell(acquireVsCodeApi());
}
