import type { Writable } from 'node:stream';

import type { BlockNode } from '../block/blockNode';
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
  succeed(request: Request): void {
    const { arena } = this;
    if (this.structured) {
      const at = arena.take(CHUNK_HEADER_LENGTH);
      chunkHeader(arena.bytes, at, CHUNK.none, true, request, 0);
    } else {
      const at = arena.take(SIMPLE_REPLY_LENGTH);
      simpleHeader(arena.bytes, at, 0, request);
    }
  }

  failWith(request: Request, error: unknown): void {
    this.fail(request, errorNumber(error), error instanceof Error ? error.message : String(error));
  }

  fail(request: Request, error: number, message: string): void {
    const { arena } = this;
    if (!this.structured) {
      const at = arena.take(SIMPLE_REPLY_LENGTH);
      simpleHeader(arena.bytes, at, error, request);
      return;
    }
    const text = Buffer.from(message).subarray(0, MAX_MESSAGE);
    const at = arena.take(CHUNK_HEADER_LENGTH + 6 + text.length);
    const { bytes } = arena;
    chunkHeader(bytes, at, CHUNK.error, true, request, 6 + text.length);
    bytes.writeUInt32BE(error, at + CHUNK_HEADER_LENGTH);
    bytes.writeUInt16BE(text.length, at + CHUNK_HEADER_LENGTH + 4);
    text.copy(bytes, at + CHUNK_HEADER_LENGTH + 6);
  }

  /**
   * Bytes of the disk, read into the place that they are sent from.
   * @param last whether nothing more follows for this request
   */
  data(request: Request, node: Pick<BlockNode, 'read'>, offset: number, length: number, last: boolean): Awaitable<void> {
    const { arena } = this;
    const header = this.structured ? CHUNK_HEADER_LENGTH + 8 : SIMPLE_REPLY_LENGTH;
    const at = arena.take(header + length);
    let done: Awaitable<void>;
    try {
      done = node.read(offset, arena.end(length));
    } catch (error) {
      arena.giveBack(header + length);
      throw error;
    }
    if (!isPromise(done)) {
      this.dataHeader(arena.bytes, at, request, offset, length, last);
      return;
    }
    const reply = arena.detach(header + length);
    return done.then(() => {
      this.dataHeader(reply, 0, request, offset, length, last);
      arena.send();
      this.socket.write(reply);
    });
  }

  private dataHeader(bytes: Buffer, at: number, request: Request, offset: number, length: number, last: boolean): void {
    if (this.structured) {
      chunkHeader(bytes, at, CHUNK.offsetData, last, request, 8 + length);
      writeOffset(bytes, at, offset);
    } else {
      simpleHeader(bytes, at, 0, request);
    }
  }

  /** Zeroes of the disk, without their bytes; of structured replies only. */
  hole(request: Request, offset: number, length: number, last: boolean): void {
    const at = this.arena.take(CHUNK_HEADER_LENGTH + 12);
    const { bytes } = this.arena;
    chunkHeader(bytes, at, CHUNK.offsetHole, last, request, 12);
    writeOffset(bytes, at, offset);
    bytes.writeUInt32BE(length, at + CHUNK_HEADER_LENGTH + 8);
  }

  /** What the context `id` says; of structured replies only. */
  status(request: Request, id: number, descriptors: readonly Descriptor[], last: boolean): void {
    const at = this.arena.take(CHUNK_HEADER_LENGTH + 4 + descriptors.length * 8);
    const { bytes } = this.arena;
    chunkHeader(bytes, at, CHUNK.blockStatus, last, request, 4 + descriptors.length * 8);
    bytes.writeUInt32BE(id, at + CHUNK_HEADER_LENGTH);
    let end = at + CHUNK_HEADER_LENGTH + 4;
    for (const { flags, length } of descriptors) {
      end = bytes.writeUInt32BE(length, end);
      end = bytes.writeUInt32BE(flags, end);
    }
  }
}

function simpleHeader(bytes: Buffer, at: number, error: number, { cookieHigh, cookieLow }: Request): void {
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  bytes.writeUInt32BE(error, at + 4);
  bytes.writeUInt32BE(cookieHigh, at + 8);
  bytes.writeUInt32BE(cookieLow, at + 12);
}

function chunkHeader(bytes: Buffer, at: number, type: number, last: boolean, { cookieHigh, cookieLow }: Request, length: number): void {
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at);
  bytes.writeUInt16BE(last ? CHUNK_FLAG_DONE : 0, at + 4);
  bytes.writeUInt16BE(type, at + 6);
  bytes.writeUInt32BE(cookieHigh, at + 8);
  bytes.writeUInt32BE(cookieLow, at + 12);
  bytes.writeUInt32BE(length, at + 16);
}

/** The offset that the payload of the chunk at `at` begins with. */
function writeOffset(bytes: Buffer, at: number, offset: number): void {
  bytes.writeUInt32BE(Math.floor(offset / 2 ** 32), at + CHUNK_HEADER_LENGTH);
  bytes.writeUInt32BE(offset % 2 ** 32, at + CHUNK_HEADER_LENGTH + 4);
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
