import { once } from 'node:events';
import { connect } from 'node:net';
import { writeFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { TrackedNode } from '../../src/engine/block/trackedNode';
import { NbdServer, type NbdServerOptions } from '../../src/engine/exports/nbdServer';
import type { NbdExport } from '../../src/engine/exports/nbdExport';
import { MemoryNode } from '../unit/block/memoryNode';
import { Random, testCases, testSeed } from './random';
import { qemuImg, runTool, temporaryFolder } from './tools';

/* Our NBD server with clients that are not ours. */

const CLUSTER = 64 * 1024;
const SIZE = 4 * 1024 * 1024 - 512;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);
beforeAll(async () => {
  folder = await temporaryFolder('nbd');
});
afterAll(() => folder.dispose());

const servers: NbdServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

let sockets = 0;

async function serve(
  exports: readonly NbdExport[],
  options: Partial<NbdServerOptions> = {},
): Promise<{ server: NbdServer; uri: string; path: string }> {
  const path = at(`s${sockets++}`);
  const server = await NbdServer.listen({ exports, address: { kind: 'unix', path }, ...options });
  servers.push(server);
  return { server, path, uri: `nbd+unix:///?socket=${path}` };
}

function offer(node: MemoryNode, options: Partial<NbdExport> = {}): NbdExport {
  return { name: '', description: '', node: new TrackedNode(node), readOnly: false, allocationDepth: true, bitmaps: [], ...options };
}

/** A disk over a base, each with some data. */
function disk(slow: Random | null = null): { top: MemoryNode; base: MemoryNode } {
  const base = new MemoryNode('base', { size: SIZE, clusterSize: CLUSTER, slow });
  const top = new MemoryNode('top', { size: SIZE, clusterSize: CLUSTER, backing: base, slow });
  for (const [node, cluster, byte] of [
    [base, 0, 1],
    [base, 3, 2],
    [top, 3, 3],
    [top, 10, 4],
  ] as const) {
    node.bytes.fill(byte, cluster * CLUSTER, (cluster + 1) * CLUSTER);
    node.allocated[cluster] = 'data';
  }
  return { top, base };
}

/** A program may end a moment before it is heard that its connections have. */
async function nobodyLeft(server: NbdServer): Promise<void> {
  while (server.clients.length > 0) {
    await new Promise<void>((resolve) => {
      const stop = server.onDidChangeClients(() => {
        stop();
        resolve();
      });
    });
  }
}

