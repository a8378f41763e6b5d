import {
  AbstractMessageReader,
  AbstractMessageWriter,
  CancellationTokenSource,
  createMessageConnection,
  ResponseError,
  type DataCallback,
  type Disposable,
  type Message,
  type MessageConnection,
  type MessageWriter,
} from 'vscode-jsonrpc/browser';
import { progressType, type ImageMethod, type ImageRequests } from '../src/protocol/engine';
import type { Place } from '../src/protocol/place';
import { checkProgress, copyText, goTo, openFile, reload, runCommand, showReport, viewCall, viewReady } from '../src/protocol/webview';
import type { EditorHost, Greeting, HostEvents, RequestOptions } from './host';
import { HostError, type Problem } from './problem';

/** What VS Code gives a webview's page, once. */
interface VsCodeApi {
  postMessage(message: unknown): void;
  getState(): unknown;
  setState(state: unknown): void;
}

declare function acquireVsCodeApi(): VsCodeApi;

/** JSON-RPC's code for a request that was cancelled. */
const REQUEST_CANCELLED = -32_800;

class ShellReader extends AbstractMessageReader {
  override listen(callback: DataCallback): Disposable {
    const listener = ({ data }: MessageEvent<unknown>) => {
      if (isMessage(data)) {
        callback(data);
      }
    };
    window.addEventListener('message', listener);
    return { dispose: () => window.removeEventListener('message', listener) };
  }
}

class ShellWriter extends AbstractMessageWriter implements MessageWriter {
  private readonly api: VsCodeApi;

  constructor(api: VsCodeApi) {
    super();
    this.api = api;
  }

  // Typed arrays travel as such: VS Code clones what is posted.
  write(message: Message): Promise<void> {
    this.api.postMessage(message);
    return Promise.resolve();
  }

  end(): void {
    // The page ends with its window; nothing is left open.
  }
}

/** The shell behind the page's message port. */
class Shell implements EditorHost {
  private readonly api: VsCodeApi;
  private readonly connection: MessageConnection;
  private progressTokens = 0;

  constructor(api: VsCodeApi) {
    this.api = api;
    this.connection = createMessageConnection(new ShellReader(), new ShellWriter(api));
  }

  async ready(events: HostEvents): Promise<Greeting> {
    this.connection.onNotification(goTo, (state) => events.goTo(state));
    this.connection.onNotification(showReport, ({ report }) => events.showReport(report));
    this.connection.onNotification(checkProgress, (progress) => events.checkProgress(progress));
    this.connection.onNotification(reload, (change) => events.reload(change));
    this.connection.listen();
    return await this.answered(this.connection.sendRequest(viewReady, null));
  }

  async request<M extends ImageMethod>(
    method: M,
    params: ImageRequests[M]['params'],
    { signal, onProgress }: RequestOptions = {},
  ): Promise<ImageRequests[M]['result']> {
    signal?.throwIfAborted();
    const cancellation = new CancellationTokenSource();
    const abort = () => cancellation.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    const progressToken = onProgress === undefined ? null : `progress-${String(++this.progressTokens)}`;
    const listener =
      onProgress === undefined || progressToken === null ? null : this.connection.onProgress(progressType, progressToken, onProgress);
    try {
      const call = { method, params, progressToken };
      return await this.answered<ImageRequests[M]['result']>(this.connection.sendRequest(viewCall, call, cancellation.token));
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
      listener?.dispose();
      cancellation.dispose();
    }
  }

  async copyText(text: string, what: string): Promise<void> {
    await this.answered(this.connection.sendRequest(copyText, { text, what }));
  }

  async openFile(path: string, place: Place | null): Promise<void> {
    await this.answered(this.connection.sendRequest(openFile, { path, place }));
  }

  async runCommand(command: string): Promise<void> {
    await this.answered(this.connection.sendRequest(runCommand, { command }));
  }

  savedState(): unknown {
    return this.api.getState();
  }

  saveState(state: unknown): void {
    this.api.setState(state);
  }

  private async answered<T>(answer: Promise<unknown>): Promise<T> {
    try {
      return (await answer) as T;
    } catch (error) {
      if (error instanceof ResponseError) {
        if (error.code === REQUEST_CANCELLED) {
          throw new DOMException('Cancelled.', 'AbortError');
        }
        throw new HostError(problemIn(error));
      }
      throw error;
    }
  }
}

/** The engine's error inside of JSON-RPC's. */
function problemIn({ message, data }: ResponseError<unknown>): Problem {
  if (typeof data !== 'object' || data === null) {
    return { message, remedy: null, code: 'page', hostOffset: null };
  }
  const { code, remedy, hostOffset } = data as { code?: unknown; remedy?: unknown; hostOffset?: unknown };
  return {
    message,
    remedy: typeof remedy === 'string' ? remedy : null,
    code: typeof code === 'string' ? code : 'page',
    hostOffset: typeof hostOffset === 'number' ? hostOffset : null,
  };
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0';
}

/** Connects the page to the shell that made it. */
export function connectToShell(): EditorHost {
  return new Shell(acquireVsCodeApi());
}
