import type { Duplex } from 'node:stream';

import type { ByteQueue } from '../../exports/byteQueue';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  COMMAND,
  MAX_STRING,
  REQUEST_LENGTH,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from '../protocol';
import { ConnectionLost, ProtocolViolation, ServerError } from './failures';
import type { ExportInfo } from './negotiation';

/** One request as it goes over the wire; sending it again has the same effect. */
export interface NbdRequest {
  /** One of `COMMAND`. */
  readonly command: number;
  /** Bits of `COMMAND_FLAG`. */
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** What is written. */
  readonly payload?: Uint8Array | undefined;
  /** What a read fills. */
  readonly target?: Uint8Array | undefined;
}

/** A stretch as a metadata context describes it. */
export interface Descriptor {
  readonly length: number;
  readonly flags: number;
}

/** The descriptors of a block status, by the context's id; empty for every other command. */
export type Descriptors = ReadonlyMap<number, readonly Descriptor[]>;

interface Pending {
  readonly request: NbdRequest;
  readonly descriptors: Map<number, readonly Descriptor[]>;
  /** Bytes of a read that came. */
  received: number;
  error: ServerError | null;
  readonly resolve: (descriptors: Descriptors) => void;
  readonly reject: (error: Error) => void;
}

/** Bytes of the longest list of descriptors that servers send. */
const MAX_STATUS = 16 * 1024 * 1024;
const ERROR_BIT = 0x8000;

/** An agreed connection: requests go out as they come, replies come in any order. */
export class Transmission {
  readonly info: ExportInfo;
  private readonly socket: Duplex;
  private readonly input: ByteQueue;
  private readonly pending = new Map<number, Pending>();
  private nextCookie = 1;
  private failure: Error | null = null;

  constructor(socket: Duplex, input: ByteQueue, info: ExportInfo) {
    this.socket = socket;
    this.input = input;
    this.info = info;
    void this.receive();
  }

  get alive(): boolean {
    return this.failure === null;
  }

  /** @throws ServerError when the server says that it failed; ConnectionLost, ProtocolViolation */
  request(request: NbdRequest): Promise<Descriptors> {
    return new Promise((resolve, reject) => {
      if (this.failure) {
        reject(this.failure);
        return;
      }
      const cookie = this.nextCookie++;
      this.pending.set(cookie, { request, resolve, reject, descriptors: new Map(), received: 0, error: null });
      this.send(cookie, request);
    });
  }

  /** Says goodbye; what is under way fails. */
  close(): void {
    if (this.failure === null) {
      this.send(0, { command: COMMAND.disconnect, flags: 0, offset: 0, length: 0 });
      this.socket.end();
    }
    this.fail(new ConnectionLost('The connection was closed.'));
  }

  private send(cookie: number, { command, flags, offset, length, payload }: NbdRequest): void {
    const header = Buffer.allocUnsafe(REQUEST_LENGTH);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(BigInt(cookie), 8);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    if (!payload) {
      this.socket.write(header);
      return;
    }
    this.socket.cork();
    this.socket.write(header);
    this.socket.write(payload);
    this.socket.uncork();
  }

