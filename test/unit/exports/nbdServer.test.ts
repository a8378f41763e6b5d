import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import type { Awaitable } from '../../../src/engine/awaitable';
import type { WriteOptions, ZeroOptions } from '../../../src/engine/block/blockNode';
import type { NbdExport } from '../../../src/engine/exports/nbdExport';
import { NbdServer, type NbdServerOptions } from '../../../src/engine/exports/nbdServer';
import { MemoryNode } from '../block/memoryNode';
import { RawClient } from './rawClient';

/* What the server does with each request, and what it bears: with a client that says exactly what a test wants. */

const CLUSTER = 64 * 1024;
const MIB = 2 ** 20;
const EINVAL = 22;
const [READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, WRITE_ZEROES] = [0, 1, 2, 3, 4, 5, 6];
const [FUA, NO_HOLE, DF, FAST_ZERO] = [1, 2, 4, 16];

/** Notes what comes to it, with the options that a server can set. */
class NotedNode extends MemoryNode {
  readonly notes: string[] = [];
  /** Reads wait until it is settled. */
  gate: Promise<void> | null = null;

  override read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.notes.push(`read ${guestOffset} ${target.length}`);
    const fill = () => {
      target.set(this.bytes.subarray(guestOffset, guestOffset + target.length));
    };
    if (this.gate) {
      return this.gate.then(fill);
    }
    fill();
  }

  override write(guestOffset: number, bytes: Uint8Array, options?: WriteOptions): Awaitable<void> {
    this.notes.push(`write ${guestOffset} ${bytes.length}${options?.fua === true ? ' fua' : ''}`);
    return super.write(guestOffset, bytes);
  }

  override writeZeroes(guestOffset: number, length: number, options?: ZeroOptions): Awaitable<void> {
    const set = (['fua', 'mayUnmap', 'noFallback'] as const).filter((name) => options?.[name] === true);
    this.notes.push(['zero', guestOffset, length, ...set].join(' '));
    return super.writeZeroes(guestOffset, length);
  }

  override discard(guestOffset?: number, length?: number): void {
    this.notes.push(`discard ${String(guestOffset)} ${String(length)}`);
  }

  override flush(): Promise<void> {
    this.notes.push('flush');
    return super.flush();
  }
}

let folder = '';
let sockets = 0;
const servers: NbdServer[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chainscope-exports-'));
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});
afterAll(() => rm(folder, { recursive: true }));

async function serve(exports: readonly NbdExport[], options: Partial<NbdServerOptions> = {}): Promise<{ server: NbdServer; path: string }> {
  const path = join(folder, `s${sockets++}`);
  const server = await NbdServer.listen({ exports, address: { kind: 'unix', path }, ...options });
  servers.push(server);
  return { server, path };
}

function disk(size = MIB): NotedNode {
  return new NotedNode('disk', { size, clusterSize: CLUSTER });
}

function offer(node: MemoryNode, options: Partial<NbdExport> = {}): NbdExport {
  return { name: '', description: '', node, readOnly: false, allocationDepth: false, bitmaps: [], ...options };
}

