import type { BlockNode, NodeStatus } from '../block/blockNode';
import type { TrackedNode } from '../block/trackedNode';
import { EngineError } from '../errors';
import { isZero } from '../isZero';

/** What one step did, or would do. */
export interface Trimmed {
  /** Bytes from the offset that was asked for that were looked at, at least 1. */
  readonly length: number;
  /** Bytes of them that had space of the image, and so had to be read. */
  readonly read: number;
  /** Bytes that read as zero and gave their space up. A cluster that a snapshot has too takes space until the snapshot is gone. */
  readonly zeroed: number;
  /** Bytes that read as zero but keep their space: the format has no other way to say so. */
  readonly kept: number;
}

/** Small enough for a guest's write that has to wait for it. */
const CHUNK = 512 * 1024;
/** Blocks of the file system that a raw image can give back, in bytes. */
const BLOCK = 4096;

/**
 * Finds clusters of an image that hold nothing but zeroes, and gives their space back: they become zero clusters, or holes of the file
 * where the format has none. What the guest reads stays, and so does what is empty without taking space. One step: at most one chunk is
 * read. To hold for good it needs a flush.
 * @param offset and `length` guest bytes inside the disk; `length` at least 1. Clusters that begin or end outside are looked at as a whole.
 * @throws EngineError of the image
 */
export async function trimStep(node: TrackedNode, offset: number, length: number, chunkBytes = CHUNK): Promise<Trimmed> {
  const found = await findZeroes(node, offset, length, chunkBytes);
  let zeroed = 0;
  let kept = 0;
  for (const { start, end } of found.zeroes) {
    // Somebody may have written there since: reading again, comparing and giving up are one request, for which others wait.
    const given = await node.requests.run(start, end - start, true, () => giveUp(node.image, start, end));
    zeroed += given.zeroed;
    kept += given.kept;
  }
  return { length: found.length, read: found.read, zeroed, kept };
}

/** The same without changing anything: `zeroed` is what would be, and perhaps kept. */
export async function trimPreview(node: BlockNode, offset: number, length: number): Promise<Omit<Trimmed, 'kept'>> {
  const { zeroes, ...found } = await findZeroes(node, offset, length, CHUNK);
  return { ...found, zeroed: zeroes.reduce((bytes, { start, end }) => bytes + end - start, 0) };
}

/** Guest bytes `start` .. `end` - 1. */
interface Stretch {
  readonly start: number;
  readonly end: number;
}

interface Found {
  readonly length: number;
  readonly read: number;
  /** Whole clusters, as far as the disk goes. */
  readonly zeroes: readonly Stretch[];
}

async function findZeroes(node: BlockNode, offset: number, length: number, chunkBytes: number): Promise<Found> {
  const first = await node.blockStatus(offset, length);
  if (!hasSpace(node, first)) {
    return { length: Math.min(length, first.length), read: 0, zeroes: [] };
  }
  const unit = unitOf(node);
  const start = Math.floor(offset / unit) * unit;
  const most = start + Math.max(unit, Math.floor(chunkBytes / unit) * unit);
  const end = Math.min(node.size, most, Math.ceil((offset + length) / unit) * unit);
  let read = 0;
  const zeroes: Stretch[] = [];
  for (const stretch of await stretchesWithSpace(node, start, end)) {
    read += stretch.end - stretch.start;
    zeroes.push(...(await zeroesOf(node, stretch)));
  }
  return { length: Math.min(length, end - offset), read, zeroes };
}

/** Whole clusters of which at least a part takes space in the image. */
async function stretchesWithSpace(node: BlockNode, from: number, end: number): Promise<readonly Stretch[]> {
  const unit = unitOf(node);
  const stretches: Stretch[] = [];
  for (let at = from; at < end;) {
    const status = await node.blockStatus(at, end - at);
    const next = Math.min(end, at + status.length);
    if (hasSpace(node, status)) {
      const last = stretches.at(-1);
      const start = Math.floor(at / unit) * unit;
      const behind = Math.min(end, Math.ceil(next / unit) * unit);
      if (last && start <= last.end) {
        stretches[stretches.length - 1] = { start: last.start, end: behind };
      } else {
        stretches.push({ start, end: behind });
      }
    }
    at = next;
  }
  return stretches;
}

/** The clusters of a stretch that read as zero, neighbours as one. */
async function zeroesOf(node: BlockNode, { start, end }: Stretch): Promise<readonly Stretch[]> {
  const unit = unitOf(node);
  const bytes = new Uint8Array(end - start);
  await node.read(start, bytes);
  const zeroes: Stretch[] = [];
  for (let at = start; at < end; at += unit) {
    const behind = Math.min(end, at + unit);
    if (isZero(bytes.subarray(at - start, behind - start))) {
      const last = zeroes.at(-1);
      const goesOn = last?.end === at;
      zeroes.splice(goesOn ? -1 : zeroes.length, 1, { start: goesOn ? last.start : at, end: behind });
    }
  }
  return zeroes;
}

async function giveUp(image: BlockNode, start: number, end: number): Promise<{ readonly zeroed: number; readonly kept: number }> {
  let zeroed = 0;
  let kept = 0;
  for (const still of await zeroesOf(image, { start, end })) {
    const length = still.end - still.start;
    try {
      // Zeroes that would have to be written into space of their own are what this is to get rid of; QED only writes where it has space.
      await image.writeZeroes(still.start, length, { mayUnmap: true, noFallback: image.driver === 'qcow2' });
      zeroed += length;
    } catch (error) {
      if (!(error instanceof EngineError && error.code === 'request.unsupported')) {
        throw error;
      }
      kept += length;
    }
  }
  return { zeroed, kept };
}

function hasSpace({ driver }: BlockNode, { class: kind, hostOffset }: NodeStatus): boolean {
  switch (kind) {
    case 'unallocated':
      return false;
    case 'data':
    case 'compressed':
      return true;
    case 'zero':
      return driver === 'qcow2' && hostOffset !== null;
  }
}

function unitOf({ clusterSize }: BlockNode): number {
  return clusterSize ?? BLOCK;
}
