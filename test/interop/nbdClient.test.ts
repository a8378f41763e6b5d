import { once } from 'node:events';
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import * as https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Qcow2Node } from '../../src/engine/formats/qcow2/write/qcow2Node';
import { RawNode } from '../../src/engine/formats/raw/rawNode';
import { HttpFetcher } from '../../src/engine/io/http/httpFetcher';
import { loading } from '../../src/engine/io/loading';
import { parseRemoteName, type NbdAddress } from '../../src/engine/io/remote/address';
import type { Connection } from '../../src/engine/io/remote/rangeFetcher';
import { NbdClient } from '../../src/engine/nbd/client/nbdClient';
import { NbdStorage, type NbdStorageOptions } from '../../src/engine/nbd/client/nbdStorage';
import { nbdkit, qemuNbd, type RunningServer } from './nbdServers';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* Our NBD client with servers that are not ours. */

const KiB = 1024;
const MiB = 1024 * KiB;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);
beforeAll(async () => {
  folder = await temporaryFolder('nbd-client');
});
afterAll(() => folder.dispose());

const opened: { close(): void }[] = [];
const servers: RunningServer[] = [];
afterEach(async () => {
  opened.splice(0).forEach((one) => one.close());
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

function kept(server: RunningServer): RunningServer {
  servers.push(server);
  return server;
}

function nbdAddress(uri: string): NbdAddress {
  const address = parseRemoteName(uri);
  if (address.protocol !== 'nbd') {
    throw new Error(uri);
  }
  return address;
}

async function storage(uri: string, options: Partial<NbdStorageOptions> = {}): Promise<NbdStorage> {
  const result = await NbdStorage.open(nbdAddress(uri), { writable: true, ...options });
  opened.push(result);
  return result;
}

async function read(source: NbdStorage, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length);
  expect(await loading(() => source.read(target, offset))).toBe(length);
  return target;
}

function pattern(length: number, seed: number): Buffer {
  const random = new Random(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random.below(256)));
}

