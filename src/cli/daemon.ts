import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, writeSync } from 'node:fs';
import type { Readable } from 'node:stream';

import type { Context } from './commandLine';

/** Set for a server in the background: the descriptor on which it says that it serves. */
const READY_FD = 'CHAINSCOPE_READY_FD';

/**
 * Starts the same command in the background, and waits until it serves: what it has to say before that is said here. (`--fork`)
 * @returns the exit code
 */
export async function forkServer(args: readonly string[], { err }: Context): Promise<number> {
  const inBackground = args.filter((argument) => argument !== '--fork');
  const script = process.argv[1] ?? '';
  const child = spawn(process.execPath, [...process.execArgv, script, 'nbd', ...inBackground], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, [READY_FD]: '3' },
  });
  child.stderr?.on('data', (chunk: Buffer) => err.writeBytes(chunk));
  const ready = child.stdio[3] as Readable;
  const serves = await Promise.race([once(ready, 'data').then(() => true), once(child, 'close').then(() => false)]);
  if (!serves) {
    return child.exitCode ?? 1;
  }
  ready.destroy();
  child.stderr?.destroy();
  child.unref();
  return 0;
}

/** Tells who started this server in the background, if somebody did, that it serves. */
export function announceReady(): void {
  const fd = Number(process.env[READY_FD]);
  if (Number.isInteger(fd) && fd > 2) {
    writeSync(fd, 'ready');
    closeSync(fd);
  }
}
