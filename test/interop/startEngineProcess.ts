import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import type { ImageFormat } from '../../src/protocol/chain';
import type { JobRequest, JobSettings, JobVerb } from '../../src/protocol/jobs';

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
    const engine = new EngineProcess(spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] }));
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
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}