describe('requests', () => {
  it('reads what nbdkit serves, through a slow server with many at a time', async () => {
    const server = kept(await nbdkit(folder.path, ['--filter=delay', 'pattern', 'size=16M', 'rdelay=3ms']));
    const source = await storage(server.uri, { writable: false, blockSize: 16 * KiB });
    const parts = await Promise.all(Array.from({ length: 100 }, (_, index) => read(source, index * 150_001, 4000)));
    for (const [index, part] of parts.entries()) {
      for (let offset = index * 150_001 + 7 - ((index * 150_001 + 7) % 8), end = index * 150_001 + 3992; offset < end; offset += 8) {
        expect(part.readBigUInt64BE(offset - index * 150_001)).toBe(BigInt(offset));
      }
    }
  });

  it.each<[string, readonly string[]]>([
    ['any alignment', []],
    [
      'blocks of 512 bytes and at most 64 KiB',
      [
        '--filter=blocksize-policy',
        'blocksize-minimum=512',
        'blocksize-preferred=4096',
        'blocksize-maximum=65536',
        'blocksize-error-policy=error',
      ],
    ],
    [
      'blocks of 4096 bytes and at most 128 KiB, slowly',
      [
        '--filter=delay',
        '--filter=blocksize-policy',
        'blocksize-minimum=4096',
        'blocksize-preferred=4096',
        'blocksize-maximum=131072',
        'blocksize-error-policy=error',
        'delay-write=1ms',
      ],
    ],
    ['no zeroing, no trimming', ['--filter=nozero', '--filter=fua', 'fuamode=emulate']],
    ['no structured replies', ['--no-sr']],
  ])('writes and reads back whatever the server can: %s', async (_what, filters) => {
    const seed = testSeed();
    const size = MiB + 8 * KiB;
    const plain = filters.filter((word) => word.startsWith('-'));
    const server = kept(await nbdkit(folder.path, [...plain, 'memory', String(size), ...filters.filter((word) => !word.startsWith('-'))]));
    const target = await storage(server.uri, { blockSize: 16 * KiB, capacity: 256 * KiB });
    const random = new Random(seed);
    const model = Buffer.alloc(size);
    const busy: [number, number][] = [];
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        for (let step = 0; step < testCases(60); step++) {
          const offset = random.below(size);
          const length = Math.min(size - offset, random.between(1, random.chance(0.1) ? 300_000 : 9000));
          const kind = random.below(5);
          if (kind === 0 || busy.some(([from, to]) => from < offset + length && offset < to)) {
            const found = Buffer.alloc(length);
            const same = await loading(() => {
              target.read(found, offset);
              return found.equals(model.subarray(offset, offset + length));
            });
            expect(same, `seed ${seed}: ${length} bytes at ${offset}`).toBe(true);
            continue;
          }
          const range: [number, number] = [offset, offset + length];
          busy.push(range);
          if (kind === 1) {
            model.fill(0, offset, offset + length);
            await target.writeZeroes(offset, length, { unmap: random.chance(0.5) });
          } else if (kind === 2 && random.chance(0.2)) {
            await target.flush();
          } else {
            const bytes = pattern(length, random.bits());
            bytes.copy(model, offset);
            await target.write(bytes, offset);
            bytes.fill(0x5a);
          }
          busy.splice(busy.indexOf(range), 1);
        }
      }),
    );
    await target.flush();
    const copy = at(`copy${random.bits()}`);
    expect(await qemuImg(['convert', '-f', 'raw', '-O', 'raw', server.uri, copy])).toMatchObject({ code: 0 });
    expect((await readFile(copy)).equals(model), `seed ${seed}`).toBe(true);
    // An export does not grow.
    await expect(Promise.resolve().then(() => target.write(Buffer.alloc(1), size))).rejects.toMatchObject({ code: 'file.full' });
  });

  it('discards whole blocks and forgets what it knew of them', async () => {
    const server = kept(await nbdkit(folder.path, ['memory', '1M']));
    const target = await storage(server.uri);
    await target.write(pattern(MiB, 1), 0);
    expect((await read(target, 100_000, 4)).equals(Buffer.alloc(4))).toBe(false);
    await target.discard(64 * KiB, 512 * KiB);
    expect((await read(target, 100_000, 4)).equals(Buffer.alloc(4))).toBe(true);
  });

  it('finds holes as qemu-img map does, and sees what is written into them', async () => {
    const image = at('holes.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '8M']);
    await writeWithQemuIo([image], ['write 1M 1M', 'write -z 3M 64k', 'write 5M 4k']);
    const server = kept(await qemuNbd(folder.path, [image]));
    const target = await storage(server.uri);
    const extents: { start: number; length: number; data: boolean }[] = [];
    for (let start = 0; start < target.size;) {
      const { length, data } = await loading(() => target.extentAt(start));
      const last = extents.at(-1);
      if (last?.data === data) {
        last.length += length;
      } else {
        extents.push({ start, length, data });
      }
      start += length;
    }
    const theirs = JSON.parse((await qemuImg(['map', '--output=json', '-f', 'raw', server.uri])).stdout) as typeof extents;
    expect(extents).toEqual(theirs.map(({ start, length, data }) => ({ start, length, data })));
    await target.write(pattern(512, 3), 6 * MiB);
    expect(await loading(() => target.extentAt(6 * MiB))).toMatchObject({ data: true });
    const client = await NbdClient.open(nbdAddress(server.uri));
    opened.push(client);
    expect(client.info.contexts.has('base:allocation')).toBe(true);
  });

  it('hears of allocation depths', async () => {
    const [base, top] = [at('depth-base.qcow2'), at('depth.qcow2')];
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, '1M']);
    await writeWithQemuIo([base], ['write 0 128k']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
    await writeWithQemuIo([top], ['write 64k 64k']);
    const server = kept(await qemuNbd(folder.path, ['-A', top]));
    const client = await NbdClient.open(nbdAddress(server.uri));
    opened.push(client);
    expect(await client.blockStatus('qemu:allocation-depth', 0, MiB)).toEqual([
      { length: 64 * KiB, flags: 2 },
      { length: 64 * KiB, flags: 1 },
      { length: MiB - 128 * KiB, flags: 0 },
    ]);
    await expect(client.blockStatus('qemu:dirty-bitmap:x', 0, MiB)).rejects.toMatchObject({ code: 'request.unsupported' });
  });
});

