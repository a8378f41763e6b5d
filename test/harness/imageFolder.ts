import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** A folder with images made by the real tools. */
export class ImageFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  of(name: string): string {
    return join(this.path, name);
  }

  /** `qemu-img create`, with 64 MiB unless it is an overlay. */
  create(name: string, options: { format?: string; backing?: string; backingFormat?: string; opts?: string; size?: string } = {}): string {
    const { format = 'qcow2', backing, backingFormat = 'qcow2', opts, size = backing === undefined ? '64M' : undefined } = options;
    this.qemuImg(
      'create',
      '-q',
      ...['-f', format],
      ...(backing === undefined ? [] : ['-b', backing, '-F', backingFormat, '-u']),
      ...(opts === undefined ? [] : ['-o', opts]),
      // Absolute, so that a colon in a name begins no protocol.
      this.of(name),
      // An overlay whose backing file is not looked at needs to be told its size.
      size ?? '64M',
    );
    return this.of(name);
  }

  /** Runs qemu-img in the folder. @returns what it prints */
  qemuImg(...args: string[]): string {
    for (let tries = 0; ; tries++) {
      try {
        return execFileSync('qemu-img', args, { cwd: this.path, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
      } catch (error) {
        // On a machine whose clock of CPU time is coarse, it sometimes fails to measure how fast it hashes a passphrase.
        if (tries >= 30 || !String(error).includes('Unable to get accurate CPU usage')) {
          throw error;
        }
      }
    }
  }

  /** Runs commands of qemu-io on an image. */
  qemuIo(name: string, ...commands: string[]): void {
    execFileSync('qemu-io', [...commands.flatMap((command) => ['-c', command]), '-f', 'qcow2', name], {
      cwd: this.path,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Opens an image in a qemu-io of its own, which holds QEMU's locks on it until it is stopped. */
  async hold(name: string): Promise<{ readonly pid: number; stop(): Promise<void> }> {
    const holder = spawn('qemu-io', ['-f', 'qcow2', name], { cwd: this.path, stdio: ['pipe', 'pipe', 'inherit'] });
    // Its prompt comes when the image is open.
    await once(holder.stdout, 'data');
    return {
      pid: holder.pid ?? 0,
      stop: async () => {
        const ended = once(holder, 'exit');
        holder.stdin.end('quit\n');
        await ended;
      },
    };
  }

  /** Overwrites bytes, as damage would. */
  patch(name: string, hostOffset: number, bytes: readonly number[]): void {
    const file = openSync(this.of(name), 'r+');
    try {
      writeSync(file, Uint8Array.from(bytes), 0, bytes.length, hostOffset);
    } finally {
      closeSync(file);
    }
  }
}
