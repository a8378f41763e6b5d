import { EngineError } from '../../../src/engine/errors';
import type { Storage } from '../../../src/engine/io/storage';
import type { Random } from '../../interop/random';

/** What reached the disk's cache, in order; `flush` says that everything before it is on the disk. */
export type Recorded =
  | { readonly kind: 'write'; readonly hostOffset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'flush' };

/** A file in memory that can be written, recorded, made slow, and made to fail. */
export class TestStorage implements Storage {
  readonly name = 'test.qed';
  readonly writable = true;
  readonly log: Recorded[] = [];
  /** Makes changes and flushes take a random number of turns of the event loop, so that they overtake one another. */
  slow: Random | null = null;
  /** Number of changing operations (flushes among them) so far, and which of them fails. */
  operations = 0;
  failAt = -1;
  failWith: 'file.io' | 'file.full' = 'file.io';
  closed = false;
  private content: Uint8Array;
  private length: number;

  constructor(content: Uint8Array = new Uint8Array(0)) {
    this.content = content.slice();
    this.length = content.length;
  }

  get size(): number {
    return this.length;
  }

  get allocatedBytes(): number {
    return this.length;
  }

  /** The file as it is. */
  get bytes(): Uint8Array {
    return this.content.slice(0, this.length);
  }

  read(target: Uint8Array, hostOffset: number): number {
    const part = this.content.subarray(Math.min(hostOffset, this.length), Math.min(hostOffset + target.length, this.length));
    target.set(part);
    return part.length;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return { length: this.length - hostOffset, data: true };
  }

  write(bytes: Uint8Array, hostOffset: number): void | Promise<void> {
    return this.change(
      () => this.put({ kind: 'write', hostOffset, bytes: bytes.slice() }),
      // A write that fails may have had a part of its effect.
      () => this.put({ kind: 'write', hostOffset, bytes: bytes.slice(0, Math.floor(bytes.length / 2)) }),
    );
  }

  writeZeroes(hostOffset: number, length: number): void | Promise<void> {
    return this.write(new Uint8Array(length), hostOffset);
  }

  discard(hostOffset: number, length: number): void | Promise<void> {
    return this.write(new Uint8Array(Math.max(0, Math.min(length, this.length - hostOffset))), hostOffset);
  }

  truncate(size: number): void | Promise<void> {
    return this.change(() => this.put({ kind: 'truncate', size }));
  }

  async flush(): Promise<void> {
    const reached = this.log.length;
    await this.change(() => undefined);
    if (this.slow) {
      // Only what was there before the call is certain.
      this.log.splice(reached, 0, { kind: 'flush' });
    } else {
      this.log.push({ kind: 'flush' });
    }
  }

  close(): void {
    this.closed = true;
  }

  private change(effect: () => void, partial: () => void = () => undefined): void | Promise<void> {
    const fails = this.operations++ === this.failAt;
    const act = () => {
      if (fails) {
        partial();
        throw new EngineError(this.failWith, 'The disk fails.', { file: this.name });
      }
      effect();
    };
    if (this.slow) {
      return turns(this.slow.below(4)).then(act);
    }
    act();
  }

  private put(operation: Recorded): void {
    this.log.push(operation);
    this.apply(operation);
  }

  private apply(operation: Recorded): void {
    if (operation.kind === 'truncate') {
      this.content.fill(0, Math.min(this.length, operation.size), this.length);
      this.grow(operation.size);
      this.length = operation.size;
    } else if (operation.kind === 'write') {
      const end = operation.hostOffset + operation.bytes.length;
      this.grow(end);
      this.content.set(operation.bytes, operation.hostOffset);
      this.length = Math.max(this.length, end);
    }
  }

  private grow(size: number): void {
    if (size > this.content.length) {
      const larger = new Uint8Array(Math.max(size, this.content.length * 2));
      larger.set(this.content.subarray(0, this.length));
      this.content = larger;
    }
  }

  /**
   * The file as a crash may have left it after the first `count` operations of `log`: everything before the last flush, and of the rest
   * what `keep` says, sector by sector.
   */
  static crashed(start: Uint8Array, log: readonly Recorded[], count: number, keep: (operation: number) => boolean): Uint8Array {
    const file = new TestStorage(start);
    const done = log.slice(0, count);
    const durable = done.map(({ kind }) => kind).lastIndexOf('flush');
    done.forEach((operation, index) => {
      if (index < durable) {
        file.apply(operation);
      } else if (operation.kind === 'write') {
        for (let at = 0; at < operation.bytes.length;) {
          const length = Math.min(operation.bytes.length - at, 512 - ((operation.hostOffset + at) % 512));
          if (keep(index)) {
            file.apply({ kind: 'write', hostOffset: operation.hostOffset + at, bytes: operation.bytes.subarray(at, at + length) });
          }
          at += length;
        }
      } else if (operation.kind === 'truncate' && keep(index)) {
        file.apply(operation);
      }
    });
    return file.bytes;
  }
}

/** Lets the event loop turn that many times. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
