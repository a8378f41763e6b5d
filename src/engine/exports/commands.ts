import { isPromise, type Awaitable } from '../awaitable';
import { dataAhead } from '../block/above';
import type { BlockNode, DataAhead } from '../block/blockNode';
import { isZero } from '../isZero';
import { COMMAND, COMMAND_FLAG } from '../nbd/protocol';
import type { Agreed } from './handshake';
import type { MetaContext } from './nbdExport';
import type { Descriptor, Replies } from './replies';
import type { Request } from './request';

/** Reads at least this long are looked at for holes, when the client can be told of them. */
const SPARSE_READ = 64 * 1024;
/** Extents in one answer about block status. */
const MAX_EXTENTS = 4096;

/** What a client has moved. */
export interface Traffic {
  bytesRead: number;
  bytesWritten: number;
}

/** Does to an export what a client asks for, and answers. What it is asked has been found in order (see `refusal`). */
export class Commands {
  private readonly agreed: Agreed;
  private readonly replies: Replies;
  private readonly traffic: Traffic;

  constructor(agreed: Agreed, replies: Replies, traffic: Traffic) {
    this.agreed = agreed;
    this.replies = replies;
    this.traffic = traffic;
  }

  /** @throws what the node throws; then nothing has been answered yet, or the last chunk not */
  perform(request: Request, payload: Buffer | null): Awaitable<void> {
    const { node, discard = 'unmap', writethrough = false } = this.agreed.offered;
    const { type, flags, offset, length } = request;
    const fua = writethrough || (flags & COMMAND_FLAG.fua) !== 0;
    switch (type) {
      case COMMAND.read:
        return this.read(request);
      case COMMAND.write:
        this.traffic.bytesWritten += length;
        return this.answered(request, this.write(offset, payload!, fua));
      case COMMAND.writeZeroes: {
        const mayUnmap = discard === 'unmap' && (flags & COMMAND_FLAG.noHole) === 0;
        const noFallback = (flags & COMMAND_FLAG.fastZero) !== 0;
        return this.answered(request, node.writeZeroes(offset, length, { fua, mayUnmap, noFallback }));
      }
      case COMMAND.trim: {
        const done = discard === 'unmap' ? node.discard(offset, length) : undefined;
        return this.answered(request, fua ? Promise.resolve(done).then(() => node.flush()) : done);
      }
      case COMMAND.flush:
        return this.answered(request, node.flush());
      case COMMAND.cache:
        return this.answered(request, node.read(offset, Buffer.allocUnsafe(length)));
      default:
        return this.blockStatus(request);
    }
  }

  private write(offset: number, bytes: Buffer, fua: boolean): Awaitable<void> {
    const { node, detectZeroes = 'off' } = this.agreed.offered;
    if (detectZeroes !== 'off' && isZero(bytes)) {
      return node.writeZeroes(offset, bytes.length, { fua, mayUnmap: detectZeroes === 'unmap' });
    }
    return node.write(offset, bytes, { fua });
  }

  private answered(request: Request, done: Awaitable<void>): Awaitable<void> {
    if (isPromise(done)) {
      return done.then(() => this.replies.succeed(request));
    }
    this.replies.succeed(request);
  }

  private read(request: Request): Awaitable<void> {
    const { structuredReplies, offered } = this.agreed;
    const { offset, length, flags } = request;
    this.traffic.bytesRead += length;
    if (structuredReplies && length >= SPARSE_READ && (flags & COMMAND_FLAG.df) === 0) {
      return this.readSparse(request, offset);
    }
    return this.replies.data(request, offered.node, offset, length, true);
  }

  /** Data and holes as chunks of their own. */
  private readSparse(request: Request, from: number): Awaitable<void> {
    const { node } = this.agreed.offered;
    const end = request.offset + request.length;
    for (let at = from; at < end;) {
      const here = at;
      const stretch = stretchAhead(node, here, end);
      if (isPromise(stretch)) {
        return stretch.then(async (known) => {
          await this.sendStretch(request, here, known);
          return this.readSparse(request, here + known.length);
        });
      }
      at += stretch.length;
      const sent = this.sendStretch(request, here, stretch);
      if (isPromise(sent)) {
        const next = at;
        return sent.then(() => this.readSparse(request, next));
      }
    }
  }

  private sendStretch(request: Request, offset: number, { data, length }: DataAhead): Awaitable<void> {
    const last = offset + length === request.offset + request.length;
    if (!data) {
      this.replies.hole(request, offset, length, last);
      return;
    }
    return this.replies.data(request, this.agreed.offered.node, offset, length, last);
  }

  private async blockStatus(request: Request): Promise<void> {
    const { contexts } = this.agreed;
    for (const [index, { id, context }] of contexts.entries()) {
      this.replies.status(request, id, await describe(context, request), index === contexts.length - 1);
    }
  }
}

/** How far it goes on as it begins: clusters that lie apart are one stretch to a client. */
function stretchAhead(node: BlockNode, from: number, end: number, known: DataAhead | null = null): Awaitable<DataAhead> {
  let stretch = known;
  for (let at = from + (known?.length ?? 0); at < end; at = from + stretch.length) {
    const next = dataAhead(node, at, end - at);
    if (isPromise(next)) {
      const before = stretch;
      return next.then((found) => {
        const longer = joined(before, found, end - from);
        return longer ? stretchAhead(node, from, end, longer) : before!;
      });
    }
    const longer = joined(stretch, next, end - from);
    if (!longer) {
      break;
    }
    stretch = longer;
  }
  return stretch!;
}

/** Both as one; null when they are different. */
function joined(before: DataAhead | null, next: DataAhead, most: number): DataAhead | null {
  if (before && before.data !== next.data) {
    return null;
  }
  return { data: next.data, length: Math.min(most, (before?.length ?? 0) + next.length) };
}

/** Consecutive extents of different meaning; only the first when the client wants one. */
async function describe(context: MetaContext, { offset, length, flags }: Request): Promise<readonly Descriptor[]> {
  const extents: { flags: number; length: number }[] = [];
  const end = offset + length;
  const most = (flags & COMMAND_FLAG.reqOne) !== 0 ? 1 : MAX_EXTENTS;
  for (let at = offset; at < end;) {
    const answer = context.status(at, end - at);
    const status = isPromise(answer) ? await answer : answer;
    const bytes = Math.min(status.length, end - at);
    const last = extents.at(-1);
    if (last?.flags === status.flags) {
      last.length += bytes;
    } else if (extents.length === most) {
      break;
    } else {
      extents.push({ flags: status.flags, length: bytes });
    }
    at += bytes;
  }
  return extents;
}
