import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { EngineClient } from '../../src/worker/client';
import type { ImageChange, ImageSession } from '../../src/worker/client/imageSession';
import { bundleWorker, type WorkerBundle } from '../unit/worker/bundle';
import { endProcess, spawnKept } from './processes';
import { makeWithQemuImg, runTool } from './tools';

const ACTIVE = { kind: 'active' } as const;

let bundle: WorkerBundle;
let client: EngineClient;
beforeAll(async () => {
  bundle = await bundleWorker();
  client = new EngineClient({ workerPath: bundle.workerPath, answerGate: () => Promise.resolve({ allowed: true, reason: null }) });
});
afterAll(async () => {
  await client.dispose();
  await bundle.remove();
});

/** Resolves with the first change that a condition holds for. */
function changeWhere(session: ImageSession, holds: (change: ImageChange) => boolean): Promise<ImageChange> {
  return new Promise((resolve) => {
    const listener = session.onDidChange((change) => {
      if (holds(change)) {
        listener.dispose();
        resolve(change);
      }
    });
  });
}

const inUse = ({ links }: ImageChange) => links[0]?.image?.usage.inUse === true;

/** A qemu-io that keeps the image open until it is told to quit. */
function keepOpen(image: string): ChildProcess {
  return spawnKept('qemu-io', ['-f', 'qcow2', image], { stdio: ['pipe', 'ignore', 'inherit'] });
}

describe('an image that a process has open', () => {
  it('is followed: who uses it, what is written to it, and that it is given back', async () => {
    const image = join(bundle.folder, 'busy.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '64M']);
    const session = await client.openSession({ path: image, format: null });
    expect((await session.call('overview', null)).notices).toEqual([]);

    const taken = changeWhere(session, inUse);
    const guest = keepOpen(image);
    try {
      const usage = (await taken).links[0]?.image?.usage;
      expect(usage).toMatchObject({ inUse: true, writing: true, holders: [{ pid: guest.pid, command: 'qemu-io' }] });
      const [notice] = (await session.call('overview', null)).notices;
      expect(notice?.message).toMatch(new RegExp(`^In use by qemu-io \\(process ${guest.pid}\\), which may write to it\\.`));

      const cluster = await session.call('inspectCluster', { space: 'guest', offset: 0, view: ACTIVE });
      for (const command of cluster.commands) {
        const { code, stderr } = await runTool('sh', ['-c', command]);
        expect(code, `${command}\n${stderr}`).toBe(0);
      }

      const grown = changeWhere(session, () => true);
      guest.stdin?.write('write -P 7 0 64k\nflush\n');
      await grown;
      const written = changeWhere(session, () => true);
      guest.stdin?.write('write -P 8 1M 64k\nflush\n');
      await written;
      expect((await session.call('inspectCluster', { space: 'guest', offset: 0, view: ACTIVE })).bytes?.[0]).toBe(7);

      const given = changeWhere(session, (change) => !inUse(change));
      guest.stdin?.end('quit\n');
      await given;
      expect((await session.call('overview', null)).notices).toEqual([]);
    } finally {
      await endProcess(guest);
    }
    session.close();
  });
});
