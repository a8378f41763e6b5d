import type { JobRequest } from '../../protocol/jobs';
import { allocateStep } from '../allocation/allocate';
import type { TrackedNode } from '../block/trackedNode';
import type { JobContext, JobWork } from './jobWork';
import type { JobParts, PreparedJob } from './preparedJob';
import { inPieces } from './pieces';
import { SteadyFlush } from './steadyFlush';

export type AllocateRequest = Extract<JobRequest, { type: 'allocate' }>;

/** Bytes that are left out where an error is to be ignored. */
const LEFT_OUT = 512 * 1024;

/** Opens an image for its allocation, also while it is somebody's backing file. @throws EngineError as `BlockGraph.open` */
export async function prepareAllocate(request: AllocateRequest, parts: JobParts): Promise<PreparedJob> {
  const { path, format } = request.image;
  const { graph, user, passphraseOf, signal } = parts;
  const image = await graph.open(path, { format, readOnly: false, unchanged: true, user, passphraseOf, signal });
  return { image, work: new AllocateWork(image.node, request, () => image.close()) };
}

class AllocateWork implements JobWork {
  private readonly node: TrackedNode;
  private readonly request: AllocateRequest;
  readonly release: () => Promise<void>;

  constructor(node: TrackedNode, request: AllocateRequest, release: () => Promise<void>) {
    this.node = node;
    this.request = request;
    this.release = release;
  }

  async run(context: JobContext): Promise<void> {
    const { node } = this;
    const { range, mode } = this.request;
    const start = range?.offset ?? 0;
    const end = Math.min(node.size, range ? start + range.length : node.size);
    const flush = new SteadyFlush(node);
    await inPieces(context, { start, end, flush, leftOut: () => LEFT_OUT }, async (at, most) => {
      const { length, copied, zeroed } = await allocateStep(node, mode, at, most);
      return { length, copied: copied + zeroed };
    });
    await flush.end();
  }
}
