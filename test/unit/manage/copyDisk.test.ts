import { describe, expect, it } from 'vitest';

import type { BlockNode } from '../../../src/engine/block/blockNode';
import { EngineError } from '../../../src/engine/errors';
import { copyDisk, type CopyDiskOptions } from '../../../src/engine/manage/copy/copyDisk';
import type { CopySource } from '../../../src/engine/manage/copy/copySource';

const CHUNK = 512 * 1024;
const OPTIONS: CopyDiskOptions = {
  sparseBytes: 4096,
  compressed: false,
  wholeClusters: false,
  targetIsZero: true,
  targetBackingSize: null,
  speed: 0,
  coroutines: 8,
  outOfOrder: false,
  onUnreadable: null,
};

/** A source whose chunks come when the test says so, and a target that notes the order in which it gets them. */
class SlowCopy {
  readonly asked: number[] = [];
  readonly written: number[] = [];
  readonly ended: Promise<void>;
  private readonly arrivals = new Map<number, { come: () => void; fail: (error: Error) => void }>();

  constructor(chunks: number, options: Partial<CopyDiskOptions>) {
    const source = {
      size: chunks * CHUNK,
      extent: (_offset: number, length: number) => ({ kind: 'data', length, compressed: false }),
      read: (offset: number, target: Uint8Array) => {
        target.fill(1 + offset / CHUNK);
        this.asked.push(offset / CHUNK);
        return new Promise<void>((come, fail) => this.arrivals.set(offset / CHUNK, { come, fail }));
      },
    } as unknown as CopySource;
    const target = {
      clusterSize: null,
      write: (offset: number, bytes: Uint8Array) => {
        expect(bytes[0]).toBe(1 + offset / CHUNK);
        this.written.push(offset / CHUNK);
      },
    } as unknown as BlockNode;
    this.ended = copyDisk(source, target, { ...OPTIONS, ...options });
  }

  /** Lets chunks come, one after the other, and everything that follows from that happen. */
  async come(...chunks: readonly number[]): Promise<void> {
    for (const chunk of chunks) {
      this.arrivals.get(chunk)?.come();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Lets a chunk that was asked for fail to come, and everything that follows from that happen. */
  async fail(chunk: number, error: Error): Promise<void> {
    this.arrivals.get(chunk)?.fail(error);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a disk that comes slowly', () => {
  it('is asked for so many chunks at the same time as is said', async () => {
    const copy = new SlowCopy(6, { coroutines: 3 });
    await copy.come();
    expect(copy.asked).toEqual([0, 1, 2]);
    await copy.come(0);
    expect(copy.asked).toEqual([0, 1, 2, 3]);
    await copy.come(1, 2, 3, 4, 5);
    await copy.ended;
    expect(copy.written).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('is written in its order', async () => {
    const copy = new SlowCopy(4, { coroutines: 2 });
    await copy.come(1, 0, 3, 2);
    await copy.ended;
    expect(copy.written).toEqual([0, 1, 2, 3]);
  });

  it('is written as it comes, where that is allowed', async () => {
    const copy = new SlowCopy(4, { coroutines: 3, outOfOrder: true });
    await copy.come(2, 1, 3, 0);
    await copy.ended;
    expect(copy.written).toEqual([2, 1, 3, 0]);
  });

  it('is not saved any more, and tells of nothing, once the copy has failed', async () => {
    const unreadable: number[] = [];
    const copy = new SlowCopy(4, { coroutines: 2, onUnreadable: (offset) => void unreadable.push(offset) });
    await copy.come();
    expect(copy.asked).toEqual([0, 1]);
    const failed = expect(copy.ended).rejects.toThrow('a fault of ours');
    await copy.fail(0, new TypeError('a fault of ours'));
    await failed;
    await copy.fail(1, new EngineError('network.failed', 'gone'));
    expect({ asked: copy.asked, unreadable }).toEqual({ asked: [0, 1], unreadable: [] });
  });
});
