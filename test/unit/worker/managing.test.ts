import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { describe, expect, it } from 'vitest';

import type { ExportInfo, ExportParams } from '../../../src/protocol/exports';
import type { EngineClient } from '../../../src/worker/client';
import { Engines } from './engines';

const MIB = 1024 ** 2;

const engines = new Engines();
const engine = () => engines.start();
const at = (name: string) => engines.at(name);

async function created(client: EngineClient, name: string): Promise<string> {
  await client.manage('create', { path: at(name), format: 'qcow2', size: 16 * MIB, backing: null, options: {} });
  return at(name);
}

function params(file: string, address: ExportParams['address']): ExportParams {
  return {
    path: file,
    format: 'qcow2',
    name: 'disk',
    writable: true,
    address,
    allowRemote: false,
    tls: null,
    withoutLocks: true,
    cacheBytes: MIB,
  };
}

/** Connects, and waits for the server's first words. */
async function connect(address: net.NetConnectOpts): Promise<net.Socket> {
  const socket = net.connect(address);
  const [greeting] = (await once(socket, 'data')) as [Buffer];
  expect(greeting.subarray(0, 8).toString('latin1')).toBe('NBDMAGIC');
  return socket;
}

describe('operations', () => {
  it('make and change an image, and tell what they do not do', async () => {
    const client = engine();
    const file = await created(client, 'made.qcow2');
    const resize = { path: file, format: 'qcow2', preallocation: 'off' } as const;
    await client.manage('resize', { ...resize, size: 32 * MIB, shrink: false }, { withoutLocks: true });
    await expect(client.manage('resize', { ...resize, size: MIB, shrink: false }, { withoutLocks: true })).rejects.toThrow(/shrink/);
    const { links } = await client.describeChain({ path: file, format: 'qcow2' });
    expect(links[0]?.image?.virtualSize).toBe(32 * MIB);
  });

  it('leave nothing behind, and what was there as it was, when they are cancelled', async () => {
    const client = engine();
    const source = at('source.raw');
    fs.writeFileSync(source, new Uint8Array(64 * MIB).fill(0x5a));
    const target = at('target.qcow2');
    fs.writeFileSync(target, 'what was there');
    const before = fs.readdirSync(engines.folder);
    const cancellation = new AbortController();
    const converting = client.manage(
      'convert',
      {
        source: { path: source, format: 'raw' },
        snapshot: null,
        target,
        targetFormat: 'qcow2',
        options: {},
        compress: true,
        salvage: false,
        bitmaps: false,
      },
      { signal: cancellation.signal, onProgress: () => cancellation.abort() },
    );
    await expect(converting).rejects.toMatchObject({ code: 'cancelled' });
    expect(fs.readdirSync(engines.folder)).toEqual(before);
    expect(fs.readFileSync(target, 'utf8')).toBe('what was there');
  });
});

describe('exports', () => {
  it('tell of their clients, and end with the window', async () => {
    const client = engine();
    const file = await created(client, 'served.qcow2');
    const told: (readonly ExportInfo[])[] = [];
    const heard = new Promise<void>((resolve) => {
      client.onDidChangeExports((exports) => {
        told.push(exports);
        if (exports[0]?.clients === 1) {
          resolve();
        }
      });
    });
    const socketPath = at('served.sock');
    const info = await client.startExport(params(file, { kind: 'unix', path: socketPath }));
    expect(info).toMatchObject({ uri: `nbd+unix:///disk?socket=${socketPath}`, size: 16 * MIB, clients: 0, writable: true });
    const socket = await connect({ path: socketPath });
    await heard;
    const closed = once(socket, 'close');
    await client.dispose();
    await closed;
    expect(fs.existsSync(socketPath)).toBe(false);
    // Its locks are gone, too.
    await engine().manage(
      'resize',
      { path: file, format: 'qcow2', size: 32 * MIB, shrink: false, preallocation: 'off' },
      { withoutLocks: true },
    );
  });

  it('take the port that the system chooses, and none beyond this machine unasked', async () => {
    const client = engine();
    const file = await created(client, 'port.qcow2');
    await expect(client.startExport(params(file, { kind: 'tcp', host: '0.0.0.0', port: 0 }))).rejects.toThrow(/allowed/);
    const { address, uri, id } = await client.startExport(params(file, { kind: 'tcp', host: '127.0.0.1', port: 0 }));
    const port = address.kind === 'tcp' ? address.port : 0;
    expect(uri).toBe(`nbd://127.0.0.1:${port}/disk`);
    const socket = await connect({ host: '127.0.0.1', port });
    const closed = once(socket, 'close');
    await client.stopExport(id);
    await closed;
    await expect(client.stopExport(id)).rejects.toThrow(/ended/);
  });

  it('keep an image from being changed by anything else', async () => {
    const client = engine();
    const file = await created(client, 'busy.qcow2');
    await client.startExport(params(file, { kind: 'unix', path: at('busy.sock') }));
    const resize = { path: file, format: 'qcow2', size: 32 * MIB, shrink: false, preallocation: 'off' } as const;
    await expect(client.manage('resize', resize, { withoutLocks: true })).rejects.toMatchObject({ code: 'file.locked' });
  });
});
