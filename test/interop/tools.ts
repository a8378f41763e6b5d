import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { spawnKept } from './processes';

/** How a program ended and what it printed. */
export interface Outcome {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Ends a program that hangs, before the test's own limit does; a slow machine does not get there. */
const TIMEOUT_MS = 300_000;

/** Runs a program to its end, whatever its exit code. */
export function runTool(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((fulfil, reject) => {
    const child = spawnKept(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      fulfil({ code, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
  });
}

/** Each time the key derivation of LUKS may find, on a busy machine or one with a coarse clock, no time to measure itself by. */
const MEASUREMENTS = 50;

export async function qemuImg(args: readonly string[], options?: RunOptions): Promise<Outcome> {
  for (let measurement = 1; ; measurement++) {
    const outcome = await runTool('qemu-img', args, options);
    if (measurement === MEASUREMENTS || !outcome.stderr.includes('Unable to get accurate CPU usage')) {
      return outcome;
    }
  }
}

/** Runs qemu-img for its effect. Throws when it fails. */
export async function makeWithQemuImg(args: readonly string[], options?: RunOptions): Promise<void> {
  const { code, stderr } = await qemuImg(args, options);
  if (code !== 0) {
    throw new Error(`qemu-img ${args.join(' ')}: ${stderr}`);
  }
}

/** Runs qemu-io commands on an image for their effect. Throws when it fails. */
export async function writeWithQemuIo(image: readonly string[], commands: readonly string[], options?: RunOptions): Promise<void> {
  const { code, stdout, stderr } = await runTool('qemu-io', [...image, ...commands.flatMap((command) => ['-c', command])], options);
  if (code !== 0) {
    throw new Error(`qemu-io ${image.join(' ')} ${commands.join('; ')}: ${stdout}${stderr}`);
  }
}

/** A qemu-io that has the image open until it is ended. */
export async function qemuHolding(image: string, options: readonly string[] = []): Promise<{ end(): Promise<void> }> {
  const child = spawnKept('qemu-io', [...options, '-f', 'qcow2', image], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  child.stdin.write('length\n');
  await once(child.stdout, 'data');
  return {
    async end() {
      child.stdin.end('quit\n');
      await ended;
    },
  };
}

/** The bundled command line, as it is shipped. */
export const CLI = resolve(import.meta.dirname, '../../dist/cli.js');

/** Runs our command line under the name qemu-img, so that messages can be compared too. */
export function chainscope(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  if (!existsSync(CLI)) {
    throw new Error(`${CLI} is not there: npm run build makes it.`);
  }
  return runTool(process.execPath, [CLI, ...args], { ...options, env: { CHAINSCOPE_ARGV0: 'qemu-img', ...options.env } });
}

/** Both programs with the same arguments, one after the other. */
export async function sideBySide(
  args: readonly string[],
  options?: RunOptions,
): Promise<{ readonly theirs: Outcome; readonly ours: Outcome }> {
  return { theirs: await qemuImg(args, options), ours: await chainscope(args, options) };
}

/** A new empty folder; the caller removes it with `dispose`. */
export async function temporaryFolder(name: string): Promise<{ readonly path: string; dispose(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), `chainscope-${name}-`));
  return { path, dispose: () => rm(path, { recursive: true, force: true }) };
}
