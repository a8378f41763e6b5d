import { dirname } from 'node:path';
import type { JobPreview } from '../../protocol/jobs';
import { statusAbove } from '../block/above';
import type { BlockNode } from '../block/blockNode';
import type { OpenedImage } from '../block/graph/openedImage';
import { freeSpace } from '../io/freeSpace';
import { Differences } from '../manage/copy/differences';
import { Pace } from '../pace';
import type { JobParts } from './preparedJob';
import type { AllocateRequest } from './allocateJob';
import { commitSpan, type CommitRequest } from './commitJob';
import type { MirrorRequest } from './mirrorJob';
import { openBelow, type RebaseRequest } from './rebaseJob';
import { baseOf, type StreamRequest } from './streamJob';

export async function previewStream(request: StreamRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const chain = image.chain();
    const own = chain[0]!;
    const base = baseOf(request, chain, parts.currentFolder);
    const { range } = request;
    const bytesToCopy = await missingBytes(own.node, base?.node ?? null, range?.offset ?? 0, range?.length ?? own.node.size, parts.signal);
    return {
      bytesToCopy,
      spaceNeeded: bytesToCopy,
      spaceFree: freeSpace(dirname(own.path)),
      written: [own.path],
      invalidated: [],
      relinked: range === null && chain[1]?.node !== base?.node ? [{ path: own.path, backing: base?.path ?? null }] : [],
      dependents: image.dependents(own.node),
    };
  });
}

export async function previewCommit(request: CommitRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const chain = image.chain();
    const span = commitSpan(request, chain, parts.currentFolder);
    const [top, base] = [chain[span.top]!, chain[span.base]!];
    const { bytes, missing } = await bytesAbove(top.node, base.node, parts.signal);
    const overlay = chain[span.top - 1];
    const changed = chain.slice(span.top + 1, span.base + 1);
    return {
      bytesToCopy: bytes,
      spaceNeeded: missing,
      spaceFree: freeSpace(dirname(base.path)),
      written: [base.path, ...(overlay ? [overlay.path] : [])],
      // The base itself reads as `top` afterwards, for whoever else is built on it.
      invalidated: changed.map(({ path }) => path),
      relinked: overlay ? [{ path: overlay.path, backing: base.path }] : [],
      dependents: changed.flatMap(({ node }) => image.dependents(node)),
    };
  });
}

export async function previewMirror(request: MirrorRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const chain = image.chain();
    const below = request.sync === 'top' ? (chain[1]?.node ?? null) : null;
    const { bytes } = await bytesAbove(image.node, below, parts.signal);
    return {
      bytesToCopy: bytes,
      spaceNeeded: bytes,
      spaceFree: freeSpace(dirname(request.target)),
      written: [request.target],
      invalidated: [],
      relinked: [],
      dependents: [],
    };
  });
}

export async function previewRebase(request: RebaseRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const own = image.chain()[0]!;
    const below = await openBelow(request, image, parts);
    try {
      const bytesToCopy = await comparedBytes(own.node, below?.node ?? null, parts.signal);
      return {
        bytesToCopy,
        spaceNeeded: bytesToCopy,
        spaceFree: freeSpace(dirname(own.path)),
        written: [own.path],
        invalidated: [],
        relinked: [{ path: own.path, backing: below?.chain()[0]!.path ?? null }],
        dependents: image.dependents(own.node),
      };
    } finally {
      await below?.close();
    }
  });
}

export async function previewAllocate(request: AllocateRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const own = image.chain()[0]!;
    const { offset, length } = request.range ?? { offset: 0, length: own.node.size };
    let empty = 0;
    await overDisk(offset, Math.min(own.node.size, offset + length), parts.signal, async (at, rest) => {
      const status = await own.node.blockStatus(at, rest);
      empty += status.class === 'data' ? 0 : status.length;
      return status.length;
    });
    return {
      bytesToCopy: await missingBytes(own.node, null, offset, length, parts.signal),
      spaceNeeded: empty,
      spaceFree: freeSpace(dirname(own.path)),
      written: [own.path],
      invalidated: [],
      relinked: [],
      dependents: image.dependents(own.node),
    };
  });
}

/**
 * Looks at one stretch of a disk after the other, and lets others have their turn.
 * @param look returns how many bytes it has dealt with, at least 1
 * @throws EngineError `cancelled`
 */
async function overDisk(
  start: number,
  end: number,
  signal: AbortSignal | undefined,
  look: (offset: number, rest: number) => Promise<number>,
): Promise<void> {
  const pace = new Pace({ signal });
  for (let at = start; at < end;) {
    if (pace.due()) {
      await pace.turn(at, end);
    }
    at += await look(at, end - at);
  }
}

/** Bytes of data that a chain has above `base`; and how many of them the base has no place for yet. */
async function bytesAbove(
  top: BlockNode,
  base: BlockNode | null,
  signal: AbortSignal | undefined,
): Promise<{ readonly bytes: number; readonly missing: number }> {
  let bytes = 0;
  let missing = 0;
  await overDisk(0, top.size, signal, async (at, rest) => {
    const above = await statusAbove(top, base, at, rest);
    let { length } = above;
    if (above.class === 'data') {
      const own = base === null || at >= base.size ? null : await base.blockStatus(at, Math.min(length, base.size - at));
      length = own ? Math.min(length, own.length) : length;
      bytes += length;
      missing += own?.class === 'data' ? 0 : length;
    }
    return length;
  });
  return { bytes, missing };
}

/** Looks at an image that a job would work on. */
export async function reading<T>(
  { path, format }: StreamRequest['image'],
  { graph, user, passphraseOf, signal }: JobParts,
  look: (image: OpenedImage) => Promise<T>,
): Promise<T> {
  const image = await graph.open(path, { format, readOnly: true, user, passphraseOf, signal });
  try {
    return await look(image);
  } finally {
    await image.close();
  }
}

/** Bytes that have to be compared before an image is built on another one: so many are copied at most. */
async function comparedBytes(node: BlockNode, below: BlockNode | null, signal: AbortSignal | undefined): Promise<number> {
  const differences = new Differences(node, below);
  let bytes = 0;
  await overDisk(0, node.size, signal, async (at, rest) => {
    const { length, compare } = await differences.look(at, rest);
    bytes += compare ? length : 0;
    return length;
  });
  return bytes;
}

/** Bytes of data that an image has not itself, and the chain above `base` has; whole clusters of the image. */
async function missingBytes(
  node: BlockNode,
  base: BlockNode | null,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const cluster = node.clusterSize ?? 1;
  let bytes = 0;
  let counted = 0;
  await overDisk(offset, Math.min(node.size, offset + length), signal, async (at, rest) => {
    const own = await node.blockStatus(at, rest);
    if (own.class !== 'unallocated') {
      return own.length;
    }
    const above = await statusAbove(node.backing, base, at, Math.min(own.length, rest));
    if (above.class === 'data') {
      const from = Math.max(counted, Math.floor(at / cluster) * cluster);
      const to = Math.min(node.size, Math.ceil((at + above.length) / cluster) * cluster);
      bytes += Math.max(0, to - from);
      counted = Math.max(counted, to);
    }
    return above.length;
  });
  return bytes;
}
