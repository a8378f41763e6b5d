import { once } from 'node:events';
import * as net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ByteQueue } from '../../../../src/engine/exports/byteQueue';
import { loading } from '../../../../src/engine/io/loading';
import type { NbdAddress } from '../../../../src/engine/io/remote/address';
import { NbdClient, type NbdClientOptions } from '../../../../src/engine/nbd/client/nbdClient';
import { NbdStorage } from '../../../../src/engine/nbd/client/nbdStorage';

/* An NBD server that keeps to the protocol as far as the test wants. */

const SIZE = 1024 * 1024;

interface Conversation {
  readonly socket: net.Socket;
  readonly input: ByteQueue;
}

interface Behaviour {
  readonly greeting?: Buffer;
  /** What comes in answer to GO, before the acknowledgement. */
  readonly infos?: readonly Buffer[];
  readonly structured?: boolean;
  /** The id that is given to `base:allocation`. */
  readonly context?: number;
  /** Answers a request; `count` is of those of all connections. */
  readonly request?: (socket: net.Socket, header: Buffer, count: number) => void;
}

const closing: (() => void)[] = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

async function serve(behaviour: Behaviour): Promise<NbdAddress> {
  let count = 0;
  const server = net.createServer((socket) => {
    const input = new ByteQueue();
    socket.on('data', (chunk: Buffer) => input.push(chunk));
    socket.on('close', () => input.end());
    socket.on('error', () => input.end());
    closing.push(() => socket.destroy());
    void talk({ socket, input }, behaviour, () => ++count);
  });
  closing.push(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return { protocol: 'nbd', exportName: '', tls: false, socket: { type: 'inet', host: '127.0.0.1', port } };
}

async function talk({ socket, input }: Conversation, behaviour: Behaviour, next: () => number): Promise<void> {
  socket.write(behaviour.greeting ?? Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]));
  await input.read(4);
  for (;;) {
    const header = await input.read(16);
    if (!header) {
      return;
    }
    const option = header.readUInt32BE(8);
    const length = header.readUInt32BE(12);
    await input.read(length);
    if (option === 7) {
      for (const info of behaviour.infos ?? [exportInfo()]) {
        reply(socket, option, 3, info);
      }
      reply(socket, option, 1);
      break;
    } else if (option === 8) {
      reply(socket, option, behaviour.structured ? 1 : 0x80000001);
    } else if (option === 10) {
      const id = Buffer.alloc(4);
      id.writeUInt32BE(behaviour.context ?? 5);
      reply(socket, option, 4, Buffer.concat([id, Buffer.from('base:allocation')]));
      reply(socket, option, 1);
    }
  }
  for (;;) {
    const header = await input.read(28);
    if (!header) {
      return;
    }
    if (header.readUInt16BE(6) === 1) {
      await input.read(header.readUInt32BE(24));
    }
    behaviour.request?.(socket, header, next());
  }
}

