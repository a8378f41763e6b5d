import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { writeBuiltImage } from '../../../src/engine/sample/write';
import type { GateQuestion } from '../../../src/protocol/engine';
import { CallError } from '../../../src/protocol/imageClient';
import { EngineClient } from '../../../src/worker/client';
import type { ImageChange, ImageSession } from '../../../src/worker/client/imageSession';
import { bigEndian } from '../inspect/memory';
import { bundleWorker, type WorkerBundle } from './bundle';

const ACTIVE = { kind: 'active' } as const;
/** Bytes that stand in no file here: a search for them in `endless` goes on until it is ended. */
const NOWHERE = Uint8Array.of(0xde, 0xad, 0xbe, 0xef);

let bundle: WorkerBundle;
let image: string;
let endless: string;
const questions: GateQuestion[] = [];
let allowed = false;
const clients: EngineClient[] = [];

beforeAll(async () => {
  bundle = await bundleWorker();
  image = path.join(bundle.folder, 'image.qcow2');
  const builder = new Qcow2Builder({ size: 2 ** 30, backing: { name: 'base.raw', format: 'raw' } }).write(
    0,
    new TextEncoder().encode('hello'),
  );
  writeBuiltImage(image, builder.build());
  fs.writeFileSync(path.join(bundle.folder, 'base.raw'), new Uint8Array(4096));
  endless = path.join(bundle.folder, 'endless.raw');
  fs.writeFileSync(endless, '');
  fs.truncateSync(endless, 2 ** 43);
});

afterAll(async () => {
  await bundle.remove();
});

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.dispose()));
  allowed = false;
  questions.length = 0;
});

function newClient(): EngineClient {
  const client = new EngineClient({
    workerPath: bundle.workerPath,
    answerGate: async (question) => {
      questions.push(question);
      return Promise.resolve({ allowed, reason: allowed ? null : 'outsideWorkspace' });
    },
  });
  clients.push(client);
  return client;
}

async function failure(call: Promise<unknown>): Promise<CallError> {
  const error: unknown = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CallError);
  return error as CallError;
}

/** Resolves when a search in the endless file has made some way. */
async function searching(session: ImageSession, signal?: AbortSignal): Promise<{ found: Promise<number | null> }> {
  let found: Promise<number | null> | null = null;
  await new Promise<void>((resolve, reject) => {
    found = session.call('findBytes', { pattern: NOWHERE, from: 0 }, { signal, onProgress: () => resolve() });
    found.catch(reject);
  });
  return { found: found! };
}

describe('the engine client', () => {
  it('starts a worker when something is asked of it', async () => {
    const client = newClient();
    expect(client.isRunning).toBe(false);
    expect(await client.probeFiles([image, endless, path.join(bundle.folder, 'gone')])).toEqual(['qcow2', null, null]);
    expect(client.isRunning).toBe(true);
  });

  it('answers every kind of request about an image', async () => {
    const session = await newClient().openSession({ path: image, format: null });
    const { structures, has } = await session.call('overview', null);
    expect(structures[0]?.title).toBe('qcow2 header');
    expect(has.tables).toBe(true);
    const shapes = await session.call('tables', { view: ACTIVE });
    const page = await session.call('tablePage', { table: shapes[1]!.table, first: 0, count: 3 });
    expect(page.rows.map(({ kind }) => kind)).toEqual(['data', 'unallocated', 'unallocated']);
    expect(await session.call('nextUsedRow', { table: shapes[1]!.table, row: -1, backwards: false })).toBe(0);
    const hex = await session.call('hex', { hostOffset: page.rows[0]!.targetOffset!, length: 5 });
    expect(new TextDecoder().decode(hex.bytes)).toBe('hello');
    expect(hex.regions[0]?.label).toBe('data of guest offset 0x0');
    expect(await session.call('findBytes', { pattern: new TextEncoder().encode('llo'), from: 0 })).toBe(hex.hostOffset + 2);
    const request = { space: 'host', mode: 'state', order: 'hilbert', view: ACTIVE } as const;
    const shape = await session.call('mapShape', request);
    const tile = await session.call('mapTile', { ...request, level: 0, x: 0, y: 0 });
    expect(tile.dominant).toHaveLength(65536);
    const offset = shape.clusterSize;
    const found = await session.call('mapFind', { ...request, offset });
    expect((await session.call('mapCell', { ...request, ...found, level: 0 })).offset).toBe(offset);
    expect((await session.call('usage', null)).clusters).toBe(shape.clusters);
    const report = await session.call('check', { deep: false, maxFindings: 10 });
    expect(report).toMatchObject({ exitCode: 0, format: 'qcow2' });
    expect((await session.call('locate', { address: 'c:0', space: 'guest' })).layers[0]?.class).toBe('data');
    expect((await session.call('inspectCluster', { space: 'guest', offset: 0, view: ACTIVE })).bytes?.subarray(0, 5)).toEqual(
      new TextEncoder().encode('hello'),
    );
    expect((await session.call('snapshotsAndBitmaps', null)).snapshots).toEqual([]);
  });

  it('lets errors keep their code, their sentence and their place', async () => {
    const client = newClient();
    const gone = path.join(bundle.folder, 'gone.qcow2');
    expect((await failure(client.openSession({ path: gone, format: null }))).wire).toEqual({
      code: 'file.notFound',
      message: `Could not open '${gone}': No such file or directory`,
      file: gone,
      structure: null,
      hostOffset: null,
      remedy: null,
    });
    const session = await client.openSession({ path: image, format: null });
    expect((await failure(session.call('locate', { address: '5Q', space: 'guest' }))).code).toBe('address.invalid');
    const unknown = session.call('nonsense' as 'overview', null);
    expect((await failure(unknown)).message).toBe("The engine has no method 'nonsense'.");
    session.close();
    expect((await failure(session.call('overview', null))).message).toBe('The image is no longer open.');
  });

  it('asks before it opens what an image names', async () => {
    const client = newClient();
    const { links } = await client.describeChain({ path: image, format: null });
    expect(questions).toEqual([
      {
        image,
        role: 'backing',
        recordedName: 'base.raw',
        path: fs.realpathSync(path.join(bundle.folder, 'base.raw')),
        protocol: null,
        address: null,
      },
    ]);
    expect(links[1]?.state).toEqual({ kind: 'refused', reason: 'outsideWorkspace' });
    allowed = true;
    expect((await client.describeChain({ path: image, format: null })).links[1]?.state).toEqual({ kind: 'open' });
  });

  it('answers small requests while a long one runs, and ends the long one when it is cancelled', async () => {
    const client = newClient();
    const long = await client.openSession({ path: endless, format: 'raw' });
    const short = await client.openSession({ path: image, format: null });
    const aborted = new AbortController();
    const { found } = await searching(long, aborted.signal);
    for (let round = 0; round < 10; round++) {
      expect((await short.call('overview', null)).virtualSize).toBe(2 ** 30);
    }
    aborted.abort();
    expect((await failure(found)).code).toBe('cancelled');
    expect((await failure(short.call('overview', null, { signal: AbortSignal.abort() }))).code).toBe('cancelled');
  });

  it('tells of changes on the disk, and what changed', async () => {
    const changing = path.join(bundle.folder, 'changing.qcow2');
    fs.copyFileSync(image, changing);
    const session = await newClient().openSession({ path: changing, format: null });
    const change = new Promise<ImageChange>((resolve) => session.onDidChange(resolve));
    const fd = fs.openSync(changing, 'r+');
    fs.writeSync(fd, bigEndian(2 ** 29, 8), 0, 8, 24);
    fs.closeSync(fd);
    const { links, changedFields } = await change;
    expect(changedFields).toEqual(['header.size', 'fact.virtual size']);
    expect(links[0]?.image?.virtualSize).toBe(2 ** 29);
    expect((await session.call('overview', null)).virtualSize).toBe(2 ** 29);
  });

  it('notices a base that appears', async () => {
    allowed = true;
    const overlay = path.join(bundle.folder, 'overlay.qcow2');
    writeBuiltImage(overlay, new Qcow2Builder({ size: 2 ** 20, backing: { name: 'later.raw', format: 'raw' } }).build());
    const session = await newClient().openSession({ path: overlay, format: null });
    expect((await session.call('overview', null)).chain.links[1]?.state.kind).toBe('missing');
    const change = new Promise<ImageChange>((resolve) => session.onDidChange(resolve));
    fs.writeFileSync(path.join(bundle.folder, 'later.raw'), new Uint8Array(512));
    expect((await change).links[1]?.state.kind).toBe('open');
  });
});

