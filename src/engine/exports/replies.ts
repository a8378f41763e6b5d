import type { Writable } from 'node:stream';

import { EngineError } from '../errors';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  CHUNK_HEADER_LENGTH,
  NBD_ERROR,
  SIMPLE_REPLY_LENGTH,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/protocol';
import { isPromise, type Awaitable } from '../awaitable';
import { ReplyArena } from './replyArena';
import type { Request } from './request';

/** Bytes of the longest message in an error. */
const MAX_MESSAGE = 1024;

/** What a context says of a stretch. */
export interface Descriptor {
  readonly flags: number;
  readonly length: number;
}

/** The replies to one client, as it was agreed to make them; they go out with the next `send`. */
export class Replies {
  private readonly socket: Writable;
  private readonly structured: boolean;
  private readonly arena: ReplyArena;

  constructor(socket: Writable, structured: boolean) {
    this.socket = socket;
    this.structured = structured;
    this.arena = new ReplyArena(socket);
  }

  /** Hands everything to the socket. */
  send(): void {
    this.arena.send();
  }

  /** The whole request was done; there is nothing to tell of it. */
  succeed({ cookie }: Request): void {
    if (this.structured) {
      chunkHeader(this.arena.take(CHUNK_HEADER_LENGTH), CHUNK.none, true, cookie, 0);
    } else {
      simpleHeader(this.arena.take(SIMPLE_REPLY_LENGTH), 0, cookie);
    }
  }

  failWith(request: Request, error: unknown): void {
    this.fail(request, errorNumber(error), error instanceof Error ? error.message : String(error));
  }

  fail({ cookie }: Request, error: number, message: string): void {
    if (!this.structured) {
      simpleHeader(this.arena.take(SIMPLE_REPLY_LENGTH), error, cookie);
      return;
    }
    const text = Buffer.from(message).subarray(0, MAX_MESSAGE);
    const reply = this.arena.take(CHUNK_HEADER_LENGTH + 6 + text.length);
    chunkHeader(reply, CHUNK.error, true, cookie, 6 + text.length);
    reply.writeUInt32BE(error, CHUNK_HEADER_LENGTH);
    reply.writeUInt16BE(text.length, CHUNK_HEADER_LENGTH + 4);
    text.copy(reply, CHUNK_HEADER_LENGTH + 6);
  }

  /**
   * Bytes of the disk.
   * @param last whether nothing more follows for this request
   * @param read fills the place that they are sent from
   */
  data({ cookie }: Request, offset: number, length: number, last: boolean, read: (target: Buffer) => Awaitable<void>): Awaitable<void> {
    const header = this.structured ? CHUNK_HEADER_LENGTH + 8 : SIMPLE_REPLY_LENGTH;
    const reply = this.arena.take(header + length);
    const finish = () => {
      if (this.structured) {
        chunkHeader(reply, CHUNK.offsetData, last, cookie, 8 + length);
        writeOffset(reply, offset);
      } else {
        simpleHeader(reply, 0, cookie);
      }
    };
    let done: Awaitable<void>;
    try {
      done = read(reply.subarray(header));
    } catch (error) {
      this.arena.giveBack(reply.length);
      throw error;
    }
    if (!isPromise(done)) {
      finish();
      return;
    }
    this.arena.detach(reply.length);
    return done.then(() => {
      finish();
      this.arena.send();
      this.socket.write(reply);
    });
  }

  /** Zeroes of the disk, without their bytes; of structured replies only. */
  hole({ cookie }: Request, offset: number, length: number, last: boolean): void {
    const reply = this.arena.take(CHUNK_HEADER_LENGTH + 12);
    chunkHeader(reply, CHUNK.offsetHole, last, cookie, 12);
    writeOffset(reply, offset);
    reply.writeUInt32BE(length, CHUNK_HEADER_LENGTH + 8);
  }

  /** What the context `id` says; of structured replies only. */
  status({ cookie }: Request, id: number, descriptors: readonly Descriptor[], last: boolean): void {
    const reply = this.arena.take(CHUNK_HEADER_LENGTH + 4 + descriptors.length * 8);
    chunkHeader(reply, CHUNK.blockStatus, last, cookie, 4 + descriptors.length * 8);
    reply.writeUInt32BE(id, CHUNK_HEADER_LENGTH);
    descriptors.forEach(({ flags, length }, index) => {
      reply.writeUInt32BE(length, CHUNK_HEADER_LENGTH + 4 + index * 8);
      reply.writeUInt32BE(flags, CHUNK_HEADER_LENGTH + 8 + index * 8);
    });
  }
}

function simpleHeader(reply: Buffer, error: number, cookie: bigint): void {
  reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  reply.writeUInt32BE(error, 4);
  reply.writeBigUInt64BE(cookie, 8);
}

function chunkHeader(reply: Buffer, type: number, last: boolean, cookie: bigint, length: number): void {
  reply.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  reply.writeUInt16BE(last ? CHUNK_FLAG_DONE : 0, 4);
  reply.writeUInt16BE(type, 6);
  reply.writeBigUInt64BE(cookie, 8);
  reply.writeUInt32BE(length, 16);
}

/** The offset that a chunk's payload begins with. */
function writeOffset(reply: Buffer, offset: number): void {
  reply.writeUInt32BE(Math.floor(offset / 2 ** 32), CHUNK_HEADER_LENGTH);
  reply.writeUInt32BE(offset % 2 ** 32, CHUNK_HEADER_LENGTH + 4);
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