describe('each command reaches the disk with its flags', () => {
  test.each([
    ['write', { type: WRITE, offset: 512, length: 1024, payload: Buffer.alloc(1024, 7) }, ['write 512 1024']],
    ['write with FUA', { type: WRITE, flags: FUA, offset: 0, length: 512, payload: Buffer.alloc(512, 7) }, ['write 0 512 fua']],
    ['zeroes', { type: WRITE_ZEROES, offset: 0, length: CLUSTER }, [`zero 0 ${CLUSTER} mayUnmap`]],
    ['zeroes with FUA that keep their space', { type: WRITE_ZEROES, flags: FUA | NO_HOLE, length: 512 }, ['zero 0 512 fua']],
    ['fast zeroes', { type: WRITE_ZEROES, flags: FAST_ZERO, length: 512 }, ['zero 0 512 mayUnmap noFallback']],
    ['trim', { type: TRIM, offset: CLUSTER, length: CLUSTER }, [`discard ${CLUSTER} ${CLUSTER}`]],
    ['trim with FUA', { type: TRIM, flags: FUA, length: CLUSTER }, [`discard 0 ${CLUSTER}`, 'flush']],
    ['flush', { type: FLUSH }, ['flush']],
    ['cache', { type: CACHE, offset: 512, length: 512 }, ['read 512 512']],
  ])('%s', async (_, request, notes) => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node)])).path);
    expect(await client.ask(request)).toMatchObject([{ type: 0, done: true, error: 0 }]);
    expect(node.notes).toEqual(notes);
  });

  test('what a client gives up is kept where that was asked for', async () => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node, { discard: 'ignore' })])).path);
    await client.ask({ type: TRIM, length: CLUSTER });
    await client.ask({ type: WRITE_ZEROES, length: CLUSTER });
    expect(node.notes).toEqual([`zero 0 ${CLUSTER}`]);
  });

  test.each([
    ['off', ['write 0 512 fua']],
    ['on', ['zero 0 512 fua']],
    ['unmap', ['zero 0 512 fua mayUnmap']],
  ] as const)('zeroes that a client writes are found with detect-zeroes %s', async (detectZeroes, notes) => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node, { detectZeroes })])).path);
    const almost = Buffer.alloc(512);
    almost[511] = 1;
    await client.ask({ type: WRITE, flags: FUA, length: 512, payload: almost });
    await client.ask({ type: WRITE, flags: FUA, length: 512, payload: Buffer.alloc(512) });
    expect(node.notes.slice(1)).toEqual(notes);
  });

  test('what a client writes is on the disk when it is answered, where that was asked for', async () => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node, { writethrough: true })])).path);
    await client.ask({ type: WRITE, length: 512, payload: Buffer.alloc(512, 7) });
    await client.ask({ type: TRIM, length: CLUSTER });
    expect(node.notes).toEqual(['write 0 512 fua', `discard 0 ${CLUSTER}`, 'flush']);
  });

  test('a read-only disk refuses all that would change it', async () => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node, { readOnly: true })])).path);
    for (const request of [
      { type: WRITE, length: 512, payload: Buffer.alloc(512) },
      { type: TRIM, length: 512 },
      { type: WRITE_ZEROES, length: 512 },
    ]) {
      expect(await client.ask(request)).toMatchObject([{ error: 1 }]);
    }
    expect(node.notes).toEqual([]);
  });
});

describe('long reads', () => {
  /** Data in clusters 1, 2 and 5 of 8. */
  function sparse(): NotedNode {
    const node = disk(8 * CLUSTER);
    for (const cluster of [1, 2, 5]) {
      node.bytes.fill(cluster, cluster * CLUSTER, (cluster + 1) * CLUSTER);
      node.allocated[cluster] = 'data';
    }
    return node;
  }

  test('tell of holes, and join what lies in several clusters', async () => {
    const node = sparse();
    const client = await RawClient.open((await serve([offer(node)])).path);
    const chunks = await client.ask({ type: READ, length: 8 * CLUSTER });
    const shape = chunks.map(({ type, data }) => [
      type,
      Number(data.readBigUInt64BE()) / CLUSTER,
      type === 2 ? data.readUInt32BE(8) / CLUSTER : (data.length - 8) / CLUSTER,
    ]);
    expect(shape).toEqual([
      [2, 0, 1],
      [1, 1, 2],
      [2, 3, 2],
      [1, 5, 1],
      [2, 6, 2],
    ]);
    expect(node.notes).toEqual([`read ${CLUSTER} ${2 * CLUSTER}`, `read ${5 * CLUSTER} ${CLUSTER}`]);
    expect(chunks[1]?.data.subarray(8).equals(Buffer.from(node.bytes.subarray(CLUSTER, 3 * CLUSTER)))).toBe(true);
  });

  test('come in one piece when the client wants that, or knows no others', async () => {
    const path = (await serve([offer(sparse())])).path;
    const whole = await (await RawClient.open(path)).ask({ type: READ, flags: DF, length: 8 * CLUSTER });
    expect(whole.map(({ type, data }) => [type, data.length])).toEqual([[1, 8 + 8 * CLUSTER]]);
    const simple = await (await RawClient.open(path, { structured: false })).ask({ type: READ, length: 8 * CLUSTER });
    expect(simple.map(({ type, data }) => [type, data.length])).toEqual([[null, 8 * CLUSTER]]);
  });
});

