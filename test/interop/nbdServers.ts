import { once } from 'node:events';
import { readFileSync, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { spawnKept } from './processes';
import { CLI } from './tools';

/** A server in the background that listens. */
export interface RunningServer {
  readonly uri: string;
  readonly socket: string;
  /** Ends it, unless it has ended. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** When it has ended: its exit code, null where a signal ended it, and what it had to say. */
  readonly ending: Promise<{ readonly code: number | null; readonly stderr: string }>;
}

let count = 0;

/** nbdkit on a Unix socket: a plugin with its parameters and filters, as on its command line. */
export function nbdkit(folder: string, args: readonly string[], socket = join(folder, `kit${count++}`)): Promise<RunningServer> {
  return start('nbdkit', (pidFile) => ['-f', '-P', pidFile, '-U', socket, ...args], socket);
}

/** qemu-nbd on a Unix socket, until it is stopped. */
export function qemuNbd(folder: string, args: readonly string[], socket = join(folder, `qemu${count++}`)): Promise<RunningServer> {
  return start('qemu-nbd', (pidFile) => [`--pid-file=${pidFile}`, '-t', '-e', '0', '-k', socket, ...args], socket);
}

/** Our server on a Unix socket, until it is stopped. */
export function chainscopeNbd(folder: string, args: readonly string[], socket = join(folder, `ours${count++}`)): Promise<RunningServer> {
  return start(process.execPath, (pidFile) => [CLI, 'nbd', `--pid-file=${pidFile}`, '-t', '-e', '0', '-k', socket, ...args], socket);
}

async function start(program: string, args: (pidFile: string) => readonly string[], socket: string): Promise<RunningServer> {
  const pidFile = `${socket}.pid${count++}`;
  const listening = written(pidFile);
  const child = spawnKept(program, args(pidFile), { stdio: ['ignore', 'ignore', 'pipe'] });
  const stderr: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // With all that it has printed.
  const ending = once(child, 'close').then(([code]) => ({ code: code as number | null, stderr: Buffer.concat(stderr).toString() }));
  const failed = ending.then((ended) => {
    throw new Error(`${program} ${args(pidFile).join(' ')}: ${ended.stderr}`);
  });
  // It also ends when it is stopped.
  failed.catch(() => undefined);
  try {
    await Promise.race([listening.done, failed]);
  } finally {
    listening.stop();
  }
  return {
    socket,
    uri: `nbd+unix:///?socket=${socket}`,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      await ending;
    },
    ending,
  };
}

/** Ends when a file has a whole line: both servers write their process's number when they listen. */
function written(file: string): { readonly done: Promise<void>; stop(): void } {
  const watcher = watch(dirname(file));
  const done = new Promise<void>((resolve) => {
    watcher.on('change', (_event, name) => {
      if (name === basename(file) && readFileSync(file, 'utf8').endsWith('\n')) {
        resolve();
      }
    });
  });
  return { done, stop: () => watcher.close() };
}
