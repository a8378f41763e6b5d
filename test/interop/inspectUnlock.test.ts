import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { CallError } from '../../src/protocol/imageClient';
import { EngineClient } from '../../src/worker/client';
import type { ImageSession } from '../../src/worker/client/imageSession';
import { bundleWorker, type WorkerBundle } from '../unit/worker/bundle';
import { makeWithQemuImg, writeWithQemuIo } from './tools';

const ACTIVE = { kind: 'active' } as const;
const SECRET = ['--object', 'secret,id=s,data=open sesame'];
const LOCKED = { bytes: null, bytesNote: 'The data is encrypted.', locked: true };

const CIPHERS = { luks: 'encrypt.format=luks,encrypt.iter-time=10', aes: 'encrypt.format=aes' } as const;

let bundle: WorkerBundle;
let client: EngineClient;
beforeAll(async () => {
  bundle = await bundleWorker();
  client = new EngineClient({ workerPath: bundle.workerPath, answerGate: () => Promise.resolve({ allowed: true, reason: null }) });
  for (const [kind, options] of Object.entries(CIPHERS)) {
    const image = `${kind}.qcow2`;
    await makeWithQemuImg(['create', '-q', ...SECRET, '-f', 'qcow2', '-o', `${options},encrypt.key-secret=s`, at(image), '4M']);
    await write(image, ['write -P 7 1M 64k', 'write -P 8 2M 4k']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-u', '-b', image, '-F', 'qcow2', at(`over-${image}`), '4M']);
  }
});
afterAll(async () => {
  await client.dispose();
  await bundle.remove();
});

describe.each(Object.keys(CIPHERS))('an image encrypted with %s', (kind) => {
  const file = () => at(`${kind}.qcow2`);

  it('shows its data once it is unlocked, by guest offset and by place in the file, and not after its passphrase is taken back', async () => {
    const session = await client.openSession({ path: file(), format: 'qcow2' });
    expect((await session.call('overview', null)).notices.map(({ action }) => action)).toEqual(['unlock']);
    const locked = await guestCluster(session, 1024 ** 2);
    expect(locked).toMatchObject(LOCKED);
    const { host } = locked;
    expect(await hostCluster(session, host!.hostOffset)).toMatchObject(LOCKED);
    await expect(session.call('unlock', null)).rejects.toMatchObject({ wire: { code: 'data.encrypted', file: file() } });

    await client.givePassphrase(file(), 'open sesame');
    const shown = changed(session);
    expect(await session.call('unlock', null)).toEqual({ encrypted: 1 });
    await shown;
    expect((await session.call('overview', null)).notices.map(({ action }) => action)).toEqual(['forgetPassphrases']);
    expect(new Set((await guestCluster(session, 1024 ** 2)).bytes)).toEqual(new Set([7]));
    expect(new Set((await hostCluster(session, host!.hostOffset)).bytes)).toEqual(new Set([7]));
    const partly = (await guestCluster(session, 2 * 1024 ** 2)).bytes!;
    expect(partly).toEqual(new Uint8Array(4096).fill(8));

    // What is written to it meanwhile shows in plain, too.
    await write(`${kind}.qcow2`, ['write -P 9 3M 64k']);
    while ((await guestCluster(session, 3 * 1024 ** 2)).class !== 'data') {
      await changed(session);
    }
    expect(new Set((await guestCluster(session, 3 * 1024 ** 2)).bytes)).toEqual(new Set([9]));

    const hidden = changed(session);
    await client.givePassphrase(file(), null);
    await hidden;
    expect(await guestCluster(session, 1024 ** 2)).toMatchObject(LOCKED);
    session.close();
  });

  it('shows its data below an overlay', async () => {
    const session = await client.openSession({ path: at(`over-${kind}.qcow2`), format: 'qcow2' });
    expect((await session.call('overview', null)).notices.map(({ message }) => message).join()).toMatch(/The backing file .* is encrypted/);
    expect(await guestCluster(session, 1024 ** 2)).toMatchObject(LOCKED);
    const { wire } = await refusal(session);
    expect(wire).toMatchObject({ code: 'data.encrypted' });
    await client.givePassphrase(wire.file!, 'open sesame');
    await session.call('unlock', null);
    expect(new Set((await guestCluster(session, 1024 ** 2)).bytes)).toEqual(new Set([7]));

    // Another session of the same image begins unlocked.
    const again = await client.openSession({ path: at(`over-${kind}.qcow2`), format: 'qcow2' });
    if ((await guestCluster(again, 1024 ** 2)).locked) {
      await changed(again);
    }
    expect(new Set((await guestCluster(again, 1024 ** 2)).bytes)).toEqual(new Set([7]));
    await client.givePassphrase(wire.file!, null);
    session.close();
    again.close();
  });
});

describe('a wrong passphrase', () => {
  it('is said to be one where the image can tell (LUKS)', async () => {
    const session = await client.openSession({ path: at('luks.qcow2'), format: 'qcow2' });
    await client.givePassphrase(at('luks.qcow2'), 'open barley');
    expect((await refusal(session)).wire).toMatchObject({ code: 'data.passphrase', file: at('luks.qcow2') });
    expect(await guestCluster(session, 1024 ** 2)).toMatchObject(LOCKED);
    await client.givePassphrase(at('luks.qcow2'), null);
    session.close();
  });
});

describe('an image that is not encrypted', () => {
  it('has nothing to unlock', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', at('plain.qcow2'), '1M']);
    const session = await client.openSession({ path: at('plain.qcow2'), format: 'qcow2' });
    expect(await session.call('unlock', null)).toEqual({ encrypted: 0 });
    expect((await session.call('overview', null)).notices).toEqual([]);
    session.close();
  });
});

function at(name: string): string {
  return join(bundle.folder, name);
}

/** qemu-io with the passphrase. */
async function write(image: string, commands: readonly string[]): Promise<void> {
  const options = `driver=qcow2,file.filename=${at(image)},encrypt.key-secret=s`;
  await writeWithQemuIo([...SECRET, '--image-opts', options], commands);
}

function guestCluster(session: ImageSession, offset: number) {
  return session.call('inspectCluster', { space: 'guest', offset, view: ACTIVE });
}

function hostCluster(session: ImageSession, offset: number) {
  return session.call('inspectCluster', { space: 'host', offset, view: ACTIVE });
}

/** Resolves with the session's next change. */
function changed(session: ImageSession): Promise<void> {
  return new Promise((resolve) => {
    const listener = session.onDidChange(() => {
      listener.dispose();
      resolve();
    });
  });
}

async function refusal(session: ImageSession): Promise<CallError> {
  try {
    await session.call('unlock', null);
  } catch (error) {
    return error as CallError;
  }
  throw new Error('It was unlocked.');
}
