import { after, isPromise, type Awaitable } from '../awaitable';
import { isZero } from '../isZero';
import { statusAbove } from './above';
import type { BlockNode } from './blockNode';
import type { RequestTracker } from './requests';

/** What one step did. */
export interface Populated {
  /** Bytes from the offset that was asked for that need nothing more, at least 1. */
  readonly length: number;
  /** Bytes of them that were read from below and written here. */
  readonly copied: number;
  /** Bytes of them that became zeroes here. */
  readonly zeroed: number;
}

export interface PopulateRequest {
  /** The image that gets the data. */
  readonly node: BlockNode;
  /** Knows what is being changed in `node`; everybody who writes there goes through it. */
  readonly requests: RequestTracker;
  /** What lies in this node and below stays there; null copies from the whole chain. */
  readonly base: BlockNode | null;
  /** Bytes that are read and written at a time, at most; a multiple of the cluster size is rounded up to. */
  readonly chunkBytes?: number | undefined;
}

/** Large enough for the disk, small enough for a guest's write that has to wait for it. */
const DEFAULT_CHUNK = 512 * 1024;

/**
 * Copies into an image what it has not allocated and the chain above `base` supplies: the step that streaming and copy-on-read share. Looks at
 * `offset`; what is allocated, or supplied by no node above the base, is passed over, and of the rest at most one chunk is copied. The copy
 * has its clusters for itself: it waits for the writes in flight there, looks again, and later writes wait for it, so it never replaces
 * what somebody has written.
 * @param offset and `length` guest bytes, inside the disk; `length` at least 1
 * @throws EngineError of the node that was read or written
 */
export function populate(request: PopulateRequest, offset: number, length: number): Awaitable<Populated> {
  const { node, base } = request;
  const passed = (bytes: number): Populated => ({ length: bytes, copied: 0, zeroed: 0 });
  return after(node.blockStatus(offset, length), (own) => {
    if (own.class !== 'unallocated') {
      return passed(Math.min(length, own.length));
    }
    const rest = Math.min(length, own.length);
    const backing = node.backing;
    if (backing === null || backing === base || (base === null && offset >= backing.size)) {
      // Reads as it will without the chain: nothing to do.
      return passed(rest);
    }
    return after(statusAbove(backing, base, offset, rest), (above) =>
      above.class === 'unallocated' ? passed(above.length) : copyChunk(request, offset, rest),
    );
  });
}

/** Copies the clusters around a stretch, as one serialising request. */
function copyChunk(request: PopulateRequest, offset: number, length: number): Awaitable<Populated> {
  const { node, requests, chunkBytes = DEFAULT_CHUNK } = request;
  const cluster = node.clusterSize ?? 1;
  const start = Math.floor(offset / cluster) * cluster;
  const chunk = Math.max(cluster, Math.floor(chunkBytes / cluster) * cluster);
  const end = Math.min(node.size, Math.ceil((offset + length) / cluster) * cluster, start + chunk);
  const totals = { copied: 0, zeroed: 0 };
  const copied = requests.run(start, end - start, true, () => copyRange(request, start, end, totals));
  return after(copied, () => ({ length: Math.min(length, end - offset), ...totals }));
}

function copyRange(request: PopulateRequest, from: number, end: number, totals: { copied: number; zeroed: number }): Awaitable<void> {
  for (let at = from; at < end;) {
    const done = copyStretch(request, at, end - at, totals);
    if (isPromise(done)) {
      const here = at;
      return done.then((bytes) => copyRange(request, here + bytes, end, totals));
    }
    at += done;
  }
}

/** Copies what lies in the image's way to the chain's next other answer. Returns its length. */
function copyStretch(
  { node, base }: PopulateRequest,
  offset: number,
  length: number,
  totals: { copied: number; zeroed: number },
): Awaitable<number> {
  return after(node.blockStatus(offset, length), (own) => {
    const rest = Math.min(length, own.length);
    if (own.class !== 'unallocated') {
      return rest;
    }
    const backing = node.backing!;
    return after(statusAbove(backing, base, offset, rest), ({ class: kind, length: bytes }) =>
      after(runLength(backing, base, kind, offset, bytes, rest), (run) => copyRun(node, backing, kind, offset, run, rest, totals)),
    );
  });
}

