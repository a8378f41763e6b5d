import type { Duplex } from 'node:stream';

import { isPromise, type Awaitable } from '../awaitable';
import { dataAhead } from '../block/above';
import type { DataAhead } from '../block/blockNode';
import { EngineError } from '../errors';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  CHUNK_HEADER_LENGTH,
  COMMAND,
  COMMAND_FLAG,
  MAX_PAYLOAD,
  NBD_ERROR,
  REQUEST_LENGTH,
  REQUEST_MAGIC,
  SIMPLE_REPLY_LENGTH,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/protocol';
import type { Agreed } from './handshake';
import type { MetaContext } from './nbdExport';
import { ReplyArena } from './replyArena';

/** Replies that may wait for a client that does not read; then nothing more is read from it. */
const BACK_PRESSURE = 512 * 1024;
/** Requests that one client may have in flight. */
const MAX_IN_FLIGHT = 256;
/** A request that takes longer, in milliseconds, has waited for a disk. */
const SLOW_REQUEST_MS = 0.05;
/** Requests that take longer although they were announced still come from a disk. */
const CACHED_REQUEST_MS = 0.012;
/** Reads at least this long are looked at for holes, when the client can be told of them. */
const SPARSE_READ = 64 * 1024;
/** Extents in one answer about block status. */
const MAX_EXTENTS = 4096;

const FLAGS_OF: Readonly<Record<number, number>> = {
  [COMMAND.read]: COMMAND_FLAG.fua | COMMAND_FLAG.df,
  [COMMAND.write]: COMMAND_FLAG.fua,
  [COMMAND.disconnect]: COMMAND_FLAG.fua,
  [COMMAND.flush]: COMMAND_FLAG.fua,
  [COMMAND.trim]: COMMAND_FLAG.fua,
  [COMMAND.cache]: COMMAND_FLAG.fua,
  [COMMAND.writeZeroes]: COMMAND_FLAG.fua | COMMAND_FLAG.noHole | COMMAND_FLAG.fastZero,
  [COMMAND.blockStatus]: COMMAND_FLAG.fua | COMMAND_FLAG.reqOne,
};

/** What a client has moved. */
export interface Traffic {
  bytesRead: number;
  bytesWritten: number;
}

interface Request {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

/**
 * The server's side of the transmission phase for one client. All requests of a received chunk are worked on at once and answered with one
 * write; what has to wait is answered when it is done, in any order, as the protocol allows. A client that breaks the protocol is
 * disconnected.
 */
export class Transmission {
  private readonly socket: Duplex;
  private readonly agreed: Agreed;
  private readonly traffic: Traffic;
  private readonly arena: ReplyArena;
  private readonly onEnd: () => void;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  /** Bytes that must be there before there is anything to do. */
  private wanted = REQUEST_LENGTH;
  private inFlight = 0;
  private requests = 0;
  /** Whether the last requests took so long that the page cache cannot have had the bytes. */
  private waitsForDisk = false;
  private ending = false;
  private ended = false;
  private working = false;

  /** @param onEnd called once, when the client has gone and nothing is in flight any more */
  constructor(socket: Duplex, agreed: Agreed, traffic: Traffic, onEnd: () => void) {
    this.socket = socket;
    this.agreed = agreed;
    this.traffic = traffic;
    this.arena = new ReplyArena(socket);
    this.onEnd = onEnd;
    socket.on('drain', () => this.go());
  }

  /** What came from the client. */
  receive(chunk: Buffer): void {
    if (this.ending) {
      return;
    }
    this.pending.push(chunk);
    this.pendingBytes += chunk.length;
    this.go();
  }

  /** Takes no more requests; those in flight are finished and answered. */
  finish(): void {
    this.ending = true;
    this.pending = [];
    this.settle();
  }

  private go(): void {
    if (this.working || this.ending) {
      return;
    }
    this.working = true;
    while (this.pendingBytes >= this.wanted && !this.isStopped()) {
      const [began, before] = [performance.now(), this.requests];
      this.work();
      const each = (performance.now() - began) / Math.max(1, this.requests - before);
      this.waitsForDisk = each > (this.waitsForDisk ? CACHED_REQUEST_MS : SLOW_REQUEST_MS);
    }
    this.working = false;
    this.arena.send();
    if (this.isBusy()) {
      this.socket.pause();
    } else {
      this.socket.resume();
    }
    this.settle();
  }