function reply(socket: net.Socket, option: number, type: number, data: Uint8Array = new Uint8Array()): void {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(0x0003e889045565a9n, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  socket.write(Buffer.concat([header, data]));
}

function exportInfo(size = BigInt(SIZE)): Buffer {
  const info = Buffer.alloc(12);
  info.writeBigUInt64BE(size, 2);
  info.writeUInt16BE(1, 10);
  return info;
}

function blockSizes(...sizes: readonly [number, number, number]): Buffer {
  const info = Buffer.alloc(14);
  info.writeUInt16BE(3, 0);
  sizes.forEach((size, index) => info.writeUInt32BE(size, 2 + index * 4));
  return info;
}

/** A structured chunk in answer to `request`. */
function chunk(request: Buffer, type: number, data: Buffer, flags = 1): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt32BE(0x668e33ef, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  request.copy(header, 8, 8, 16);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

function simple(request: Buffer, data = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32BE(0x67446698, 0);
  request.copy(header, 8, 8, 16);
  return Buffer.concat([header, data]);
}

function at(offset: bigint, rest = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(offset);
  return Buffer.concat([bytes, rest]);
}

async function connect(address: NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
  const client = await NbdClient.open(address, options);
  closing.push(() => client.close());
  return client;
}

describe('a server that does not keep to the protocol', () => {
  it.each<[string, Behaviour]>([
    ['speaks something else', { greeting: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }],
    ['is of before 2009', { greeting: Buffer.concat([Buffer.from('NBDMAGIC'), Buffer.alloc(144)]) }],
    ['knows no options', { greeting: Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 0])]) }],
    ['tells no size', { infos: [] }],
    ['tells an impossible size', { infos: [exportInfo(2n ** 63n)] }],
    ['tells a piece of an answer', { infos: [Buffer.alloc(5)] }],
    ['has blocks of no bytes', { infos: [exportInfo(), blockSizes(0, 0, 0)] }],
    ['has blocks of 3 bytes', { infos: [exportInfo(), blockSizes(3, 4096, 4096)] }],
    ['has blocks of a megabyte', { infos: [exportInfo(), blockSizes(SIZE, SIZE, SIZE)] }],
    ['has a size that is not made of blocks', { infos: [exportInfo(1000n), blockSizes(512, 512, 4096)] }],
    ['takes less than a block', { infos: [exportInfo(), blockSizes(4096, 4096, 512)] }],
    ['does not end', { infos: Array.from({ length: 200 }, () => exportInfo()) }],
    ['answers too much', { infos: [Buffer.alloc(100_000)] }],
  ])('is refused when it %s', async (_what, behaviour) => {
    await expect(connect(await serve(behaviour))).rejects.toMatchObject({ code: 'network.failed' });
  });

  it('is given up when it says nothing', async () => {
    const address = await serve({ greeting: Buffer.alloc(0) });
    await expect(connect(address, { connectTimeoutMs: 30 })).rejects.toThrow('did not answer within');
    const cancel = new AbortController();
    const waiting = connect(address, { signal: cancel.signal });
    cancel.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
  });

  it.each<[string, (request: Buffer) => Buffer]>([
    ['garbage', () => Buffer.alloc(64, 0x55)],
    ['an answer to nothing', () => simple(Buffer.alloc(28, 0xff), Buffer.alloc(512))],
    ['a simple answer to a read', (request) => simple(request, Buffer.alloc(512))],
    ['bytes before the range', (request) => chunk(request, 1, at(0n, Buffer.alloc(512)))],
    ['bytes behind the range', (request) => chunk(request, 1, at(4096n + 256n, Buffer.alloc(512)))],
    ['more bytes than asked for', (request) => chunk(request, 1, at(4096n, Buffer.alloc(4096)))],
    [
      'bytes twice',
      (request) => Buffer.concat([chunk(request, 1, at(4096n, Buffer.alloc(512)), 0), chunk(request, 1, at(4096n, Buffer.alloc(512)))]),
    ],
    ['too few bytes', (request) => chunk(request, 1, at(4096n, Buffer.alloc(100)))],
    ['nothing at all', (request) => chunk(request, 0, Buffer.alloc(0))],
    ['a hole of 4 GiB', (request) => chunk(request, 2, at(4096n, Buffer.alloc(4, 0xff)))],
    ['a hole cut short', (request) => chunk(request, 2, at(4096n))],
    ['a block status', (request) => chunk(request, 5, Buffer.alloc(12))],
    ['an error cut short', (request) => chunk(request, 0x8001, Buffer.alloc(2))],
    ['a chunk of an unknown kind', (request) => chunk(request, 77, Buffer.alloc(4))],
  ])('loses its connection over %s, and the request fails', async (_what, answer) => {
    const client = await connect(await serve({ structured: true, request: (socket, header) => socket.write(answer(header)) }));
    await expect(client.read(4096, new Uint8Array(512))).rejects.toMatchObject({ code: 'network.failed' });
  });

  it('gets a request that it closes the connection over a few times, and no more', async () => {
    let requests = 0;
    const address = await serve({
      request: (socket, _header, count) => {
        requests = count;
        socket.destroy();
      },
    });
    const client = await connect(address, {
      clock: { now: () => 0, after: (ms, callback) => (ms < 5000 ? immediately(callback) : () => undefined) },
    });
    await expect(client.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'network.failed' });
    expect(requests).toBe(5);
  });

  it('says what it likes of an error, and nothing of it reaches a terminal', async () => {
    const message = Buffer.from('\u001b[31mno\n');
    const error = Buffer.concat([Buffer.from([0, 0, 0, 5, 0, message.length]), message]);
    const client = await connect(
      await serve({ structured: true, request: (socket, header) => socket.write(chunk(header, 0x8001, error)) }),
    );
    const failure = await client.read(0, new Uint8Array(512)).catch((caught: unknown) => caught);
    expect(failure).toMatchObject({ code: 'file.io', message: expect.stringContaining('EIO ( [31mno )') as string });
  });

  it.each([
    ['no descriptors', 0, []],
    ['a descriptor of no bytes', 5, [0, 0]],
    ['another context', 6, [4096, 0]],
  ])('fails a look for holes by telling %s', async (_what, id, words) => {
    const address = await serve({
      structured: true,
      request: (socket, header) => {
        const data = Buffer.alloc(4 + words.length * 4);
        data.writeUInt32BE(id);
        words.forEach((word, index) => data.writeUInt32BE(word, 4 + index * 4));
        socket.write(id === 0 ? chunk(header, 0, Buffer.alloc(0)) : chunk(header, 5, data));
      },
    });
    const storage = await NbdStorage.open(address, { writable: false });
    closing.push(() => storage.close());
    await expect(Promise.resolve().then(() => loading(() => storage.extentAt(0)))).rejects.toMatchObject({ code: 'network.failed' });
  });

  it('may describe more than there is', async () => {
    const address = await serve({
      structured: true,
      request: (socket, header) => {
        const data = Buffer.alloc(12);
        data.writeUInt32BE(5);
        data.writeUInt32BE(0xffffffff, 4);
        data.writeUInt32BE(3, 8);
        socket.write(chunk(header, 5, data));
      },
    });
    const storage = await NbdStorage.open(address, { writable: false });
    closing.push(() => storage.close());
    expect(await loading(() => storage.extentAt(4096))).toEqual({ length: SIZE - 4096, data: false });
  });
});

function immediately(callback: () => void): () => void {
  const turn = setImmediate(callback);
  return () => clearImmediate(turn);
}
