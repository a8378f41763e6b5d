import type { Awaitable } from '../../../src/engine/awaitable';
import type { BlockNode, NodeStatus } from '../../../src/engine/block/blockNode';
import type { EngineError } from '../../../src/engine/errors';
import type { Random } from '../../interop/random';

export interface MemoryNodeOptions {
  readonly size: number;
  readonly clusterSize: number;
  readonly backing?: BlockNode | null;
  /** Makes every request end some turns of the event loop later, in any order. */
  readonly slow?: Random | null;
}

/** An image in memory with clusters that are allocated when they are first written; what it does can be watched and made to fail. */
export class MemoryNode implements BlockNode {
  readonly driver = 'raw';
  readonly filename = 'memory';
  readonly readOnly = false;
  readonly nodeName: string;
  readonly size: number;
  readonly clusterSize: number;
  readonly backing: BlockNode | null;
  readonly bytes: Uint8Array;
  readonly allocated: ('data' | 'zero' | null)[];
  /** Every read that came from outside, in order. */
  readonly reads: { readonly offset: number; readonly length: number }[] = [];
  failWrites: EngineError | null = null;
  private readonly slow: Random | null;

  constructor(nodeName: string, { size, clusterSize, backing = null, slow = null }: MemoryNodeOptions) {
    this.nodeName = nodeName;
    this.size = size;
    this.clusterSize = clusterSize;
    this.backing = backing;
    this.slow = slow;
    this.bytes = new Uint8Array(size);
    this.allocated = new Array<null>(Math.ceil(size / clusterSize)).fill(null);
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.reads.push({ offset: guestOffset, length: target.length });
    return this.later(() => this.readNow(guestOffset, target));
  }

  write(guestOffset: number, bytes: Uint8Array): Awaitable<void> {
    return this.later(() => this.put(guestOffset, bytes));
  }

  writeZeroes(guestOffset: number, length: number): Awaitable<void> {
    return this.later(() => this.put(guestOffset, new Uint8Array(length), 'zero'));
  }

  discard(): void {
    // A hint that this image does not take.
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    return this.later(() => {
      const { clusterSize } = this;
      const first = Math.floor(guestOffset / clusterSize);
      let end = first + 1;
      while (end * clusterSize < guestOffset + length && this.allocated[end] === this.allocated[first]) {
        end++;
      }
      const reached = Math.min(length, end * clusterSize - guestOffset, this.size - guestOffset);
      return { class: this.allocated[first] ?? 'unallocated', length: reached, hostOffset: null };
    });
  }

  resize(): Promise<void> {
    throw new RangeError('not for this');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private async readNow(guestOffset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length;) {
      const at = guestOffset + done;
      const part = target.subarray(done, done + Math.min(target.length - done, this.clusterSize - (at % this.clusterSize)));
      if (this.allocated[Math.floor(at / this.clusterSize)] !== null) {
        part.set(this.bytes.subarray(at, at + part.length));
      } else if (this.backing && at < this.backing.size) {
        const backed = part.subarray(0, Math.min(part.length, this.backing.size - at));
        part.fill(0, backed.length);
        await this.backing.read(at, backed);
      } else {
        part.fill(0);
      }
      done += part.length;
    }
  }

  /** As a driver does: clusters that are not allocated are filled from below first, which takes its time. */
  private async put(guestOffset: number, bytes: Uint8Array, kind: 'data' | 'zero' = 'data'): Promise<void> {
    if (this.failWrites) {
      throw this.failWrites;
    }
    const { clusterSize } = this;
    for (let cluster = Math.floor(guestOffset / clusterSize); cluster * clusterSize < guestOffset + bytes.length; cluster++) {
      const start = cluster * clusterSize;
      const end = Math.min(start + clusterSize, this.size);
      const whole = guestOffset <= start && guestOffset + bytes.length >= end;
      if (this.allocated[cluster] === null && !whole) {
        const below = new Uint8Array(end - start);
        await this.readNow(start, below);
        if (this.allocated[cluster] === null) {
          this.bytes.set(below, start);
        }
      }
      const from = Math.max(start, guestOffset);
      const to = Math.min(end, guestOffset + bytes.length);
      this.bytes.set(bytes.subarray(from - guestOffset, to - guestOffset), from);
      this.allocated[cluster] = whole ? kind : 'data';
    }
  }

  private later<T>(effect: () => Awaitable<T>): Awaitable<T> {
    return this.slow ? turns(this.slow.below(4)).then(effect) : effect();
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
