import { join } from 'node:path';
import { ROOT } from '../../../../scripts/run/paths.mjs';
import type { ImageMethod, ImageRequests } from '../../../../src/protocol/engine';
import { CallError } from '../../../../src/protocol/imageClient';
import { EngineClient } from '../../../../src/worker/client';
import { BackendError, type ImageBackend } from './shell';

type BackendOptions = Parameters<ImageBackend['call']>[2];

/** The engine as it is shipped: the worker's bundle in a thread of this process. */
export class TestEngine {
  private readonly client = new EngineClient({
    workerPath: join(ROOT, 'dist', 'worker.js'),
    answerGate: () => Promise.resolve({ allowed: true, reason: null }),
  });

  /** Opens an image; what it names is opened too. */
  async open(path: string): Promise<EngineImage> {
    const [format = null] = await this.client.probeFiles([path]);
    const session = await this.client.openSession({ path, format: format ?? 'raw' });
    return new EngineImage(path, session);
  }

  stop(): Promise<void> {
    return this.client.dispose();
  }
}

type Session = Awaited<ReturnType<EngineClient['openSession']>>;

/** What can go wrong between the page and the engine, as a test wants it. */
interface Disturbance {
  /** Requests of these methods fail with this sentence. */
  readonly failing: Map<ImageMethod, string>;
  /** Requests of these methods wait until they are given up or released. */
  readonly held: Set<ImageMethod>;
}

/** An image that the real engine has open, and that a test can disturb. */
export class EngineImage implements ImageBackend {
  readonly path: string;
  readonly session: Session;
  readonly disturbance: Disturbance = { failing: new Map(), held: new Set() };
  private waiting: (() => void)[] = [];

  constructor(path: string, session: Session) {
    this.path = path;
    this.session = session;
  }

  async call<M extends ImageMethod>(
    method: M,
    params: ImageRequests[M]['params'],
    options: BackendOptions,
  ): Promise<ImageRequests[M]['result']> {
    const message = this.disturbance.failing.get(method);
    if (message !== undefined) {
      throw new BackendError({ message, code: 'file.io', remedy: 'Try it again later.' });
    }
    if (this.disturbance.held.has(method)) {
      options.onProgress({ done: 1, total: 4 });
      await new Promise<void>((resolve, reject) => {
        this.waiting.push(resolve);
        options.signal.addEventListener('abort', () => reject(new BackendError({ message: 'Cancelled.', code: 'cancelled' })));
      });
    }
    try {
      return await this.session.call(method, params, options);
    } catch (error) {
      throw error instanceof CallError ? new BackendError(error.wire) : error;
    }
  }

  /** Lets held requests go on. */
  release(): void {
    this.disturbance.held.clear();
    for (const go of this.waiting.splice(0)) {
      go();
    }
  }
}