describe('a worker that dies', () => {
  it.each(['throw', 'exit'] as const)('in the middle of a scan (%s) is replaced, and its sessions go on', async (how) => {
    const client = newClient();
    const deaths: string[] = [];
    client.onDidDie(({ reason }) => deaths.push(reason));
    const session = await client.openSession({ path: image, format: null });
    const other = await client.openSession({ path: endless, format: 'raw' });
    const { found } = await searching(other);
    bundle.crash(how);
    const error = await failure(found);
    expect(error.code).toBe('engine.died');
    expect(error.message).toBe(how === 'throw' ? 'The engine ended: a bug' : 'The engine ended with exit code 7.');
    expect(deaths).toEqual([error.message]);
    // Nothing was closed by anybody: both answer as if nothing had happened.
    expect((await session.call('overview', null)).virtualSize).toBe(2 ** 30);
    expect((await other.call('hex', { hostOffset: 0, length: 4 })).bytes).toEqual(new Uint8Array(4));
  });

  it('goes on telling of changes', async () => {
    const changing = path.join(bundle.folder, 'changing2.qcow2');
    fs.copyFileSync(image, changing);
    const client = newClient();
    const session = await client.openSession({ path: changing, format: null });
    const died = new Promise<void>((resolve) => client.onDidDie(() => resolve()));
    bundle.crash('exit');
    await died;
    await session.call('overview', null);
    const change = new Promise<ImageChange>((resolve) => session.onDidChange(resolve));
    const fd = fs.openSync(changing, 'r+');
    fs.writeSync(fd, Uint8Array.of(1), 0, 1, 87);
    fs.closeSync(fd);
    expect((await change).changedFields).toEqual(['header.compatible_features', 'fact.lazy refcounts']);
  });

  it('again and again is started only when it is asked for', async () => {
    const client = newClient();
    const session = await client.openSession({ path: image, format: null });
    for (let death = 1; death <= 3; death++) {
      const died = new Promise<void>((resolve) => client.onDidDie(() => resolve()));
      await session.call('overview', null);
      bundle.crash('exit');
      await died;
      expect(client.isRunning).toBe(death < 3);
    }
    expect((await session.call('overview', null)).virtualSize).toBe(2 ** 30);
  });

  it('on purpose rejects what is under way', async () => {
    const client = newClient();
    const session = await client.openSession({ path: endless, format: 'raw' });
    const { found } = await searching(session);
    const ended = failure(found);
    await client.restart();
    expect((await ended).message).toBe('The engine was restarted.');
    expect((await session.call('overview', null)).fileSize).toBe(2 ** 43);
  });
});
