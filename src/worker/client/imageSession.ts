import { Emitter, type Event } from 'vscode-jsonrpc/node';

import type { ChainLink } from '../../protocol/chain';
import { closeSession, imageCall, openSession, type ImageMethod, type ImageRequests, type OpenParams } from '../../protocol/engine';
import { plainError, type CallOptions, type ImageClient } from '../../protocol/imageClient';
import type { RunningWorker } from './runningWorker';

export interface ImageChange {
  readonly links: readonly ChainLink[];
  /** As `changedFields` of the protocol's notification has them. */
  readonly changedFields: readonly string[];
}

/** An image that the worker holds open. It outlives workers: in the next one it is opened again. */
export class ImageSession implements ImageClient {
  private readonly params: OpenParams;
  private readonly worker: () => RunningWorker;
  private readonly forget: (session: ImageSession) => void;
  private readonly changed = new Emitter<ImageChange>();
  /** The image, or a file of its chain, changed on the disk and was read again. */
  readonly onDidChange: Event<ImageChange> = this.changed.event;
  private opening: { readonly worker: RunningWorker; readonly id: Promise<number> } | null = null;
  private current: { readonly worker: RunningWorker; readonly id: number } | null = null;
  private closed = false;

  /** @param worker the running worker, started when there is none */
  constructor(params: OpenParams, worker: () => RunningWorker, forget: (session: ImageSession) => void) {
    this.params = params;
    this.worker = worker;
    this.forget = forget;
  }

  async call<M extends ImageMethod>(
    method: M,
    params: ImageRequests[M]['params'],
    options: CallOptions = {},
  ): Promise<ImageRequests[M]['result']> {
    const worker = this.worker();
    const session = await this.open(worker);
    // The wire's type is the union over all methods; the worker answers each with its own.
    return worker.request(imageCall, (progressToken) => ({ session, method, params, progressToken }), options);
  }

  /** Makes sure that the worker has the image open. @throws CallError */
  async open(worker: RunningWorker = this.worker(), signal?: AbortSignal): Promise<number> {
    if (this.closed) {
      throw plainError('request.invalid', 'The image is no longer open.');
    }
    if (this.opening?.worker !== worker) {
      const id = this.openIn(worker, signal);
      this.opening = { worker, id };
      // A failure is for whoever waits; the next call tries again.
      id.catch(() => {
        if (this.opening?.id === id) {
          this.opening = null;
        }
      });
    }
    return this.opening.id;
  }

  /** Whether a worker's notification is about this session. */
  isKnownAs(worker: RunningWorker, id: number): boolean {
    return this.current?.worker === worker && this.current.id === id;
  }

  tellChange(change: ImageChange): void {
    this.changed.fire(change);
  }

  close(): void {
    if (this.closed) {
      return;
    }
    this.closed = true;
    this.forget(this);
    this.changed.dispose();
    const { opening } = this;
    if (opening) {
      void opening.id.then(
        (session) => opening.worker.request(closeSession, () => ({ session })).catch(() => undefined),
        () => undefined,
      );
    }
  }

  private async openIn(worker: RunningWorker, signal: AbortSignal | undefined): Promise<number> {
    const { session } = await worker.request(openSession, () => this.params, { signal });
    this.current = { worker, id: session };
    return session;
  }
}
