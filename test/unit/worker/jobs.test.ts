import * as fs from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';

import type { JobInfo, JobSettings } from '../../../src/protocol/jobs';
import type { EngineClient } from '../../../src/worker/client';
import { Engines } from './engines';

const MIB = 1024 ** 2;
const SETTINGS: JobSettings = { speed: MIB, onError: 'enospc', autoFinalize: true, autoDismiss: false, pace: { kind: 'full' } };

const engines = new Engines();
const engine = () => engines.start();
const at = (name: string) => engines.at(name);

beforeAll(() => {
  fs.writeFileSync(at('base.raw'), new Uint8Array(16 * MIB).fill(0x5a));
});

async function flattening(client: EngineClient, name: string): Promise<JobInfo> {
  const backing = { name: 'base.raw', format: 'raw' } as const;
  await client.manage('create', { path: at(name), format: 'qcow2', size: null, backing, options: {} });
  const image = { path: at(name), format: 'qcow2' } as const;
  const request = { type: 'stream', image, base: null, bottom: null, range: null } as const;
  expect(await client.previewJob(request)).toMatchObject({ bytesToCopy: 16 * MIB, relinked: [{ path: at(name), backing: null }] });
  return client.startJob({ request, settings: SETTINGS, withoutLocks: true });
}

/** Resolves when the list of jobs is so. */
function listed(client: EngineClient, isSo: (jobs: readonly JobInfo[]) => boolean): Promise<readonly JobInfo[]> {
  return new Promise((resolve) => {
    const listener = client.onDidChangeJobs((jobs) => {
      if (isSo(jobs)) {
        listener.dispose();
        resolve(jobs);
      }
    });
  });
}

describe('jobs', () => {
  it('are steered while they run, and stay in the list until they are dismissed', async () => {
    const client = engine();
    const { id, status } = await flattening(client, 'steered.qcow2');
    expect(status).toBe('running');
    const paused = listed(client, ([job]) => job?.status === 'paused');
    await client.tellJob(id, 'pause');
    expect(await paused).toMatchObject([{ outcome: null, speed: MIB }]);
    await expect(client.tellJob(id, 'dismiss')).rejects.toMatchObject({ code: 'request.invalid' });
    const ended = listed(client, ([job]) => job?.status === 'concluded');
    await client.setJobSpeed(id, 0);
    await client.tellJob(id, 'resume');
    expect(await ended).toMatchObject([{ outcome: 'completed', error: null }]);
    const gone = listed(client, (jobs) => jobs.length === 0);
    await client.tellJob(id, 'dismiss');
    await gone;
    const { links } = await client.describeChain({ path: at('steered.qcow2'), format: 'qcow2' });
    expect(links).toHaveLength(1);
  });

  it('fill several overlays of one image at the same time', async () => {
    const client = engine();
    const jobs = [await flattening(client, 'one.qcow2'), await flattening(client, 'two.qcow2')];
    expect(jobs.map(({ status }) => status)).toEqual(['running', 'running']);
    const ended = listed(client, (list) => list.length === 2 && list.every(({ outcome }) => outcome === 'completed'));
    await Promise.all(jobs.map(({ id }) => client.setJobSpeed(id, 0)));
    await ended;
  });

  it('leave an image to others once a guest has gone on in its base, and keep the base from them', async () => {
    const client = engine();
    const create = { format: 'qcow2', options: {} } as const;
    await client.manage('create', { ...create, path: at('low.qcow2'), size: 16 * MIB, backing: null });
    await client.manage('create', { ...create, path: at('high.qcow2'), size: null, backing: { name: 'low.qcow2', format: 'qcow2' } });
    const resize = (name: string): Promise<unknown> => {
      const params = { path: at(name), format: 'qcow2', size: 32 * MIB, shrink: false, preallocation: 'off' } as const;
      return client.manage('resize', params, { withoutLocks: true });
    };
    const image = { path: at('high.qcow2'), format: 'qcow2' } as const;
    const address = { kind: 'unix', path: at('high.sock') } as const;
    const access = { writable: true, allowRemote: false, tls: null, withoutLocks: true };
    await client.startExport({ ...image, ...access, name: '', address, cacheBytes: MIB });
    await expect(resize('high.qcow2')).rejects.toThrow(/high\.qcow2' is in use by an NBD export of this window/);
    const ready = listed(client, ([job]) => job?.status === 'ready');
    const request = { type: 'commit', image, top: null, base: null } as const;
    const { id } = await client.startJob({ request, settings: SETTINGS, withoutLocks: true });
    await ready;
    await expect(resize('high.qcow2')).rejects.toMatchObject({ code: 'file.locked' });
    const ended = listed(client, ([job]) => job?.outcome === 'completed');
    await client.tellJob(id, 'complete');
    await ended;
    await resize('high.qcow2');
    await expect(resize('low.qcow2')).rejects.toThrow(/low\.qcow2' is in use by an NBD export of this window/);
  });

  it('end with their worker, which says so; the image is as it was', async () => {
    const client = engine();
    await flattening(client, 'torn.qcow2');
    const lost = new Promise<string>((resolve) => {
      client.onDidLoseWorker(({ reason }) => resolve(reason));
    });
    await client.restart();
    expect(await lost).toBe('The engine was restarted.');
    const { links } = await client.describeChain({ path: at('torn.qcow2'), format: 'qcow2' });
    expect(links.map(({ state }) => state.kind)).toEqual(['open', 'open']);
  });
});
