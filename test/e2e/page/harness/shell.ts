import {
  AbstractMessageReader,
  AbstractMessageWriter,
  createMessageConnection,
  ResponseError,
  type DataCallback,
  type Disposable,
  Message,
  type MessageConnection,
  type MessageWriter,
} from 'vscode-jsonrpc/node';
import type { CheckReport } from '../../../../src/protocol/check';
import { progressType, type ImageMethod, type ImageRequests, type Progress, type WireError } from '../../../../src/protocol/engine';
import type { Place } from '../../../../src/protocol/place';
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
  type ViewState,
} from '../../../../src/protocol/webview';

/** What stands behind the page: an image that answers requests. */
export interface ImageBackend {
  readonly path: string;
  call<M extends ImageMethod>(
    method: M,
    params: ImageRequests[M]['params'],
    options: { readonly signal: AbortSignal; readonly onProgress: (progress: Progress) => void },
  ): Promise<ImageRequests[M]['result']>;
}

/** An error as it crosses from the engine to the page. */
export class BackendError extends Error {
  readonly wire: WireError;

  constructor(wire: Partial<WireError> & { readonly message: string }) {
    super(wire.message);
    this.wire = { code: 'request.invalid', file: null, structure: null, hostOffset: null, remedy: null, ...wire };
  }
}

const REQUEST_FAILED = -32_803;
const REQUEST_CANCELLED = -32_800;

class Reader extends AbstractMessageReader {
  private callback: DataCallback | undefined;

  override listen(callback: DataCallback): Disposable {
    this.callback = callback;
    return { dispose: () => (this.callback = undefined) };
  }

  receive(message: Message): void {
    this.callback?.(message);
  }
}

class Writer extends AbstractMessageWriter implements MessageWriter {
  private readonly send: (message: Message) => Promise<void>;

  constructor(send: (message: Message) => Promise<void>) {
    super();
    this.send = send;
  }

  write(message: Message): Promise<void> {
    return this.send(message);
  }

  end(): void {
    // The page ends with its test.
  }
}

/** Plays the shell's part in the conversation with the page, and notes what the page asks of it. */
export class PageShell {
  readonly copied: { text: string; what: string }[] = [];
  readonly opened: { path: string; place: Place | null }[] = [];
  readonly commands: string[] = [];
  /** Requests that the page sent, in order. */
  readonly requests: { method: ImageMethod; params: unknown }[] = [];
  /** Requests that the page gave up. */
  readonly cancelled: ImageMethod[] = [];
  /** Run when the page sends a command; a check is the test's to play. */
  onCommand: (command: string) => Promise<void> | void = () => undefined;
  /** What the page is to show first. */
  state: ViewState | null = null;
  /** How many messages the page has sent. */
  received = 0;
  /** Requests of the page whose answer it does not have yet. */
  private readonly unanswered = new Set<number | string>();
  private disposed = false;
  private whenQuiet: (() => void)[] = [];
  private readonly whenCopied: (() => void)[] = [];
  private readonly reader = new Reader();
  private readonly connection: MessageConnection;

  constructor(backend: ImageBackend, send: (message: Message) => Promise<void>) {
    this.connection = createMessageConnection(this.reader, new Writer((message) => this.deliver(message, send)));
    this.connection.onRequest(viewReady, () => ({ path: backend.path, state: this.state }));
    this.connection.onRequest(viewCall, async ({ method, params, progressToken }, token) => {
      this.requests.push({ method, params });
      const controller = new AbortController();
      token.onCancellationRequested(() => {
        this.cancelled.push(method);
        controller.abort();
      });
      try {
        return await backend.call(method, params, {
          signal: controller.signal,
          onProgress: (progress) => {
            if (progressToken !== null && !this.disposed) {
              void this.connection.sendProgress(progressType, progressToken, progress);
            }
          },
        });
      } catch (error) {
        return failure(error, controller.signal);
      }
    });
    this.connection.onRequest(copyText, (copied) => {
      this.copied.push(copied);
      this.whenCopied.splice(0).forEach((resolve) => resolve());
      return null;
    });
    this.connection.onRequest(openFile, (file) => {
      this.opened.push(file);
      return null;
    });
    this.connection.onRequest(runCommand, async ({ command }) => {
      this.commands.push(command);
      try {
        await this.onCommand(command);
        return null;
      } catch (error) {
        return failure(error, null);
      }
    });
    this.connection.listen();
  }

  /** Waits until something was copied so many times; the texts. */
  async copies(count: number): Promise<string[]> {
    while (this.copied.length < count) {
      await new Promise<void>((resolve) => this.whenCopied.push(resolve));
    }
    return this.copied.map(({ text }) => text);
  }

  /** Whether the page has the answers to all its requests. */
  get isQuiet(): boolean {
    return this.unanswered.size === 0;
  }

  /** Resolves when the page has the answers to all its requests. */
  async quiet(): Promise<void> {
    if (!this.isQuiet) {
      await new Promise<void>((resolve) => this.whenQuiet.push(resolve));
    }
  }

  receive(message: unknown): void {
    this.received++;
    const received = message as Message;
    if (Message.isRequest(received) && received.id !== null) {
      this.unanswered.add(received.id);
    }
    this.reader.receive(received);
  }

  private async deliver(message: Message, send: (message: Message) => Promise<void>): Promise<void> {
    try {
      await send(message);
    } catch (error) {
      // A page that is being closed takes nothing any more.
      if (!this.disposed) {
        throw error;
      }
    } finally {
      if (Message.isResponse(message) && message.id !== null) {
        this.unanswered.delete(message.id);
        if (this.isQuiet) {
          this.whenQuiet.splice(0).forEach((resolve) => resolve());
        }
      }
    }
  }

  goTo(state: ViewState): Promise<void> {
    return this.connection.sendNotification(goTo, state);
  }

  showReport(report: CheckReport): Promise<void> {
    return this.connection.sendNotification(showReport, { report });
  }

  checkProgress(fraction: number | null, message: string | null): Promise<void> {
    return this.connection.sendNotification(checkProgress, { fraction, message });
  }

  reload(changedFields: readonly string[]): Promise<void> {
    return this.connection.sendNotification(reload, { changedFields });
  }

  dispose(): void {
    this.disposed = true;
    this.connection.dispose();
  }
}

function failure(error: unknown, signal: AbortSignal | null): ResponseError<WireError> {
  const wire: WireError =
    error instanceof BackendError
      ? error.wire
      : { code: 'page', message: String(error), file: null, structure: null, hostOffset: null, remedy: null };
  return new ResponseError(signal?.aborted === true ? REQUEST_CANCELLED : REQUEST_FAILED, wire.message, wire);
}