describe('limits', () => {
  const HUGE = 64 * MIB;

  test('a read beyond 32 MiB is refused, and the client goes on', async () => {
    const node = new NotedNode('large', { size: HUGE, clusterSize: MIB });
    const client = await RawClient.open((await serve([offer(node)])).path);
    expect(await client.ask({ type: READ, length: 32 * MIB + 1 })).toMatchObject([{ error: EINVAL }]);
    expect(await client.ask({ type: CACHE, length: 32 * MIB + 1 })).toMatchObject([{ error: EINVAL }]);
    expect(node.notes).toEqual([]);
    expect(await client.ask({ type: FLUSH })).toMatchObject([{ error: 0 }]);
  });

  test('a write beyond 32 MiB ends the connection before its bytes are taken', async () => {
    const node = new NotedNode('large', { size: HUGE, clusterSize: MIB });
    const client = await RawClient.open((await serve([offer(node)])).path);
    client.send({ type: WRITE, length: 32 * MIB + 1 });
    await client.closed;
    expect(node.notes).toEqual([]);
  });

  test('replies of all lengths keep their bytes while a client takes them late', async () => {
    const node = disk(8 * MIB);
    const words = new Uint32Array(node.bytes.buffer, node.bytes.byteOffset, node.bytes.length / 4);
    for (let index = 0; index < words.length; index++) {
      words[index] = index;
    }
    const { path } = await serve([offer(node)]);
    const client = await RawClient.open(path, { structured: false });
    const lengths = [4096, 300 * 1024, 512, 600 * 1024, 64 * 1024, 4096];
    const reads = Array.from({ length: 120 }, (_, index) => {
      const length = lengths[index % lengths.length]!;
      return { offset: (index * 77 * 4096) % (8 * MIB - length), length };
    });
    client.socket.pause();
    for (const { offset, length } of reads.slice(0, 60)) {
      client.send({ type: READ, offset, length });
    }
    client.socket.resume();
    for (const { offset, length } of reads.slice(60)) {
      client.send({ type: READ, offset, length });
    }
    for (const [index, { offset, length }] of reads.entries()) {
      const { cookie, error, data } = await client.reply(length);
      expect({ cookie, error, same: data.equals(node.bytes.subarray(offset, offset + length)) }).toEqual({
        cookie: index + 1,
        error: 0,
        same: true,
      });
    }
    client.socket.destroy();
  });

  test('a client that floods and reads nothing waits, and others do not', async () => {
    const node = disk();
    const { path, server } = await serve([offer(node)], { closeTimeoutMs: 50 });
    const flood = await RawClient.open(path, { structured: false });
    flood.socket.pause();
    for (let request = 0; request < 1000; request++) {
      flood.send({ type: READ, length: MIB });
    }
    const other = await RawClient.open(path);
    for (let round = 0; round < 50; round++) {
      expect(await other.ask({ type: FLUSH })).toMatchObject([{ error: 0 }]);
    }
    // What was read for it fits the back-pressure and the sockets' buffers; the rest waits.
    expect(node.notes.filter((note) => note.startsWith('read')).length).toBeLessThan(10);
    // Nor does the server wait for it when it ends.
    await server.close();
    expect(server.clients).toEqual([]);
    flood.socket.destroy();
  });

  test('so do large requests that a slow disk has not answered', async () => {
    const node = new NotedNode('slow', { size: HUGE, clusterSize: MIB });
    let open: () => void = () => undefined;
    node.gate = new Promise((resolve) => {
      open = resolve;
    });
    const { path } = await serve([offer(node)]);
    const flood = await RawClient.open(path, { structured: false });
    for (let request = 0; request < 20; request++) {
      flood.send({ type: READ, length: 16 * MIB });
    }
    const other = await RawClient.open(path);
    for (let round = 0; round < 50; round++) {
      await other.ask({ type: FLUSH });
    }
    expect(node.notes.filter((note) => note.startsWith('read'))).toHaveLength(4);
    flood.socket.destroy();
    open();
  });

  test('who comes when as many wait as may is turned away', async () => {
    const { path, server } = await serve([offer(disk())], { maxClients: 1 });
    const first = await RawClient.open(path);
    const waiting = Array.from({ length: 100 }, () => connect(path).on('error', () => undefined));
    await Promise.all(waiting.map((socket) => once(socket, 'connect')));
    const late = connect(path).on('error', () => undefined);
    await once(late, 'close');
    expect(server.clients).toHaveLength(1);
    expect(await first.ask({ type: FLUSH })).toMatchObject([{ error: 0 }]);
    waiting.forEach((socket) => socket.destroy());
  });
});

