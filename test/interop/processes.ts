import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

const running = new Set<ChildProcess>();

/** As `spawn`: the process does not outlive the file of tests that starts it, also where a test fails before it has ended it. */
export const spawnKept: typeof spawn = ((...args: Parameters<typeof spawn>) => {
  const child = spawn(...args);
  running.add(child);
  child.once('exit', () => running.delete(child)).once('error', () => running.delete(child));
  return child;
}) as typeof spawn;

/** Tells a process to end, unless it has, and waits until it has. */
export async function endProcess(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}

/** Ends those that are left. */
export async function endKept(): Promise<void> {
  await Promise.all([...running].map((child) => endProcess(child, 'SIGKILL')));
}
