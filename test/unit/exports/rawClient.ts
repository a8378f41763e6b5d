import { connect, type Socket } from 'node:net';

import { ByteQueue } from '../../../src/engine/exports/byteQueue';

/** One simple reply (`type` null), or one chunk of a structured one. */
export interface RawReply {
  readonly cookie: number;
  /** Null for a simple reply. */
  readonly type: number | null;
  readonly done: boolean;
  readonly error: number;
  readonly data: Buffer;
}

export interface RawRequest {
  readonly type: number;
  readonly flags?: number;
  readonly offset?: number;
  readonly length?: number;
  readonly payload?: Buffer;
}

/** An NBD client that says what it is told to, also what no client should. Written from the protocol alone. */
export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;
  private readonly input = new ByteQueue();
  private nextCookie = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
    // Not `once`: a connection that the server cuts off may end with an error, which is not what is asked.
    this.closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.input.push(chunk));
    socket.on('close', () => this.input.end());
  }

  /** Goes as far as the transmission of an export. */
  static async open(
    path: string,
    { name = '', structured = true }: { readonly name?: string; readonly structured?: boolean } = {},
  ): Promise<RawClient> {
    const client = new RawClient(connect(path));
    await client.take(18);
    client.socket.write(Buffer.from([0, 0, 0, 3]));
    if (structured) {
      await client.option(8, Buffer.alloc(0));
    }
    const go = Buffer.alloc(4 + Buffer.byteLength(name) + 2);
    go.writeUInt32BE(Buffer.byteLength(name));
    go.write(name, 4);
    await client.option(7, go);
    return client;
  }

  /** @returns the request's cookie */
  send({ type, flags = 0, offset = 0, length = 0, payload = Buffer.alloc(0) }: RawRequest): number {
    const cookie = this.nextCookie++;
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    header.writeBigUInt64BE(BigInt(cookie), 8);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    this.socket.write(Buffer.concat([header, payload]));
    return cookie;
  }

  /** @param readLength of the read that a simple reply answers */
  async reply(readLength = 0): Promise<RawReply> {
    const magic = (await this.take(4)).readUInt32BE();
    if (magic === 0x67446698) {
      const header = await this.take(12);
      const error = header.readUInt32BE();
      return {
        cookie: Number(header.readBigUInt64BE(4)),
        type: null,
        done: true,
        error,
        data: await this.take(error === 0 ? readLength : 0),
      };
    }
    const header = await this.take(16);
    const type = header.readUInt16BE(2);
    const data = await this.take(header.readUInt32BE(12));
    const error = (type & 0x8000) === 0 ? 0 : data.readUInt32BE();
    return { cookie: Number(header.readBigUInt64BE(4)), type, done: (header.readUInt16BE() & 1) !== 0, error, data };
  }

  /** Sends a request and collects what answers it, up to the last chunk. */
  async ask(request: RawRequest): Promise<RawReply[]> {
    this.send(request);
    const replies: RawReply[] = [];
    while (replies.at(-1)?.done !== true) {
      replies.push(await this.reply(request.type === 0 ? (request.length ?? 0) : 0));
    }
    return replies;
  }

  private async option(option: number, data: Buffer): Promise<void> {
    const header = Buffer.alloc(16);
    header.write('IHAVEOPT');
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.socket.write(Buffer.concat([header, data]));
    for (let type = 0; type !== 1;) {
      const reply = await this.take(20);
      type = reply.readUInt32BE(12);
      await this.take(reply.readUInt32BE(16));
      if (type >= 0x80000000) {
        throw new Error(`option ${option} was refused with ${type.toString(16)}`);
      }
    }
  }

  private async take(length: number): Promise<Buffer> {
    const bytes = length === 0 ? Buffer.alloc(0) : await this.input.read(length);
    if (!bytes) {
      throw new Error('the server closed the connection');
    }
    return bytes;
  }
}
