import { dirname } from 'node:path';
import type { JobPreview, JobRequest } from '../../protocol/jobs';
import { trimPreview, trimStep } from '../allocation/trim';
import type { TrackedNode } from '../block/trackedNode';
import { freeSpace } from '../io/freeSpace';
import { Pace } from '../pace';
import type { GuestActivity } from './guestActivity';
import type { JobContext, JobWork } from './jobWork';
import type { JobParts, PreparedJob } from './preparedJob';
import { reading } from './preview';
import { inPieces } from './pieces';
import { SteadyFlush } from './steadyFlush';

export type TrimRequest = Extract<JobRequest, { type: 'trim' }>;

/** Opens an image to give its zeroes back, also while it is somebody's backing file. @throws EngineError as `BlockGraph.open` */
export async function prepareTrim(request: TrimRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, activity, passphraseOf, signal } = parts;
  const image = await graph.open(path, { format, readOnly: false, unchanged: true, user, passphraseOf, signal });
  return { image, work: new TrimWork(image.node, request, activity, () => image.close()) };
}

/** Reads what the job would read. @throws EngineError as `BlockGraph.open`; `cancelled` */
export function previewTrim(request: TrimRequest, parts: JobParts): Promise<JobPreview> {
  return reading(request.image, parts, async (image) => {
    const { node, path } = image.chain()[0]!;
    const pace = new Pace({ signal: parts.signal });
    const { start, end } = rangeOf(request, node);
    let bytes = 0;
    let bytesRead = 0;
    for (let at = start; at < end;) {
      const found = await trimPreview(node, at, end - at);
      bytes += found.zeroed;
      bytesRead += found.read;
      at += found.length;
      await pace.turn(at - start, end - start);
    }
    return {
      bytesToCopy: 0,
      spaceNeeded: 0,
      zeroes: { bytes, bytesRead },
      spaceFree: freeSpace(dirname(path)),
      written: [path],
      invalidated: [],
      relinked: [],
      dependents: image.dependents(node),
    };
  });
}

class TrimWork implements JobWork {
  private readonly node: TrackedNode;
  private readonly request: TrimRequest;
  private readonly activity: GuestActivity;
  readonly release: () => Promise<void>;

  constructor(node: TrackedNode, request: TrimRequest, activity: GuestActivity, release: () => Promise<void>) {
    this.node = node;
    this.request = request;
    this.activity = activity;
    this.release = release;
  }

  async run(context: JobContext): Promise<void> {
    const { node, activity } = this;
    const { start, end } = rangeOf(this.request, node);
    const flush = new SteadyFlush(node);
    const chunk = () => activity.chunkBytes;
    await inPieces(context, { start, end, flush, leftOut: chunk }, async (at, most) => {
      const { length, read, zeroed } = await trimStep(node, at, most, chunk());
      return { length, copied: read, written: zeroed };
    });
    await flush.end();
  }
}

function rangeOf({ range }: TrimRequest, { size }: { readonly size: number }): { readonly start: number; readonly end: number } {
  const start = Math.min(size, range?.offset ?? 0);
  return { start, end: Math.min(size, range ? start + range.length : size) };
}