describe('drivers on an export', () => {
  it('raw', async () => {
    const server = kept(
      await nbdkit(folder.path, ['--filter=blocksize-policy', 'memory', '1M', 'blocksize-minimum=4096', 'blocksize-error-policy=error']),
    );
    const node = new RawNode(await storage(server.uri), { nodeName: 'n', filename: server.uri, readOnly: false });
    await node.write(1000, pattern(10_000, 5), { fua: true });
    await node.writeZeroes(5000, 100);
    const expected = Buffer.alloc(MiB);
    pattern(10_000, 5).copy(expected, 1000);
    expected.fill(0, 5000, 5100);
    const all = Buffer.alloc(MiB);
    await node.read(0, all);
    expect(all.equals(expected)).toBe(true);
    await node.close();
  });

  it('qcow2: written through the export, checked by qemu-img', async () => {
    const seed = testSeed();
    const random = new Random(seed);
    const image = at('inside.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '4M']);
    // A file behind an export does not grow.
    await truncate(image, 8 * MiB);
    const server = kept(await qemuNbd(folder.path, ['-f', 'raw', image]));
    const node = await Qcow2Node.open({
      storage: await storage(server.uri, { blockSize: 4 * KiB, capacity: 256 * KiB }),
      dataStorage: null,
      backing: null,
      nodeName: 'n',
      filename: server.uri,
      readOnly: false,
    } as Parameters<typeof Qcow2Node.open>[0]);
    const model = Buffer.alloc(4 * MiB);
    for (let step = 0; step < 60; step++) {
      const offset = random.below(model.length);
      const length = Math.min(model.length - offset, random.between(1, 40_000));
      if (random.chance(0.2)) {
        model.fill(0, offset, offset + length);
        await node.writeZeroes(offset, length);
      } else {
        const bytes = pattern(length, random.bits());
        bytes.copy(model, offset);
        await node.write(offset, bytes);
      }
    }
    const found = Buffer.alloc(model.length);
    await node.read(0, found);
    expect(found.equals(model), `seed ${seed}`).toBe(true);
    await node.close();
    await server.stop();
    expect(await qemuImg(['check', '-f', 'qcow2', image])).toMatchObject({ code: 0 });
    const raw = at('inside.raw');
    await writeFile(raw, model);
    expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', image, raw])).toMatchObject({ code: 0 });
  });
});

describe('failures', () => {
  it('says what the server says, for the request alone', async () => {
    const trigger = at('trigger');
    await writeFile(trigger, '');
    const server = kept(
      await nbdkit(folder.path, [
        '--filter=error',
        'memory',
        '1M',
        'error=EIO',
        'error-rate=100%',
        `error-file=${trigger}`,
        'error-pwrite=ENOSPC',
      ]),
    );
    const target = await storage(server.uri);
    await expect(read(target, 0, 512)).rejects.toMatchObject({ code: 'file.io' });
    await expect(target.write(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'file.full' });
    await rm(trigger);
    await target.write(Buffer.alloc(512, 7), 0);
    expect((await read(target, 0, 512)).equals(Buffer.alloc(512, 7))).toBe(true);
  });

  it('says that there is no such server, no such export, no encryption, and no writing', async () => {
    await expect(storage(`nbd+unix:///?socket=${at('none')}`)).rejects.toMatchObject({ code: 'network.failed' });
    const image = at('named.raw');
    await writeFile(image, Buffer.alloc(MiB));
    const server = kept(await qemuNbd(folder.path, ['-r', '-x', 'disk', '-f', 'raw', image]));
    const uri = (name: string, scheme = 'nbd+unix') => `${scheme}:///${name}?socket=${server.socket}`;
    await expect(storage(uri('other'))).rejects.toThrow("The server has no export 'other'");
    await expect(storage(uri('disk', 'nbds+unix'))).rejects.toThrow('offers no TLS');
    await expect(storage(uri('disk'))).rejects.toMatchObject({ code: 'request.readOnly' });
    expect((await storage(uri('disk'), { writable: false })).size).toBe(MiB);
  });

  it('ends when the server is gone for good, and says so', async () => {
    const server = kept(await nbdkit(folder.path, ['--filter=exitlast', 'memory', '1M']));
    const states: Connection[] = [];
    const target = await storage(server.uri, { reconnectDelayMs: 300, onConnection: (state) => states.push(state), blockSize: 4 * KiB });
    await read(target, 0, 10);
    await server.stop('SIGKILL');
    await expect(read(target, 500_000, 10)).rejects.toMatchObject({ code: 'network.failed' });
    expect(states).toEqual(['retrying', 'offline']);
    // What is here is here.
    expect(target.read(new Uint8Array(10), 0)).toBe(10);
  });

  it('comes back to a server that was killed, with everything that was under way', async () => {
    const disk = at('restarted.raw');
    await writeFile(disk, Buffer.alloc(4 * MiB));
    const args = ['--filter=delay', 'file', disk, 'delay-write=20ms', 'rdelay=20ms'];
    let server = kept(await nbdkit(folder.path, args));
    const states: Connection[] = [];
    const target = await storage(server.uri, { onConnection: (state) => states.push(state), blockSize: 4 * KiB, reconnectDelayMs: 60_000 });
    const bytes = pattern(4 * MiB, 11);
    const writes = Array.from({ length: 64 }, (_, index) =>
      target.write(bytes.subarray(index * 64 * KiB, (index + 1) * 64 * KiB), index * 64 * KiB),
    );
    await writes[0];
    await server.stop('SIGKILL');
    await rm(server.socket, { force: true });
    const reads = Array.from({ length: 20 }, (_, index) => read(target, index * 200_000, 1000));
    server = kept(await nbdkit(folder.path, args, server.socket));
    await Promise.all(writes);
    const found = await Promise.all(reads);
    found.forEach((part, index) => expect(part.equals(bytes.subarray(index * 200_000, index * 200_000 + 1000))).toBe(true));
    await target.flush();
    expect((await readFile(disk)).equals(bytes)).toBe(true);
    expect(states).toEqual(['retrying', 'online']);
  });

  it('fails at once where nobody wants it to wait, and connects again for the next request', async () => {
    let server = kept(await nbdkit(folder.path, ['memory', '1M']));
    const target = await storage(server.uri, { reconnectDelayMs: 0, blockSize: 4 * KiB });
    await server.stop('SIGKILL');
    await rm(server.socket, { force: true });
    await expect(read(target, 0, 10)).rejects.toMatchObject({ code: 'network.failed' });
    server = kept(await nbdkit(folder.path, ['memory', '1M'], server.socket));
    await read(target, 0, 10);
  });

  it('refuses to go on with another disk', async () => {
    let server = kept(await nbdkit(folder.path, ['memory', '1M']));
    const target = await storage(server.uri, { blockSize: 4 * KiB });
    await read(target, 0, 10);
    await server.stop('SIGKILL');
    await rm(server.socket, { force: true });
    server = kept(await nbdkit(folder.path, ['memory', '2M'], server.socket));
    await expect(read(target, 500_000, 10)).rejects.toMatchObject({ code: 'network.changed' });
    expect(() => target.read(new Uint8Array(10), 0)).toThrow('changed');
  });
});

describe('TLS', () => {
  const pki = () => at('pki');

  beforeAll(async () => {
    await mkdir(pki());
    const openssl = async (...args: string[]) => {
      const { code, stderr } = await runTool('openssl', args, { cwd: pki() });
      expect(code, stderr).toBe(0);
    };
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    await openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=a test authority');
    for (const [name, extension] of [
      ['server', 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth'],
      ['client', 'extendedKeyUsage=clientAuth'],
    ] as const) {
      await openssl('req', ...key.slice(0, 5), '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
      await writeFile(join(pki(), `${name}.ext`), extension);
      await openssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        '-CA',
        'ca-cert.pem',
        '-CAkey',
        'ca-key.pem',
        '-CAcreateserial',
        '-days',
        '2',
        '-extfile',
        `${name}.ext`,
        '-out',
        `${name}-cert.pem`,
      );
    }
    await writeFile(join(pki(), 'keys.psk'), 'alice:00112233445566778899aabbccddeeff\n', { mode: 0o600 });
  });

  const pem = (name: string) => readFile(join(pki(), name), 'utf8');

  it('checks the server by certificates, and shows its own', async () => {
    const image = at('tls.raw');
    await writeFile(image, pattern(MiB, 4));
    const server = kept(
      await qemuNbd(folder.path, [
        '--object',
        `tls-creds-x509,id=t,endpoint=server,dir=${pki()},verify-peer=on`,
        '--tls-creds',
        't',
        '-f',
        'raw',
        image,
      ]),
    );
    const uri = `nbds+unix:///?socket=${server.socket}`;
    const tls = { ca: [await pem('ca-cert.pem')], certificate: await pem('client-cert.pem'), key: await pem('client-key.pem') };
    const source = await storage(uri, { tls: { ...tls, hostname: 'localhost' } });
    expect((await read(source, 1000, 100_000)).equals(pattern(MiB, 4).subarray(1000, 101_000))).toBe(true);
    await source.write(pattern(5000, 9), 77);
    expect((await read(source, 77, 5000)).equals(pattern(5000, 9))).toBe(true);
    await expect(storage(uri, { tls: { ...tls, hostname: 'another.example' } })).rejects.toMatchObject({ code: 'network.failed' });
    await expect(storage(uri, { tls: { certificate: tls.certificate, key: tls.key } })).rejects.toMatchObject({ code: 'network.failed' });
    await expect(storage(`nbd+unix:///?socket=${server.socket}`)).rejects.toThrow('requires TLS');
  });

  it('by a key that both have', async () => {
    const server = kept(await nbdkit(folder.path, ['--tls=require', `--tls-psk=${join(pki(), 'keys.psk')}`, 'pattern', '1M']));
    const uri = `nbds+unix:///?socket=${server.socket}`;
    const key = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
    const source = await storage(uri, { writable: false, tls: { psk: { username: 'alice', key } } });
    expect((await read(source, 8, 8)).readBigUInt64BE()).toBe(8n);
    await expect(storage(uri, { tls: { psk: { username: 'alice', key: Buffer.alloc(16) } } })).rejects.toMatchObject({
      code: 'network.failed',
    });
  });

  it('checks a web server too, unless told not to', async () => {
    const options = { cert: await pem('server-cert.pem'), key: await pem('server-key.pem') };
    const server = https.createServer(options, (_, response) => {
      response.writeHead(206, { ETag: '"x"', 'Content-Range': 'bytes 0-0/1000' }).end('x');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/x`);
    try {
      await expect(HttpFetcher.open(url)).rejects.toThrow('certificate is not trusted');
      for (const trusting of [{ ca: [await pem('ca-cert.pem')] }, { sslverify: false }]) {
        const fetcher = await HttpFetcher.open(url, trusting);
        expect(fetcher.size).toBe(1000);
        fetcher.close();
      }
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
