import type { Awaitable } from '../../../src/engine/awaitable';
import { EngineError } from '../../../src/engine/errors';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import type { Recorded } from '../../harness/storage/recordingStorage';
import { turns } from '../../harness/storage/slowStorage';
import type { Random } from '../../interop/random';

/**
 * A file in memory that is recorded, and can be made slow and made to fail at any time. What is recorded is what took effect, in the order
 * in which it did; zeroing is a write of zeroes.
 */
export class TestStorage extends MemoryStorage {
  readonly log: Recorded[] = [];
  /** Makes changes and flushes take a random number of turns of the event loop, so that they overtake one another. */
  slow: Random | null = null;
  /** Number of changing operations (flushes among them) so far, and which of them fails. */
  operations = 0;
  failAt = -1;
  failWith: 'file.io' | 'file.full' = 'file.io';

  constructor(content?: Uint8Array) {
    super(content, 'test.qed');
  }

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    return this.change(
      () => this.put(bytes.slice(), hostOffset),
      // A write that fails may have had a part of its effect.
      () => this.put(bytes.slice(0, Math.floor(bytes.length / 2)), hostOffset),
    );
  }

  override writeZeroes(hostOffset: number, length: number): Awaitable<void> {
    return this.write(new Uint8Array(length), hostOffset);
  }

  override discard(hostOffset: number, length: number): Awaitable<void> {
    return this.write(new Uint8Array(Math.max(0, Math.min(length, this.size - hostOffset))), hostOffset);
  }

  override truncate(size: number): Awaitable<void> {
    return this.change(() => {
      this.log.push({ kind: 'truncate', size });
      void super.truncate(size);
    });
  }

  override async flush(): Promise<void> {
    // Only what was there before the call is certain.
    const accepted = this.log.length;
    await this.change(() => undefined);
    this.log.push({ kind: 'flush', accepted });
  }

  private put(bytes: Uint8Array, hostOffset: number): void {
    this.log.push({ kind: 'write', hostOffset, bytes });
    void super.write(bytes, hostOffset);
  }

  private change(effect: () => void, partial: () => void = () => undefined): Awaitable<void> {
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
}