describe('a client that misbehaves in the transmission', () => {
  test.each([
    ['an unknown command', { type: 99 }],
    ['an unknown flag', { type: READ, flags: 1 << 9, length: 512 }],
    ['a range past the end', { type: READ, offset: MIB - 256, length: 512 }],
    ['an offset past all numbers', { type: READ, offset: 2 ** 62, length: 512 }],
    ['a flush of a range', { type: FLUSH, length: 512 }],
    ['a status without a context', { type: 7, length: 512 }],
  ])('%s is an error of that request', async (_, request) => {
    const client = await RawClient.open((await serve([offer(disk())])).path);
    expect(await client.ask(request)).toMatchObject([{ error: EINVAL }]);
    expect(await client.ask({ type: FLUSH })).toMatchObject([{ error: 0 }]);
  });

  test('what is no request ends its connection, and no other', async () => {
    const { path } = await serve([offer(disk())]);
    const [bad, good] = [await RawClient.open(path), await RawClient.open(path)];
    bad.socket.write(Buffer.alloc(28, 0xff));
    await bad.closed;
    expect(await good.ask({ type: FLUSH })).toMatchObject([{ error: 0 }]);
  });

  test('half a write that never comes changes nothing', async () => {
    const node = disk();
    const { path, server } = await serve([offer(node)]);
    const client = await RawClient.open(path);
    const gone = new Promise<void>((resolve) => {
      server.onDidChangeClients(() => {
        if (server.clients.length === 0) {
          resolve();
        }
      });
    });
    client.send({ type: WRITE, length: 4096, payload: Buffer.alloc(1000, 1) });
    client.socket.end();
    await gone;
    expect(node.notes).toEqual([]);
  });

  test('a goodbye is heard after what came before it', async () => {
    const node = disk();
    const client = await RawClient.open((await serve([offer(node)])).path);
    client.send({ type: WRITE, length: 512, payload: Buffer.alloc(512, 1) });
    client.send({ type: DISCONNECT });
    expect(await client.reply()).toMatchObject({ cookie: 1, error: 0 });
    await client.closed;
    expect(node.notes).toEqual(['write 0 512']);
  });
});

test('exports are told apart by name, and over TCP on this machine', async () => {
  const [one, other] = [disk(), disk()];
  one.bytes.fill(1);
  other.bytes.fill(2);
  const { path } = await serve([offer(one), offer(other, { name: 'other' })]);
  const read = async (name: string) =>
    (await (await RawClient.open(path, { name, structured: false })).ask({ type: READ, length: 1 }))[0]?.data[0];
  expect([await read(''), await read('other')]).toEqual([1, 2]);
  await expect(RawClient.open(path, { name: 'third' })).rejects.toThrow('80000006');
  const { server } = await serve([offer(one)], { address: { kind: 'tcp', host: '127.0.0.1', port: 0 } });
  const socket = connect({ host: '127.0.0.1', port: server.port ?? 0 });
  const [greeting] = (await once(socket, 'data')) as [Buffer];
  expect(greeting.subarray(0, 16).toString()).toBe('NBDMAGICIHAVEOPT');
  socket.destroy();
});
