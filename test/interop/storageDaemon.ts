import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { spawnKept } from './processes';

interface QmpMessage {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** A qemu-storage-daemon with images as nodes, told what to do in QMP. */
export class StorageDaemon {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  private readonly events: QmpMessage[] = [];

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child;
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @param nodes arguments of `--blockdev` @param cwd the folder that relative names mean */
  static async start(nodes: readonly object[], cwd: string): Promise<StorageDaemon> {
    const blockdevs = nodes.flatMap((node) => ['--blockdev', JSON.stringify(node)]);
    const daemon = new StorageDaemon(
      spawnKept('qemu-storage-daemon', ['--chardev', 'stdio,id=monitor', '--monitor', 'chardev=monitor', ...blockdevs], {
        cwd,
        stdio: ['pipe', 'pipe', 'pipe'],
      }),
    );
    await daemon.next();
    await daemon.tell('qmp_capabilities');
    return daemon;
  }

  /** @throws what QEMU says is wrong */
  async tell(execute: string, args: object = {}): Promise<unknown> {
    this.child.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    for (;;) {
      const message = await this.next();
      if (message.error) {
        throw new Error(message.error.desc);
      }
      if ('return' in message) {
        return message.return;
      }
      this.events.push(message);
    }
  }

  async event(name: string): Promise<Readonly<Record<string, unknown>>> {
    for (;;) {
      const message = this.events.shift() ?? (await this.next());
      if (message.event === name) {
        return message.data ?? {};
      }
    }
  }

  /** Runs a job to its end. A job that becomes ready is completed. @throws when it fails */
  async runJob(command: string, args: object, isReady = false): Promise<void> {
    await this.tell(command, { ...args, 'job-id': 'job' });
    if (isReady) {
      await this.event('BLOCK_JOB_READY');
      await this.tell('block-job-complete', { device: 'job' });
    }
    const { error } = await this.event('BLOCK_JOB_COMPLETED');
    if (typeof error === 'string') {
      throw new Error(error);
    }
  }

  async quit(): Promise<void> {
    const ended = once(this.child, 'exit');
    await this.tell('quit');
    await ended;
  }

  private async next(): Promise<QmpMessage> {
    const line = await this.lines.next();
    if (line.done) {
      throw new Error(`qemu-storage-daemon ended: ${String(this.child.stderr.read())}`);
    }
    return JSON.parse(line.value) as QmpMessage;
  }
}

/** An image file as a node. */
export function imageNode(name: string, format: string, filename: string, more: object = {}): object {
  return { driver: format, 'node-name': name, file: { driver: 'file', filename }, ...more };
}