describe('real clients', () => {
  test('nbdinfo lists the exports and what they can do', async () => {
    const { uri } = await serve([
      offer(disk().top, { description: 'a disk' }),
      offer(disk().top, { name: 'second', readOnly: true, bitmaps: [{ name: 'b0', status: (_, length) => ({ dirty: true, length }) }] }),
    ]);
    const listed = JSON.parse((await runTool('nbdinfo', ['--json', '--list', uri])).stdout) as { exports: Record<string, unknown>[] };
    expect(listed.exports).toMatchObject([
      {
        'export-name': '',
        description: 'a disk',
        'export-size': SIZE,
        is_read_only: false,
        can_multi_conn: true,
        can_fast_zero: true,
        can_df: true,
        can_cache: true,
        contexts: ['base:allocation', 'qemu:allocation-depth'],
      },
      { 'export-name': 'second', is_read_only: true, contexts: ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b0'] },
    ]);
  });

  test('nbdinfo maps allocation and its depth', async () => {
    const { uri } = await serve([offer(disk().top)]);
    const map = async (what: string) => {
      const rows = JSON.parse((await runTool('nbdinfo', ['--json', `--map=${what}`, uri])).stdout) as {
        offset: number;
        length: number;
        type: number;
      }[];
      return rows.map(({ offset, length, type }) => [offset / CLUSTER, Math.ceil(length / CLUSTER), type]);
    };
    expect(await map('base:allocation')).toEqual([
      [0, 1, 0],
      [1, 2, 3],
      [3, 1, 0],
      [4, 6, 3],
      [10, 1, 0],
      [11, 53, 3],
    ]);
    expect(await map('qemu:allocation-depth')).toEqual([
      [0, 1, 2],
      [1, 2, 0],
      [3, 1, 1],
      [4, 6, 0],
      [10, 1, 1],
      [11, 53, 0],
    ]);
  });

  test('nbdcopy reads and writes all of it, over several connections', async () => {
    const { top } = disk();
    const { uri, server } = await serve([offer(top)]);
    const random = new Random(1);
    const content = Buffer.from(Array.from({ length: SIZE }, () => random.below(256)));
    content.fill(0, 5 * CLUSTER, 9 * CLUSTER);
    await writeFile(at('in.raw'), content);
    expect((await runTool('nbdcopy', [at('in.raw'), uri])).code).toBe(0);
    expect((await runTool('nbdcopy', [uri, at('out.raw')])).code).toBe(0);
    expect(Buffer.compare(await readFile(at('out.raw')), content)).toBe(0);
    await nobodyLeft(server);
  });

  const seed = testSeed();
  test.each(Array.from({ length: testCases(6) }, (_, index) => seed + index))('qemu-io and a shadow disk (seed %i)', async (caseSeed) => {
    const random = new Random(caseSeed);
    const { top } = disk(random.chance(0.5) ? new Random(caseSeed) : null);
    const shadow = Buffer.alloc(SIZE);
    await top.read(0, shadow);
    const { uri } = await serve([offer(top)]);
    const commands: string[] = [];
    for (let request = 0; request < 40; request++) {
      const offset = random.below(SIZE);
      const length = random.between(1, Math.min(SIZE - offset, 200_000));
      const byte = random.between(1, 255);
      const what = random.pick(['write', 'write -f', 'write -z', 'write -z -u', 'discard', 'flush', 'read']);
      if (what.startsWith('write')) {
        const zero = what.includes('-z');
        shadow.fill(zero ? 0 : byte, offset, offset + length);
        commands.push(`${what}${zero ? '' : ` -P ${byte}`} ${offset} ${length}`);
      } else {
        commands.push(what === 'flush' ? what : `${what} ${offset} ${length}`);
      }
    }
    const { code, stdout, stderr } = await runTool('qemu-io', [
      '-t',
      'none',
      '-f',
      'raw',
      uri,
      ...commands.flatMap((command) => ['-c', command]),
    ]);
    expect({ code, stderr, failed: /failed|error/i.exec(stdout) }).toEqual({ code: 0, stderr: '', failed: null });
    await writeFile(at('shadow.raw'), shadow);
    const compared = await qemuImg(['compare', '-f', 'raw', '-F', 'raw', at('shadow.raw'), uri]);
    expect(compared).toMatchObject({ code: 0, stdout: 'Images are identical.\n' });
  });

  test('a read-only export is not written', async () => {
    const { uri } = await serve([offer(disk().top, { readOnly: true })]);
    const { code, stderr } = await runTool('qemu-io', ['-f', 'raw', uri, '-c', 'write 0 512']);
    expect(code).toBe(1);
    expect(stderr).toContain('Permission denied');
  });
});

describe('a client that misbehaves', () => {
  async function handshake(path: string): Promise<ReturnType<typeof connect>> {
    const socket = connect(path);
    socket.on('error', () => undefined);
    await once(socket, 'data');
    return socket;
  }

  test.each(Array.from({ length: 8 }, (_, index) => testSeed() + index))(
    'with garbage loses its connection (seed %i)',
    async (caseSeed) => {
      const random = new Random(caseSeed);
      const { server, path, uri } = await serve([offer(disk().top)]);
      const socket = await handshake(path);
      // Not `once`: what the server did not read of the garbage may come back as an error before.
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.resume();
      const flags = Buffer.from([0, 0, 0, random.below(4)]);
      socket.write(Buffer.concat([flags, Buffer.from(Array.from({ length: random.between(16, 5000) }, () => random.below(256)))]));
      await closed;
      expect((await runTool('nbdinfo', ['--size', uri])).stdout.trim()).toBe(`${SIZE}`);
      await nobodyLeft(server);
    },
  );

  test('in the middle of requests harms nobody else', async () => {
    const { path, uri } = await serve([offer(disk(new Random(3)).top)]);
    const socket = await handshake(path);
    const header = Buffer.alloc(16);
    header.write('IHAVEOPT');
    header.writeUInt32BE(1, 8);
    socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), header]));
    await once(socket, 'data');
    const request = Buffer.alloc(28);
    request.writeUInt32BE(0x25609513);
    request.writeUInt32BE(100_000, 24);
    socket.write(Buffer.concat([request, request, request, request.subarray(0, 11)]));
    socket.destroy();
    expect((await runTool('nbdinfo', ['--size', uri])).stdout.trim()).toBe(`${SIZE}`);
  });

  test('and does not choose an export in time is let go', async () => {
    const { path, server } = await serve([offer(disk().top)], { handshakeTimeoutMs: 50 });
    const socket = await handshake(path);
    socket.resume();
    await nobodyLeft(server);
  });

  test('beyond the number that is served waits for its turn', async () => {
    const { path, server } = await serve([offer(disk().top)], { maxClients: 1 });
    const first = await handshake(path);
    const second = connect(path);
    second.on('error', () => undefined);
    await once(second, 'connect');
    expect(server.clients).toHaveLength(1);
    const greeted = once(second, 'data');
    first.destroy();
    expect((await greeted) as [Buffer]).toMatchObject([expect.objectContaining({ length: 18 })]);
    second.destroy();
  });
});

test('an address beyond this machine needs leave', async () => {
  const exports = [offer(disk().top)];
  await expect(NbdServer.listen({ exports, address: { kind: 'tcp', host: '0.0.0.0', port: 0 } })).rejects.toMatchObject({
    code: 'request.invalid',
  });
});
