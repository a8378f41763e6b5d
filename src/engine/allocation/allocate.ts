import { statusAbove } from '../block/above';
import type { BlockNode } from '../block/blockNode';
import type { TrackedNode } from '../block/trackedNode';
import { unsupportedRequest } from '../errors';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { Pace, type PaceOptions } from '../pace';

/** How what is empty gets its space: clusters that read as zero, with blocks reserved for them, or zeroes that are written out. */
export type AllocationMode = 'metadata' | 'zero';

/** What one step did. */
export interface Allocated {
  /** Bytes from the offset that was asked for that have their space now, at least 1. */
  readonly length: number;
  /** Bytes of them that were read, here or below, and written here. */
  readonly copied: number;
  /** Bytes of them that read as zero and got space. */
  readonly zeroed: number;
}

const CHUNK = 512 * 1024;

/**
 * Gives a range of an image space of its own, at most one chunk of it: what it has not is copied from below, what is empty becomes
 * allocated zeroes, and what shares or compresses its clusters gets its own. What the guest reads stays. To hold for good it needs a flush.
 * @param offset and `length` guest bytes inside the disk; `length` at least 1
 * @throws EngineError `file.full`: a part of the range has its space all the same; `request.unsupported` for a mode that the format has not
 */
export async function allocateStep(node: TrackedNode, mode: AllocationMode, offset: number, length: number): Promise<Allocated> {
  const { image } = node;
  if (mode === 'metadata' && !(image instanceof Qcow2Node) && image.driver !== 'raw') {
    throw unsupportedRequest(`Images in the format '${image.driver}' have no zeroes with space: allocate them zero-filled.`);
  }
  const cluster = image.clusterSize ?? 1;
  const start = Math.floor(offset / cluster) * cluster;
  const end = Math.min(node.size, Math.ceil((offset + Math.min(length, CHUNK)) / cluster) * cluster);
  const totals = { copied: 0, zeroed: 0 };
  // Like a copy from below: writes in flight end first, and later ones wait.
  await node.requests.run(start, end - start, true, () => allocateRange(node.image, mode, start, end, totals));
  return { length: Math.min(length, end - offset), ...totals };
}

/** The whole range, step by step, and flushed. @throws as `allocateStep`; `cancelled` */
export async function allocate(
  node: TrackedNode,
  mode: AllocationMode,
  offset: number,
  length: number,
  options: PaceOptions = {},
): Promise<{ readonly copied: number; readonly zeroed: number }> {
  const pace = new Pace(options);
  const totals = { copied: 0, zeroed: 0 };
  for (let done = 0; done < length;) {
    const step = await allocateStep(node, mode, offset + done, length - done);
    done += step.length;
    totals.copied += step.copied;
    totals.zeroed += step.zeroed;
    await pace.turn(done, length);
  }
  await node.flush();
  return totals;
}

async function allocateRange(
  image: BlockNode,
  mode: AllocationMode,
  start: number,
  end: number,
  totals: { copied: number; zeroed: number },
): Promise<void> {
  for (let at = start; at < end;) {
    const own = await image.blockStatus(at, end - at);
    let length = Math.min(own.length, end - at);
    switch (own.class) {
      case 'unallocated': {
        const above = await statusAbove(image.backing, null, at, length);
        // A whole cluster at a time: a part of one that is written brings the rest along from below.
        const cluster = image.clusterSize ?? 1;
        length = Math.min(length, Math.ceil((at + above.length) / cluster) * cluster - at);
        if (above.class === 'data' || length !== above.length) {
          totals.copied += length;
          await rewrite(image, at, length);
        } else {
          totals.zeroed += length;
          await zero(image, mode, at, length, image.backing !== null);
        }
        break;
      }
      case 'zero':
        totals.zeroed += length;
        await zero(image, mode, at, length, image.driver === 'raw');
        break;
      case 'data':
        // It may lie in a hole of the file, or share its blocks or its clusters.
        if ((await image.reserve?.(at, length)) !== true) {
          totals.copied += length;
          await rewrite(image, at, length);
        }
        break;
      case 'compressed':
        totals.copied += length;
        await rewrite(image, at, length);
    }
    at += length;
  }
}

async function rewrite(image: BlockNode, offset: number, length: number): Promise<void> {
  const bytes = new Uint8Array(length);
  await image.read(offset, bytes);
  await image.write(offset, bytes);
}

/** Gives space to what reads as zero. @param hide it does so only until the image says so itself, or a write could run out of space */
async function zero(image: BlockNode, mode: AllocationMode, offset: number, length: number, hide: boolean): Promise<void> {
  if (mode === 'zero' || !(image instanceof Qcow2Node || image.driver === 'raw')) {
    await image.write(offset, new Uint8Array(length));
    return;
  }
  const end = offset + length;
  const cluster = image.clusterSize ?? 1;
  // Subclusters of a cluster that holds data besides are written.
  const from = Math.min(end, Math.ceil(offset / cluster) * cluster);
  const to = end === image.size ? end : Math.max(from, Math.floor(end / cluster) * cluster);
  for (const [start, rest] of [
    [offset, from - offset],
    [to, end - to],
  ] as const) {
    if (rest > 0) {
      await image.write(start, new Uint8Array(rest));
    }
  }
  if (from === to) {
    return;
  }
  if (hide) {
    await image.writeZeroes(from, to - from);
  }
  if (image instanceof Qcow2Node) {
    await image.reserveZeroes(from, to - from);
  }
}
