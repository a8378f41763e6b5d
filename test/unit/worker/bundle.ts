import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import esbuild from 'esbuild';

import { watForEsbuild } from '../../../scripts/build/wat.mjs';

export interface WorkerBundle {
  /** Path for the client. */
  readonly workerPath: string;
  /** A folder for images, removed with the bundle. */
  readonly folder: string;
  /** Makes every worker that runs end: by an error that nobody catches, or without a word. */
  crash(how: 'throw' | 'exit'): void;
  remove(): Promise<void>;
}

/**
 * Bundles the worker as it is shipped, with a way to make it crash beside it. It lies where no native module is found: every byte of a
 * sparse file then counts as data, and a search through terabytes of holes goes on until somebody ends it.
 */
export async function bundleWorker(): Promise<WorkerBundle> {
  const folder = await mkdtemp(path.join(tmpdir(), 'chainscope-worker-'));
  const bundle = path.join(folder, 'bundle.js');
  await esbuild.build({
    entryPoints: [path.join(import.meta.dirname, '../../../src/worker/main.ts')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    external: ['koffi'],
    plugins: [watForEsbuild()],
    logLevel: 'error',
  });
  const channel = `crash ${folder}`;
  const workerPath = path.join(folder, 'worker.js');
  await writeFile(
    workerPath,
    `const channel = new BroadcastChannel(${JSON.stringify(channel)});
    channel.onmessage = ({ data }) => {
      if (data === 'exit') process.exit(7);
      setImmediate(() => { throw new Error('a bug'); });
    };
    channel.unref();
    require(${JSON.stringify(bundle)});`,
  );
  const crashing = new BroadcastChannel(channel);
  return {
    workerPath,
    folder,
    crash: (how) => crashing.postMessage(how),
    remove: async () => {
      crashing.close();
      await rm(folder, { recursive: true });
    },
  };
}
