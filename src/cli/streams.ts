import * as fs from 'node:fs';

import { errnoOf } from '../engine/errors';

/**
 * Standard output and standard error, written synchronously: nothing is lost when the process ends, nothing piles up in memory, and
 * Node's stream classes, which cost more to load than most commands need, stay unloaded.
 */
export class OutputStream {
  private readonly fd: number;
  private readonly terminal: boolean;
  private open = true;

  constructor(fd: number) {
    this.fd = fd;
    this.terminal = isTerminal(fd);
  }

  /** False once the reader has gone away (`chainscope map x | head -1`): what is written from then on is dropped. */
  get wanted(): boolean {
    return this.open;
  }

  /** Writes text; on a terminal without the control characters that a name from an image may hold. */
  write(text: string): void {
    this.writeBytes(Buffer.from(this.terminal ? visible(text) : text));
  }

  /** Writes what is known to be harmless, as it is. */
  writeBytes(bytes: Uint8Array): void {
    let done = 0;
    while (this.open && done < bytes.length) {
      try {
        done += fs.writeSync(this.fd, bytes, done);
      } catch (error) {
        this.failed(error);
      }
    }
  }

  private failed(error: unknown): void {
    switch (errnoOf(error)) {
      case 'EAGAIN':
        // Another process made the shared pipe or terminal non-blocking; there is no synchronous poll, so give the reader a moment.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        break;
      case 'EPIPE':
      case 'EBADF':
        // As in qemu-img, a reader that has seen enough (or a closed descriptor) changes neither the work nor the exit code.
        this.open = false;
        break;
      default:
        throw error;
    }
  }
}

/** Control characters in their visible form; line ends, tabs and the carriage return of a progress line stay. */
export function visible(text: string): string {
  return text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** `tty.isatty` would load Node's network code; a character device is near enough, /dev/null does not mind. */
function isTerminal(fd: number): boolean {
  try {
    return fs.fstatSync(fd).isCharacterDevice();
  } catch {
    // The descriptor was closed by the caller; the first write finds out.
    return false;
  }
}
