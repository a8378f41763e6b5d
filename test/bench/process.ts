import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

/** What one run of a program cost. */
export interface RunCost {
  /** Wall time in milliseconds, process start included. */
  readonly ms: number;
  /** Peak resident memory in MiB; NaN when the system does not tell. */
  readonly peakMiB: number;
  readonly exitCode: number;
}

/** Runs a program with its output thrown away. */
export function run(command: string, args: readonly string[]): Promise<RunCost> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'ignore'] });
    child.on('error', reject);
    child.on('exit', (exitCode) => resolve({ ms: performance.now() - start, peakMiB: NaN, exitCode: exitCode ?? -1 }));
  });
}

/** Runs a program and watches its memory. */
export function runForMemory(command: string, args: readonly string[]): Promise<RunCost> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'ignore'] });
    let peakMiB = 0;
    // VmHWM only grows, so the last value seen before the end misses at most the last moments' growth.
    const timer = setInterval(() => {
      peakMiB = Math.max(peakMiB, residentPeak(child.pid));
    }, 2);
    child.on('error', reject);
    child.on('exit', (exitCode) => {
      clearInterval(timer);
      resolve({ ms: performance.now() - start, peakMiB, exitCode: exitCode ?? -1 });
    });
  });
}

/** The most memory that a process has had so far, in MiB. */
export function residentPeak(pid: number | undefined): number {
  try {
    const status = fs.readFileSync(`/proc/${pid ?? 'none'}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    // The process has ended between the tick and the read (just before, its status has no such line); the last value stands.
    return 0;
  }
}

/** The bundled command line, as a user runs it. */
export const CLI = path.resolve('dist', 'cli.js');

/** Wall time in milliseconds of a command that must end well: what fails is no measurement. */
export async function timed(command: string, args: readonly string[]): Promise<number> {
  const { ms, exitCode } = await run(command, args);
  if (exitCode !== 0) {
    throw new Error(`${command} ${args.join(' ')} ended with ${exitCode}`);
  }
  return ms;
}
