import type { ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import type { ImageFormat } from '../../src/protocol/chain';
import type { JobOutcome, JobRequest, JobSettings, JobVerb } from '../../src/protocol/jobs';
import { endProcess, spawnKept } from './processes';

/** What a job that runs may be told. */
export type ToldVerb = Exclude<JobVerb, 'set-speed'>;

/** The process's argument, as JSON. */
export interface EngineProcessOptions {
  readonly path: string;
  readonly format: ImageFormat;
  readonly socket: string;
  readonly request: JobRequest;
  readonly settings: Partial<JobSettings>;
}

/** An engine in a process of its own, told what to do line by line. */
export class EngineProcess {
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly lines: AsyncIterator<string, undefined>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.child = child;
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @param program the bundled engineProcess.ts */
  static async start(program: string, options: EngineProcessOptions): Promise<EngineProcess> {
    const engine = new EngineProcess(
      spawnKept(process.execPath, [program, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    await engine.until((line) => line === 'listening');
    return engine;
  }

  async startJob(): Promise<void> {
    this.child.stdin.write('start\n');
    await this.until((line) => line === 'started');
  }

  tell(verb: ToldVerb): void {
    this.child.stdin.write(`${verb}\n`);
  }

  /** Pauses the job when it has done so many bytes: the process sees to that itself, since this one may stand still meanwhile. */
  async pauseAt(bytes: number): Promise<void> {
    this.child.stdin.write(`pause at ${bytes}\n`);
    await this.untilJob('paused');
  }

  /** Lets a paused job go on, and the process kill itself when that has done so many bytes. */
  async dieAt(bytes: number): Promise<void> {
    this.child.stdin.write(`die at ${bytes}\n`);
    await this.untilJob('dying');
    await endProcess(this.child, 'SIGKILL');
  }

  private async untilJob(state: string): Promise<void> {
    const ends: readonly string[] = ['completed', 'cancelled', 'failed'] satisfies JobOutcome[];
    const line = await this.until((said) => said === state || ends.includes(said));
    if (line !== state) {
      throw new Error(`The job has ${line} before it was ${state}.`);
    }
  }

  /** Reads what the process says. @returns the line that was waited for @throws when it ends before */
  async until(wanted: (line: string) => boolean): Promise<string> {
    for (;;) {
      const line = await this.lines.next();
      if (line.done === true) {
        throw new Error('The engine process has ended.');
      }
      if (wanted(line.value)) {
        return line.value;
      }
    }
  }

  async kill(): Promise<void> {
    await endProcess(this.child, 'SIGKILL');
  }
}