  private async receive(): Promise<void> {
    try {
      for (;;) {
        const magic = (await this.take(4)).readUInt32BE(0);
        if (magic === SIMPLE_REPLY_MAGIC) {
          await this.simpleReply();
        } else if (magic === STRUCTURED_REPLY_MAGIC && this.info.structuredReplies) {
          await this.chunk();
        } else {
          throw new ProtocolViolation('The server sends what is no reply.');
        }
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new ConnectionLost(String(error)));
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    if (!this.socket.writableEnded) {
      this.socket.destroy();
    }
    const waiting = [...this.pending.values()];
    this.pending.clear();
    waiting.forEach(({ reject }) => reject(error));
  }

  private async simpleReply(): Promise<void> {
    const header = await this.take(12);
    const errno = header.readUInt32BE(0);
    const [cookie, pending] = this.find(header.readBigUInt64BE(4));
    const { command, length, target } = pending.request;
    if ((command === COMMAND.read || command === COMMAND.blockStatus) && this.info.structuredReplies) {
      throw new ProtocolViolation('The server sends a simple reply where a structured one was agreed on.');
    }
    if (errno === 0 && command === COMMAND.read) {
      target?.set(await this.take(length));
      pending.received = length;
    }
    pending.error = errno === 0 ? null : new ServerError(errno, '');
    this.finish(cookie, pending);
  }

  private async chunk(): Promise<void> {
    const header = await this.take(16);
    const flags = header.readUInt16BE(0);
    const type = header.readUInt16BE(2);
    const length = header.readUInt32BE(12);
    const [cookie, pending] = this.find(header.readBigUInt64BE(4));
    await this.content(type, length, pending);
    if ((flags & CHUNK_FLAG_DONE) !== 0) {
      this.finish(cookie, pending);
    }
  }

  private async content(type: number, length: number, pending: Pending): Promise<void> {
    const { command, length: asked } = pending.request;
    if (type === CHUNK.none && length === 0) {
      return;
    }
    if ((type & ERROR_BIT) !== 0 && length >= 6 && length <= MAX_STRING + 64) {
      const data = await this.take(length);
      const message = data.toString('utf8', 6, Math.min(data.length, 6 + data.readUInt16BE(4)));
      // An error is an error, also one of number 0.
      pending.error ??= new ServerError(data.readUInt32BE(0), message);
      return;
    }
    if (type === CHUNK.offsetData && command === COMMAND.read && length > 8 && length - 8 <= asked) {
      const at = this.within((await this.take(8)).readBigUInt64BE(0), length - 8, pending);
      pending.request.target?.set(await this.take(length - 8), at);
      return;
    }
    if (type === CHUNK.offsetHole && command === COMMAND.read && length === 12) {
      const data = await this.take(12);
      const at = this.within(data.readBigUInt64BE(0), data.readUInt32BE(8), pending);
      pending.request.target?.fill(0, at, at + data.readUInt32BE(8));
      return;
    }
    if (type === CHUNK.blockStatus && command === COMMAND.blockStatus && length >= 12 && length <= MAX_STATUS && length % 8 === 4) {
      const data = await this.take(length);
      pending.descriptors.set(data.readUInt32BE(0), readDescriptors(data));
      return;
    }
    throw new ProtocolViolation(`The server sends a chunk of type ${type} and ${length} bytes in answer to command ${command}.`);
  }

  /** Where in the request's range a chunk lies. */
  private within(offset: bigint, length: number, pending: Pending): number {
    const { request } = pending;
    const at = Number(offset - BigInt(request.offset));
    pending.received += length;
    if (at < 0 || at + length > request.length || pending.received > request.length) {
      throw new ProtocolViolation(`The server sends ${length} bytes at offset ${offset}, which were not asked for.`);
    }
    return at;
  }

  private find(wireCookie: bigint): [number, Pending] {
    const cookie = Number(wireCookie);
    const pending = this.pending.get(cookie);
    if (!pending) {
      throw new ProtocolViolation('The server answers a request that was not made.');
    }
    return [cookie, pending];
  }

  private finish(cookie: number, pending: Pending): void {
    const { request, error, received, resolve, reject, descriptors } = pending;
    if (!error && request.command === COMMAND.read && received !== request.length) {
      throw new ProtocolViolation(`The server sends ${received} of ${request.length} bytes.`);
    }
    this.pending.delete(cookie);
    if (error) {
      reject(error);
    } else {
      resolve(descriptors);
    }
  }

  private async take(length: number): Promise<Buffer> {
    const bytes = await this.input.read(length);
    if (!bytes) {
      throw new ConnectionLost('The server closed the connection.');
    }
    return bytes;
  }
}

function readDescriptors(data: Buffer): readonly Descriptor[] {
  const found: Descriptor[] = [];
  for (let at = 4; at < data.length; at += 8) {
    const length = data.readUInt32BE(at);
    if (length === 0) {
      throw new ProtocolViolation('The server describes a stretch of no bytes.');
    }
    found.push({ length, flags: data.readUInt32BE(at + 4) });
  }
  return found;
}
