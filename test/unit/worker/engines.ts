import * as path from 'node:path';
import { afterAll, afterEach, beforeAll } from 'vitest';

import { EngineClient } from '../../../src/worker/client';
import { bundleWorker, type WorkerBundle } from './bundle';

/** Engines in workers as they are shipped, for the tests of a file; each ends with the test that started it. */
export class Engines {
  private bundle: WorkerBundle | null = null;
  private readonly clients: EngineClient[] = [];

  constructor() {
    beforeAll(async () => {
      this.bundle = await bundleWorker();
    });
    afterAll(async () => {
      await this.bundle?.remove();
    });
    afterEach(async () => {
      await Promise.all(this.clients.splice(0).map((client) => client.dispose()));
    });
  }

  /** For images; there as soon as the tests begin. */
  get folder(): string {
    return this.made.folder;
  }

  at(name: string): string {
    return path.join(this.folder, name);
  }

  /** Starts one that may open whatever images name. */
  start(): EngineClient {
    const client = new EngineClient({
      workerPath: this.made.workerPath,
      answerGate: () => Promise.resolve({ allowed: true, reason: null }),
    });
    this.clients.push(client);
    return client;
  }

  private get made(): WorkerBundle {
    if (!this.bundle) {
      throw new Error('The worker is not bundled yet.');
    }
    return this.bundle;
  }
}
