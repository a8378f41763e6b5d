import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { projectEnvironment, ROOT } from './paths.mjs';

/**
 * Everything started here and still running; stopped when this process ends, however it ends.
 *
 * @type {Set<import('node:child_process').ChildProcess>}
 */
const running = new Set();

/** Each child leads a process group of its own, so that its children go with it; Windows has no such groups. */
const GROUPS = process.platform !== 'win32';

/** How long a process may take to end by itself before it is killed, in milliseconds. */
const GRACE = 3000;

/**
 * Starts a process that is stopped with this one. It gets no input; its output is there to be read.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, shell?: boolean }} [options]
 */
export function start(command, args, { cwd = ROOT, env = projectEnvironment(), shell = false } = {}) {
  return track(spawn(command, args, { cwd, env, shell, stdio: ['ignore', 'pipe', 'pipe'], detached: GROUPS }));
}

/**
 * @template {import('node:child_process').ChildProcess} T
 * @param {T} child
 * @returns {T}
 */
function track(child) {
  stopWithThisProcess();
  running.add(child);
  // A group outlives its leader when one of its members does; it is forgotten only when it is gone.
  child.once('close', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/**
 * Stops a process and whatever it started.
 *
 * @param {import('node:child_process').ChildProcess} child
 */
export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
    signal(child, 'SIGKILL');
    return;
  }
  const ended = once(child, 'exit');
  signal(child, 'SIGTERM');
  const timer = setTimeout(() => signal(child, 'SIGKILL'), GRACE);
  await ended;
  clearTimeout(timer);
  signal(child, 'SIGKILL');
}

/**
 * Runs a command to its end.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {object} [options]
 * @param {string} [options.cwd]
 * @param {NodeJS.ProcessEnv} [options.env]
 * @param {boolean} [options.quiet] the output is only returned, not shown
 * @param {boolean} [options.shell]
 * @param {number} [options.timeout] milliseconds; then the command is stopped and counts as failed
 * @returns {Promise<{ code: number, output: string, timedOut: boolean }>} `code` is 127 where the command does not exist
 */
export async function run(command, args, { cwd = ROOT, env = projectEnvironment(), quiet = false, shell = false, timeout = 0 } = {}) {
  const child = start(command, args, { cwd, env, shell });
  let output = '';
  for (const [from, to] of /** @type {const} */ ([
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ])) {
    from.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
      output += text;
      if (!quiet) {
        to.write(text);
      }
    });
  }
  let timedOut = false;
  const timer =
    timeout > 0
      ? setTimeout(() => {
          timedOut = true;
          void stop(child);
        }, timeout)
      : undefined;
  try {
    const ended = /** @type {[number | null, NodeJS.Signals]} */ (await once(child, 'close'));
    const [code, signalName] = ended;
    return { code: code ?? 128 + constants.signals[signalName], output, timedOut };
  } catch (error) {
    return { code: 127, output: String(error), timedOut };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {NodeJS.Signals} name
 */
function signal(child, name) {
  if (child.pid === undefined) {
    return;
  }
  try {
    process.kill(GROUPS ? -child.pid : child.pid, name);
  } catch {
    // It is gone, and so is its group.
  }
}

let watching = false;

/** What this process ends with after Ctrl-C; 0 for one that runs until then. */
let interruptedCode = 128 + constants.signals.SIGINT;

/** For a process that a person ends with Ctrl-C: doing so is no failure. */
export function runsUntilInterrupted() {
  interruptedCode = 0;
  stopWithThisProcess();
}

function stopWithThisProcess() {
  if (watching) {
    return;
  }
  watching = true;
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(
      name,
      () => void stopAll().finally(() => process.exit(name === 'SIGINT' ? interruptedCode : 128 + constants.signals[name])),
    );
  }
  process.once('exit', () => running.forEach((child) => signal(child, 'SIGKILL')));
}

let stopping = false;

/** @returns {boolean} whether this process was told to end and is stopping what it started */
export function isStopping() {
  return stopping;
}

async function stopAll() {
  stopping = true;
  await Promise.all([...running].map((child) => stop(child)));
}
