import { after, isPromise, type Awaitable } from '../awaitable';
import { statusAbove } from '../block/above';
import type { BlockNode } from '../block/blockNode';
import { ALLOCATION, CONTEXT } from '../nbd/protocol';

/** What a bitmap says of a stretch of the disk. */
export interface BitmapView {
  readonly name: string;
  status(offset: number, length: number): Awaitable<{ readonly dirty: boolean; readonly length: number }>;
}

/** A disk that is offered to NBD clients. */
export interface NbdExport {
  /** Empty for the default export. */
  readonly name: string;
  readonly description: string;
  readonly node: BlockNode;
  readonly readOnly: boolean;
  /** Whether the depth of allocation may be asked for (`qemu:allocation-depth`). */
  readonly allocationDepth: boolean;
  readonly bitmaps: readonly BitmapView[];
  /** Clients may open several connections to it at a time; true when left out. */
  readonly multiConn?: boolean | undefined;
  /** What clients are told to keep to, in bytes, and what the answers about allocation keep to; 1 when left out. */
  readonly leastBlock?: number | undefined;
  /** Whether what clients give up is given back to the file system, or kept; `unmap` when left out. */
  readonly discard?: 'unmap' | 'ignore' | undefined;
  /** Whether what clients write is on the disk when it is answered, without their asking for it; false when left out. */
  readonly writethrough?: boolean | undefined;
  /** Whether zeroes that clients write become zeroes that take no room: `on` keeps allocated what is; `off` when left out. */
  readonly detectZeroes?: DetectZeroes | undefined;
}

/** QEMU's `detect-zeroes`. */
export type DetectZeroes = 'off' | 'on' | 'unmap';

/** A metadata context that a client has chosen: what it says of a stretch, as the protocol's status word. */
export interface MetaContext {
  readonly name: string;
  /** At least one byte, at most `length`. */
  status(offset: number, length: number): Awaitable<{ readonly flags: number; readonly length: number }>;
}

/** The contexts that an export has. */
export function contextsOf(offered: NbdExport): readonly MetaContext[] {
  const { node, allocationDepth, bitmaps, leastBlock = 1 } = offered;
  return [
    { name: CONTEXT.allocation, status: (offset, length) => allocationStatus(node, offset, length, leastBlock) },
    ...(allocationDepth
      ? [{ name: CONTEXT.allocationDepth, status: (offset: number, length: number) => depthStatus(node, offset, length) }]
      : []),
    ...bitmaps.map((bitmap) => ({
      name: `${CONTEXT.dirtyBitmapPrefix}${bitmap.name}`,
      status: (offset: number, length: number) =>
        after(bitmap.status(offset, length), (found) => ({ flags: found.dirty ? 1 : 0, length: found.length })),
    })),
  ];
}

/** What is no data is a hole that reads as zero, whichever node says so; what changes inside of a block is data. */
function allocationStatus(node: BlockNode, offset: number, length: number, block: number): Awaitable<{ flags: number; length: number }> {
  return after(statusAbove(node, null, offset, length), (found) => {
    const whole = found.length === length ? length : found.length - (found.length % block);
    return {
      flags: found.class === 'data' || whole === 0 ? 0 : ALLOCATION.hole | ALLOCATION.zero,
      length: whole === 0 ? Math.min(block, length) : whole,
    };
  });
}

/** 0 where no image of the chain has allocated it, 1 for the active layer, 2 for its backing file, and so on. */
async function depthStatus(node: BlockNode, offset: number, length: number): Promise<{ flags: number; length: number }> {
  const status = statusAbove(node, null, offset, length);
  const found = isPromise(status) ? await status : status;
  let depth = 1;
  for (let current: BlockNode | null = node; current !== null && found.node !== null; current = current.backing) {
    if (current === found.node) {
      return { flags: depth, length: found.length };
    }
    depth++;
  }
  return { flags: 0, length: found.length };
}