  private isStopped(): boolean {
    return this.ending || this.isBusy();
  }

  private isBusy(): boolean {
    return this.socket.writableLength > BACK_PRESSURE || this.inFlight >= MAX_IN_FLIGHT;
  }

  /** Works through what has come, as far as it makes whole requests. */
  private work(): void {
    const input = this.pending.length === 1 ? this.pending[0]! : Buffer.concat(this.pending);
    let at = 0;
    if (this.waitsForDisk) {
      this.announceReads(input);
    }
    this.wanted = REQUEST_LENGTH;
    while (at + REQUEST_LENGTH <= input.length && !this.isStopped()) {
      if (input.readUInt32BE(at) !== REQUEST_MAGIC) {
        this.giveUp();
        return;
      }
      const request = readRequest(input, at);
      let payload: Buffer | null = null;
      if (request.type === COMMAND.write) {
        if (request.length > MAX_PAYLOAD) {
          // What follows cannot be told from data.
          this.giveUp();
          return;
        }
        if (at + REQUEST_LENGTH + request.length > input.length) {
          this.wanted = REQUEST_LENGTH + request.length;
          break;
        }
        payload = input.subarray(at + REQUEST_LENGTH, at + REQUEST_LENGTH + request.length);
        at += request.length;
      }
      at += REQUEST_LENGTH;
      if (request.type === COMMAND.disconnect) {
        this.ending = true;
        break;
      }
      this.perform(request, payload);
    }
    this.pending = at < input.length ? [at === 0 ? input : input.subarray(at)] : [];
    this.pendingBytes = input.length - at;
  }

  /** Lets the disk fetch at the same time what the reads that came together will ask for one by one. */
  private announceReads(input: Buffer): void {
    const { node } = this.agreed.offered;
    for (let at = 0; at + REQUEST_LENGTH <= input.length && input.readUInt32BE(at) === REQUEST_MAGIC; at += REQUEST_LENGTH) {
      const { type, offset, length } = readRequest(input, at);
      if (type !== COMMAND.read) {
        return;
      }
      if (offset + length <= node.size) {
        node.willRead?.(offset, length);
      }
    }
  }

  /** The client cannot be understood any more. */
  private giveUp(): void {
    this.ending = true;
    this.pending = [];
    this.socket.destroy();
  }

  private perform(request: Request, payload: Buffer | null): void {
    this.requests++;
    const refusal = this.refusal(request);
    if (refusal !== null) {
      this.fail(request, refusal, 'The request is not valid for this export.');
      return;
    }
    let result: Awaitable<void>;
    try {
      result = this.execute(request, payload);
    } catch (error) {
      this.failWith(request, error);
      return;
    }
    if (isPromise(result)) {
      this.inFlight++;
      result
        .catch((error: unknown) => this.failWith(request, error))
        .finally(() => {
          this.inFlight--;
          this.arena.send();
          this.go();
          this.settle();
        })
        // Only `failWith` could throw there, on a socket that is gone.
        .catch(() => this.socket.destroy());
    }
  }

  /** The error for a request that the export does not take; null when it is in order. */
  private refusal({ type, flags, offset, length }: Request): number | null {
    const { offered, structuredReplies, contexts } = this.agreed;
    const known = FLAGS_OF[type];
    if (known === undefined || (flags & ~known) !== 0) {
      return NBD_ERROR.EINVAL;
    }
    if ((flags & COMMAND_FLAG.df) !== 0 && !structuredReplies) {
      return NBD_ERROR.EINVAL;
    }
    const changes = type === COMMAND.write || type === COMMAND.trim || type === COMMAND.writeZeroes;
    if (changes && offered.readOnly) {
      return NBD_ERROR.EPERM;
    }
    if (type === COMMAND.flush) {
      return offset === 0 && length === 0 ? null : NBD_ERROR.EINVAL;
    }
    if ((type === COMMAND.read || type === COMMAND.cache) && length > MAX_PAYLOAD) {
      return NBD_ERROR.EINVAL;
    }
    if (offset + length > offered.node.size) {
      return type === COMMAND.write || type === COMMAND.writeZeroes ? NBD_ERROR.ENOSPC : NBD_ERROR.EINVAL;
    }
    if (type === COMMAND.blockStatus && (length === 0 || contexts.length === 0)) {
      return NBD_ERROR.EINVAL;
    }
    return null;
  }