/**
 * Copies `run` bytes of one kind of the `most` that the image has not; or some more, or fewer, to end with a cluster: the driver would have
 * to read the rest of it from below once more. But a part of a cluster may be the image's own. Returns how many.
 */
function copyRun(
  node: BlockNode,
  backing: BlockNode,
  kind: 'unallocated' | 'data' | 'zero',
  offset: number,
  run: number,
  most: number,
  totals: { copied: number; zeroed: number },
): Awaitable<number> {
  const cluster = node.clusterSize ?? 1;
  const clusters = run === most ? run : Math.floor((offset + run) / cluster) * cluster - offset;
  if (kind === 'unallocated' && clusters > 0) {
    return clusters;
  }
  if (kind === 'zero' && clusters > 0) {
    totals.zeroed += clusters;
    return after(node.writeZeroes(offset, clusters, { mayUnmap: true }), () => clusters);
  }
  const whole = Math.min(most, Math.ceil((offset + run) / cluster) * cluster - offset);
  return after(copyData(node, backing, offset, whole, totals), () => whole);
}

/** How far bytes of one kind go, in whatever images: one write is better than one for each. `known` bytes are so for certain. */
function runLength(
  backing: BlockNode,
  base: BlockNode | null,
  kind: 'unallocated' | 'data' | 'zero',
  offset: number,
  known: number,
  most: number,
): Awaitable<number> {
  for (let length = known; ;) {
    if (length >= most) {
      return most;
    }
    const next = statusAbove(backing, base, offset + length, most - length);
    if (isPromise(next)) {
      const here = length;
      return next.then((status) => (status.class === kind ? runLength(backing, base, kind, offset, here + status.length, most) : here));
    }
    if (next.class !== kind) {
      return length;
    }
    length += next.length;
  }
}

/** A buffer that is used again: pages that the system has to fill with zeroes first cost as much as the copy. */
let spare: Uint8Array | null = null;

async function copyLater(copy: Promise<void>, memory: Uint8Array): Promise<void> {
  await copy;
  spare = memory;
}

function copyData(
  node: BlockNode,
  backing: BlockNode,
  offset: number,
  length: number,
  totals: { copied: number; zeroed: number },
): Awaitable<void> {
  const memory = spare !== null && spare.length >= length ? spare : Buffer.allocUnsafeSlow(length);
  // Whatever fails keeps it: a request that has not ended may use it still.
  spare = null;
  const copy = copyThrough(memory.subarray(0, length), node, backing, offset, totals);
  if (isPromise(copy)) {
    return copyLater(copy, memory);
  }
  spare = memory;
}

function copyThrough(
  buffer: Uint8Array,
  node: BlockNode,
  backing: BlockNode,
  offset: number,
  totals: { copied: number; zeroed: number },
): Awaitable<void> {
  const { length } = buffer;
  // Past the end of the backing file there are zeroes.
  const there = Math.min(length, backing.size - offset);
  buffer.fill(0, there);
  return after(backing.read(offset, buffer.subarray(0, there)), () => writeRuns(buffer, 0, node, offset, totals));
}

/** Writes clusters that are zero as such, and neighbours of one kind together. */
function writeRuns(
  buffer: Uint8Array,
  from: number,
  node: BlockNode,
  offset: number,
  totals: { copied: number; zeroed: number },
): Awaitable<void> {
  const cluster = node.clusterSize ?? buffer.length;
  const endOf = (at: number) => Math.min(buffer.length, (Math.floor((offset + at) / cluster) + 1) * cluster - offset);
  for (let at = from; at < buffer.length;) {
    const zero = isZero(buffer.subarray(at, endOf(at)));
    let end = endOf(at);
    while (end < buffer.length && isZero(buffer.subarray(end, endOf(end))) === zero) {
      end = endOf(end);
    }
    totals[zero ? 'zeroed' : 'copied'] += end - at;
    const done = zero ? node.writeZeroes(offset + at, end - at, { mayUnmap: true }) : node.write(offset + at, buffer.subarray(at, end));
    if (isPromise(done)) {
      const next = end;
      return done.then(() => writeRuns(buffer, next, node, offset, totals));
    }
    at = end;
  }
}
