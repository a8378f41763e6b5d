import { expect } from 'vitest';

import type { BlockNode, NodeStatus } from '../../../src/engine/block/blockNode';
import { QedNode, type QedNodeOptions } from '../../../src/engine/formats/qed/qedNode';
import type { Random } from '../../interop/random';
import { turns } from '../../harness/storage/slowStorage';
import type { TestStorage } from './testStorage';

/** Opens a node for writing whose idle timer never fires by itself. */
export function openQed(storage: TestStorage, options: Partial<QedNodeOptions> = {}): Promise<QedNode> {
  return QedNode.open(storage, {
    nodeName: 'node',
    filename: 'test.qed',
    backing: null,
    readOnly: false,
    idleTimer: () => () => undefined,
    ...options,
  });
}

/** A backing node with bytes of its own, at once or after some turns of the event loop. */
export class BytesNode implements BlockNode {
  readonly nodeName = 'base';
  readonly driver = 'raw';
  readonly filename = 'base';
  readonly readOnly = true;
  readonly clusterSize = null;
  readonly backing = null;
  private readonly bytes: Uint8Array;
  private readonly slow: Random | null;

  constructor(bytes: Uint8Array, slow: Random | null = null) {
    this.bytes = bytes;
    this.slow = slow;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(guestOffset: number, target: Uint8Array): void | Promise<void> {
    if (guestOffset + target.length > this.size) {
      throw new RangeError('past the end of the backing node');
    }
    const fill = (): void => {
      target.set(this.bytes.subarray(guestOffset, guestOffset + target.length));
    };
    if (this.slow) {
      return turns(this.slow.below(4)).then(fill);
    }
    fill();
  }

  blockStatus(_: number, length: number): NodeStatus {
    return { class: 'data', length, hostOffset: null };
  }

  write(): never {
    throw new RangeError('the backing node was written');
  }

  writeZeroes(): never {
    throw new RangeError('the backing node was written');
  }

  discard(): never {
    throw new RangeError('the backing node was written');
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  resize(): Promise<void> {
    return Promise.reject(new RangeError('the backing node was resized'));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** All of a node's guest bytes. */
export async function readAll(node: BlockNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.size).fill(0xee);
  await node.read(0, bytes);
  return bytes;
}

export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let x = (seed + 1) * 2654435761;
  for (let i = 0; i < length; i++) {
    x = Math.imul(x ^ (x >>> 13), 0x5bd1e995);
    bytes[i] = (x >>> 24) | 1;
  }
  return bytes;
}

/** Fails with the first byte that differs. */
export function expectSame(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  if (Buffer.compare(actual, expected) !== 0) {
    const at = actual.findIndex((byte, index) => byte !== expected[index]);
    expect({ at, byte: actual[at] }).toEqual({ at, byte: expected[at] });
  }
}
