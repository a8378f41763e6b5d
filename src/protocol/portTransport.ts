import {
  AbstractMessageReader,
  AbstractMessageWriter,
  ErrorCodes,
  Message,
  type DataCallback,
  type Disposable,
  type MessageReader,
  type MessageWriter,
} from 'vscode-jsonrpc';

/*
 * JSON-RPC over anything that posts objects: a worker's MessagePort, a webview. Messages travel as the objects they are, typed arrays in
 * them included; no text is made of them.
 */

/** One end of a port. */
export interface PostPort {
  /** `transfer` lists buffers that move instead of being copied; a port that cannot move them may copy. */
  postMessage(message: unknown, transfer: readonly ArrayBuffer[]): void;
  onMessage(listener: (message: unknown) => void): Disposable;
}

export class PortReader extends AbstractMessageReader implements MessageReader {
  private readonly port: PostPort;

  constructor(port: PostPort) {
    super();
    this.port = port;
  }

  override listen(callback: DataCallback): Disposable {
    return this.port.onMessage((message) => {
      if (isMessage(message)) {
        callback(message);
      } else {
        this.fireError(new Error('Something that is no JSON-RPC message came through the port.'));
      }
    });
  }
}

export interface PortWriterOptions {
  /**
   * Whether the buffers of a response move to the other side. Only where whoever makes results gives them away: a moved buffer is empty
   * here afterwards.
   */
  readonly transferResults: boolean;
}

export class PortWriter extends AbstractMessageWriter implements MessageWriter {
  private readonly port: PostPort;
  private readonly options: PortWriterOptions;
  private closed = false;

  constructor(port: PostPort, options: PortWriterOptions) {
    super();
    this.port = port;
    this.options = options;
  }

  async write(message: Message): Promise<void> {
    if (this.closed) {
      return Promise.resolve();
    }
    try {
      const moved = this.options.transferResults && Message.isResponse(message) ? wholeBuffers(message.result) : [];
      this.port.postMessage(message, moved);
    } catch (error) {
      // A result that cannot be posted must not leave the other side waiting.
      if (Message.isResponse(message) && 'result' in message) {
        const { jsonrpc, id } = message;
        const text = error instanceof Error ? error.message : String(error);
        this.port.postMessage({ jsonrpc, id, error: { code: ErrorCodes.InternalError, message: text } }, []);
        return Promise.resolve();
      }
      this.fireError(error, message);
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    return Promise.resolve();
  }

  end(): void {
    this.closed = true;
  }
}

/** A result is a record with arrays in it, perhaps of records; nothing sits deeper. */
const MAX_DEPTH = 3;

/** Buffers that a value's typed arrays fill from end to end; a view of a part shares its buffer with somebody. */
export function wholeBuffers(value: unknown): ArrayBuffer[] {
  const found = new Set<ArrayBuffer>();
  collect(value, MAX_DEPTH, found);
  return [...found];
}

function collect(value: unknown, depth: number, found: Set<ArrayBuffer>): void {
  if (typeof value !== 'object' || value === null) {
    return;
  }
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer && value.byteLength === value.buffer.byteLength && value.byteLength > 0) {
      found.add(value.buffer);
    }
    return;
  }
  // Long lists are of small records.
  if (depth > 0 && !Array.isArray(value)) {
    for (const inner of Object.values(value)) {
      collect(inner, depth - 1, found);
    }
  }
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0';
}