  private execute(request: Request, payload: Buffer | null): Awaitable<void> {
    const { node, discard = 'unmap' } = this.agreed.offered;
    const { type, flags, offset, length } = request;
    const fua = (flags & COMMAND_FLAG.fua) !== 0;
    switch (type) {
      case COMMAND.read:
        return this.read(request);
      case COMMAND.write:
        this.traffic.bytesWritten += length;
        return this.answered(request, node.write(offset, payload!, { fua }));
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

  private answered(request: Request, done: Awaitable<void>): Awaitable<void> {
    if (isPromise(done)) {
      return done.then(() => this.succeed(request));
    }
    this.succeed(request);
  }

  private read(request: Request): Awaitable<void> {
    const { structuredReplies } = this.agreed;
    const { offset, length, flags } = request;
    this.traffic.bytesRead += length;
    if (structuredReplies && length >= SPARSE_READ && (flags & COMMAND_FLAG.df) === 0) {
      return this.readSparse(request);
    }
    const header = structuredReplies ? CHUNK_HEADER_LENGTH + 8 : SIMPLE_REPLY_LENGTH;
    const reply = this.arena.take(header + length);
    return this.fill(reply, header, offset, () => this.readHeader(reply, request));
  }

  /** Data and holes as chunks of their own. */
  private readSparse(request: Request, from = request.offset): Awaitable<void> {
    const { node } = this.agreed.offered;
    const end = request.offset + request.length;
    for (let at = from; at < end;) {
      const status = dataAhead(node, at, end - at);
      const sent = isPromise(status) ? status.then((known) => this.sendPiece(request, at, known)) : this.sendPiece(request, at, status);
      if (isPromise(sent)) {
        return sent.then((next) => this.readSparse(request, next));
      }
      at = sent;
    }
  }

  /** One chunk; returns where the next begins. */
  private sendPiece({ cookie, offset, length }: Request, at: number, { data, length: known }: DataAhead): Awaitable<number> {
    const next = Math.min(at + known, offset + length);
    const last = next === offset + length;
    const bytes = next - at;
    if (!data) {
      const reply = this.arena.take(CHUNK_HEADER_LENGTH + 12);
      chunkHeader(reply, CHUNK.offsetHole, last, cookie, 12);
      writeOffset(reply, at);
      reply.writeUInt32BE(bytes, CHUNK_HEADER_LENGTH + 8);
      return next;
    }
    const header = CHUNK_HEADER_LENGTH + 8;
    const reply = this.arena.take(header + bytes);
    const finish = () => {
      chunkHeader(reply, CHUNK.offsetData, last, cookie, 8 + bytes);
      writeOffset(reply, at);
      return next;
    };
    return this.fill(reply, header, at, finish);
  }

  /** Reads into the room that was taken for a reply behind its header; `finish` completes it. */
  private fill<T>(reply: Buffer, header: number, offset: number, finish: () => T): Awaitable<T> {
    let done: Awaitable<void>;
    try {
      done = this.agreed.offered.node.read(offset, reply.subarray(header));
    } catch (error) {
      this.arena.giveBack(reply.length);
      throw error;
    }
    if (!isPromise(done)) {
      return finish();
    }
    this.arena.detach(reply.length);
    return done.then(() => {
      const result = finish();
      this.arena.send();
      this.socket.write(reply);
      return result;
    });
  }

  private async blockStatus(request: Request): Promise<void> {
    const { contexts } = this.agreed;
    for (const [index, { id, context }] of contexts.entries()) {
      const extents = await extentsOf(context, request);
      const reply = this.arena.take(CHUNK_HEADER_LENGTH + 4 + extents.length * 8);
      chunkHeader(reply, CHUNK.blockStatus, index === contexts.length - 1, request.cookie, 4 + extents.length * 8);
      reply.writeUInt32BE(id, CHUNK_HEADER_LENGTH);
      extents.forEach(({ flags, length }, extent) => {
        reply.writeUInt32BE(length, CHUNK_HEADER_LENGTH + 4 + extent * 8);
        reply.writeUInt32BE(flags, CHUNK_HEADER_LENGTH + 8 + extent * 8);
      });
    }
  }

  private readHeader(reply: Buffer, { cookie, offset, length }: Request): void {
    if (this.agreed.structuredReplies) {
      chunkHeader(reply, CHUNK.offsetData, true, cookie, 8 + length);
      writeOffset(reply, offset);
    } else {
      simpleHeader(reply, 0, cookie);
    }
  }

  private succeed({ cookie }: Request): void {
    if (this.agreed.structuredReplies) {
      chunkHeader(this.arena.take(CHUNK_HEADER_LENGTH), CHUNK.none, true, cookie, 0);
    } else {
      simpleHeader(this.arena.take(SIMPLE_REPLY_LENGTH), 0, cookie);
    }
  }

  private failWith(request: Request, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.fail(request, errorNumber(error), message);
  }

  private fail({ cookie }: Request, error: number, message: string): void {
    if (!this.agreed.structuredReplies) {
      simpleHeader(this.arena.take(SIMPLE_REPLY_LENGTH), error, cookie);
      return;
    }
    const text = Buffer.from(message).subarray(0, 1024);
    const reply = this.arena.take(CHUNK_HEADER_LENGTH + 6 + text.length);
    chunkHeader(reply, CHUNK.error, true, cookie, 6 + text.length);
    reply.writeUInt32BE(error, CHUNK_HEADER_LENGTH);
    reply.writeUInt16BE(text.length, CHUNK_HEADER_LENGTH + 4);
    text.copy(reply, CHUNK_HEADER_LENGTH + 6);
  }

  private settle(): void {
    if (this.ending && this.inFlight === 0 && !this.ended) {
      this.ended = true;
      this.arena.send();
      this.onEnd();
    }
  }
}

function readRequest(input: Buffer, at: number): Request {
  return {
    flags: input.readUInt16BE(at + 4),
    type: input.readUInt16BE(at + 6),
    cookie: input.readBigUInt64BE(at + 8),
    // An offset past 2^53 lies past the end of every disk, rounded or not.
    offset: input.readUInt32BE(at + 16) * 2 ** 32 + input.readUInt32BE(at + 20),
    length: input.readUInt32BE(at + 24),
  };
}

function simpleHeader(reply: Buffer, error: number, cookie: bigint): void {
  reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  reply.writeUInt32BE(error, 4);
  reply.writeBigUInt64BE(cookie, 8);
}

function chunkHeader(reply: Buffer, type: number, done: boolean, cookie: bigint, length: number): void {
  reply.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  reply.writeUInt16BE(done ? CHUNK_FLAG_DONE : 0, 4);
  reply.writeUInt16BE(type, 6);
  reply.writeBigUInt64BE(cookie, 8);
  reply.writeUInt32BE(length, 16);
}

/** The offset that a chunk's payload begins with. */
function writeOffset(reply: Buffer, offset: number): void {
  reply.writeUInt32BE(Math.floor(offset / 2 ** 32), CHUNK_HEADER_LENGTH);
  reply.writeUInt32BE(offset % 2 ** 32, CHUNK_HEADER_LENGTH + 4);
}

/** Consecutive extents of different meaning; only the first when the client wants one. */
async function extentsOf(context: MetaContext, { offset, length, flags }: Request): Promise<{ flags: number; length: number }[]> {
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

function errorNumber(error: unknown): number {
  if (!(error instanceof EngineError)) {
    return NBD_ERROR.EIO;
  }
  switch (error.code) {
    case 'file.full':
      return NBD_ERROR.ENOSPC;
    case 'request.invalid':
      return NBD_ERROR.EINVAL;
    case 'request.readOnly':
      return NBD_ERROR.EPERM;
    case 'request.unsupported':
      return NBD_ERROR.ENOTSUP;
    default:
      return NBD_ERROR.EIO;
  }
}
