import { after, isPromise, type Awaitable } from '../awaitable';
import type { BlockNode, DataAhead } from './blockNode';

/** What a chain, down to a node that does not count, says of a stretch of guest bytes. */
export interface StatusAbove {
  /** `unallocated`: in no node above the base. */
  readonly class: 'unallocated' | 'data' | 'zero';
  /** Bytes from the offset that was asked for, at least 1. */
  readonly length: number;
  /** The node that supplies the bytes, or whose end makes them zeroes; null when none above the base does. */
  readonly node: BlockNode | null;
}

/**
 * Which node of a chain, from `top` down to `base` (without it; null for the whole chain), supplies the bytes at `offset`. Past the end of
 * a backing file there are zeroes that hide whatever lies below it, so they count as its own.
 * @param length at least 1
 */
export function statusAbove(top: BlockNode | null, base: BlockNode | null, offset: number, length: number): Awaitable<StatusAbove> {
  let node = top;
  let rest = length;
  while (node !== null && node !== base) {
    if (offset >= node.size) {
      return { class: 'zero', length: rest, node };
    }
    const here: BlockNode = node;
    rest = Math.min(rest, here.size - offset);
    const status = here.blockStatus(offset, rest);
    if (isPromise(status)) {
      return after(status, (found) => below(found.class, Math.min(rest, found.length), here, base, offset));
    }
    if (status.class !== 'unallocated') {
      return { class: status.class === 'zero' ? 'zero' : 'data', length: Math.min(rest, status.length), node: here };
    }
    rest = Math.min(rest, status.length);
    node = here.backing;
  }
  return { class: 'unallocated', length: rest, node: null };
}

function below(
  found: 'unallocated' | 'data' | 'zero' | 'compressed',
  length: number,
  node: BlockNode,
  base: BlockNode | null,
  offset: number,
): Awaitable<StatusAbove> {
  if (found === 'unallocated') {
    return statusAbove(node.backing, base, offset, length);
  }
  return { class: found === 'zero' ? 'zero' : 'data', length, node };
}

/**
 * Whether a chain, from `top` down, knows the bytes at `offset` to be zeroes. Cheaper than `statusAbove` on a deep chain, and for readers
 * only: holes of a raw file below may count as data.
 * @param length at least 1
 */
export function dataAhead(top: BlockNode, offset: number, length: number): Awaitable<DataAhead> {
  if (top.dataAhead) {
    return top.dataAhead(offset, length);
  }
  return after(top.blockStatus(offset, length), (status): Awaitable<DataAhead> => {
    const rest = Math.min(length, status.length);
    const { backing } = top;
    if (status.class !== 'unallocated') {
      return { data: status.class !== 'zero', length: rest };
    }
    return backing !== null && offset < backing.size
      ? dataAhead(backing, offset, Math.min(rest, backing.size - offset))
      : { data: false, length: rest };
  });
}
