import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { ExportInfo, ExportParams } from '../../src/protocol/exports';
import { EngineClient } from '../../src/worker/client';
import { endProcess, spawnKept } from './processes';
import { CLI } from './tools';

const MIB = 1024 ** 2;

let folder: string;

beforeAll(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'chainscope-connections-'));
});

afterAll(() => {
  fs.rmSync(folder, { recursive: true });
});

function engine(): EngineClient {
  return new EngineClient({
    workerPath: path.join(path.dirname(CLI), 'worker.js'),
    answerGate: () => Promise.resolve({ allowed: true, reason: null }),
  });
}

function at(name: string): string {
  return path.join(folder, name);
}

function params(name: string, format: 'raw' | 'qcow2', address: ExportParams['address']): ExportParams {
  const common = { name: '', writable: false, allowRemote: false, tls: null, withoutLocks: true, cacheBytes: MIB };
  return { path: at(name), format, address, ...common };
}

test("an export says when the server of its backing file is gone, and the export's reader waits", async () => {
  fs.writeFileSync(at('base.raw'), new Uint8Array(16 * MIB).fill(7));
  const [far, near] = [engine(), engine()];
  try {
    const { uri } = await far.startExport(params('base.raw', 'raw', { kind: 'tcp', host: '127.0.0.1', port: 0 }));
    const { hostname: host, port } = new URL(uri);
    // Tried again for longer than any machine takes to look at it.
    const base = `json:${JSON.stringify({ driver: 'nbd', host, port, 'reconnect-delay': 3600 })}`;
    await near.manage('create', {
      path: at('top.qcow2'),
      format: 'qcow2',
      size: 16 * MIB,
      backing: { name: base, format: 'raw' },
      options: {},
    });
    const { uri: served, unreachable } = await near.startExport(params('top.qcow2', 'qcow2', { kind: 'unix', path: at('top.sock') }));
    expect(unreachable).toEqual([]);
    const told = new Promise<ExportInfo>((resolve) => {
      near.onDidChangeExports(([info]) => {
        if (info !== undefined && info.unreachable.length > 0) {
          resolve(info);
        }
      });
    });
    await far.dispose();
    const reader = spawnKept('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 64k', served], { stdio: 'ignore' });
    expect((await told).unreachable).toEqual([{ name: uri.replace(/\/$/, ''), state: 'retrying' }]);
    // Whoever looks at the chain is told at once what the export knows; asked anew, the server is found to be gone.
    const look = async (fresh: boolean) => (await near.describeChain({ path: at('top.qcow2'), format: 'qcow2', fresh })).links[1];
    expect((await look(false))?.state).toMatchObject({ kind: 'unreadable', server: 'retrying' });
    expect((await look(true))?.state).toMatchObject({ kind: 'unreadable', server: 'offline' });
    await endProcess(reader);
  } finally {
    await Promise.all([far.dispose(), near.dispose()]);
  }
});
