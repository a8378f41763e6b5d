import { once } from 'node:events';
import { watch } from 'node:fs';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { EngineError } from '../../src/engine/errors';
import { NbdClient } from '../../src/engine/nbd/client/nbdClient';
import { chainscopeNbd, type RunningServer } from './nbdServers';
import { spawnKept } from './processes';
import { Random, testCases, testSeed } from './random';
import { CLI, makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* The process is killed in the middle of its work; what qemu-img finds then decides. */

const seed = testSeed();
const SECTOR = 512;
const SIZE = 6 * 2 ** 20;
const SECTORS = SIZE / SECTOR;
const CLIENTS = 3;
/** Neighbouring stripes belong to different clients, so that they meet in clusters. */
const STRIPE = 8;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);

beforeAll(async () => {
  folder = await temporaryFolder('kill');
});

afterAll(async () => {
  await folder.dispose();
});

/** A sector as a number all through it: what the base has, or which write it comes from. */
function fill(target: Uint8Array, sector: number, count: number, id: number): void {
  new Uint32Array(target.buffer, target.byteOffset + sector * SECTOR, (count * SECTOR) / 4).fill(id);
}

/** What each sector may be after a kill. */
class Model {
  readonly durable = new Uint32Array(SECTORS);
  private readonly since = new Map<number, Set<number>>();

  begin(first: number, count: number, id: number): void {
    for (let sector = first; sector < first + count; sector++) {
      const ids = this.since.get(sector) ?? new Set();
      this.since.set(sector, ids.add(id));
    }
  }

  /** A flush has ended that began after `id` was written there. */
  flushed(first: number, count: number, id: number): void {
    for (let sector = first; sector < first + count; sector++) {
      this.durable[sector] = id;
      this.since.delete(sector);
    }
  }

  /** The first sector that is what it cannot be; what it is becomes what is durable. */
  judge(disk: Uint8Array): string | null {
    const words = new Uint32Array(disk.buffer, disk.byteOffset, SIZE / 4);
    const perSector = SECTOR / 4;
    let wrong: string | null = null;
    for (let sector = 0; sector < SECTORS; sector++) {
      const id = words[sector * perSector]!;
      const torn = words.subarray(sector * perSector, (sector + 1) * perSector).some((word) => word !== id);
      if (torn || (id !== this.durable[sector] && this.since.get(sector)?.has(id) !== true)) {
        const later = [...(this.since.get(sector) ?? [])].join(' ');
        wrong ??= `sector ${sector} is ${torn ? 'torn' : id}, not ${this.durable[sector]}${later && ` or one of ${later}`}`;
      }
      this.durable[sector] = id;
    }
    this.since.clear();
    return wrong;
  }
}

/** One of the clients: writes its own stripes, a few at a time, and flushes now and then; until the server is gone. */
async function work(client: NbdClient, own: number, random: Random, model: Model, ids: { next: number }, tick: () => void): Promise<void> {
  let dirty: { readonly first: number; readonly count: number; readonly id: number }[] = [];
  for (;;) {
    const batch = new Map<number, { readonly first: number; readonly count: number; readonly id: number; readonly fua: boolean }>();
    for (let i = random.between(1, 4); i > 0; i--) {
      // Half of them close together.
      const stripes = Math.floor(SECTORS / STRIPE / CLIENTS);
      const stripe = random.below(random.chance(0.5) ? 40 : stripes) * CLIENTS + own;
      const offset = random.below(STRIPE);
      const write = {
        first: stripe * STRIPE + offset,
        count: random.between(1, STRIPE - offset),
        id: ids.next++,
        fua: random.chance(0.05),
      };
      if (!batch.has(stripe)) {
        batch.set(stripe, write);
      }
    }
    await Promise.all(
      [...batch.values()].map(async ({ first, count, id, fua }) => {
        const zeroes = random.chance(0.15);
        const bytes = new Uint8Array(count * SECTOR);
        fill(bytes, 0, count, zeroes ? 0 : id);
        const written = { first, count, id: zeroes ? 0 : id };
        model.begin(first, count, written.id);
        tick();
        await (zeroes
          ? client.writeZeroes(first * SECTOR, count * SECTOR, { unmap: random.chance(0.5) })
          : client.write(first * SECTOR, bytes, { fua }));
        if (fua && !zeroes) {
          model.flushed(first, count, id);
        }
        dirty = [...dirty, written];
      }),
    );
    if (random.chance(0.3)) {
      tick();
      await client.flush();
      // In the order in which they were written.
      for (const { first, count, id } of dirty) {
        model.flushed(first, count, id);
      }
      dirty = [];
    }
  }
}

interface Overlay {
  readonly name: string;
  readonly format: 'qcow2' | 'qed';
  readonly options: string;
}

const OVERLAYS: readonly Overlay[] = [
  { name: 'usual', format: 'qcow2', options: 'cluster_size=64k' },
  { name: 'small', format: 'qcow2', options: 'cluster_size=4k' },
  { name: 'subclusters', format: 'qcow2', options: 'extended_l2=on,cluster_size=64k' },
  { name: 'lazy', format: 'qcow2', options: 'lazy_refcounts=on,cluster_size=16k' },
  { name: 'qed', format: 'qed', options: 'cluster_size=64k' },
];

/** No corruption; clusters may be leaked. An image that says that it was not closed is put in order first. */
async function expectSound({ format, name }: Overlay, path: string): Promise<void> {
  const copy = at('checked');
  await copyFile(path, copy);
  const repairs = name === 'lazy' || format === 'qed';
  const { code, stdout, stderr } = await qemuImg(['check', ...(repairs ? ['-r', 'all'] : []), '-f', format, copy]);
  expect([0, 3], `${stdout}${stderr}`).toContain(code);
}

async function readDisk(format: string, path: string): Promise<Uint8Array> {
  const raw = at('raw');
  await makeWithQemuImg(['convert', '-f', format, '-O', 'raw', path, raw]);
  return new Uint8Array(await readFile(raw));
}

describe('kill -9 of the NBD server', () => {
  it('loses nothing that was flushed, and leaves no corruption', async () => {
    const base = at('base.raw');
    await makeWithQemuImg(['create', '-q', '-f', 'raw', base, String(SIZE)]);
    await writeWithQemuIo(['-f', 'raw', base], [`write -P 17 0 ${SIZE}`]);
    const baseBytes = await readFile(base);
    for (let round = 0; round < testCases(OVERLAYS.length); round++) {
      const random = new Random(seed + round);
      const overlay = OVERLAYS[round % OVERLAYS.length]!;
      const path = at(`${round}.${overlay.format}`);
      await makeWithQemuImg(['create', '-q', '-f', overlay.format, '-o', overlay.options, '-b', base, '-F', 'raw', path]);
      const model = new Model();
      model.durable.fill(0x11111111);
      const ids = { next: 1 };
      // What the first kill leaves is opened, written and killed again.
      for (const turn of [1, 2]) {
        const killed = await killServer(overlay, path, random, model, ids);
        const context = `CHAINSCOPE_SEED=${seed + round} CHAINSCOPE_CASES=1 ${overlay.name}: kill ${turn} at request ${killed}`;
        await expectSound(overlay, path);
        expect(model.judge(await readDisk(overlay.format, path)), context).toBeNull();
      }
      expect(Buffer.compare(await readFile(base), baseBytes)).toBe(0);
    }
  });
});

/** Lets clients write until a random request is sent, and kills the server then. Returns which one it was. */
async function killServer(overlay: Overlay, path: string, random: Random, model: Model, ids: { next: number }): Promise<number> {
  const server = await chainscopeNbd(folder.path, ['-f', overlay.format, path]);
  try {
    return await killAtRequest(server, random, model, ids);
  } finally {
    await server.stop('SIGKILL');
  }
}

async function killAtRequest(server: RunningServer, random: Random, model: Model, ids: { next: number }): Promise<number> {
  const last = random.between(5, random.chance(0.5) ? 60 : 900);
  let requests = 0;
  const deaths: Promise<void>[] = [];
  const tick = (): void => {
    if (++requests === last) {
      deaths.push(server.stop('SIGKILL'));
    }
  };
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, () =>
      NbdClient.open(
        { protocol: 'nbd', socket: { type: 'unix', path: server.socket }, exportName: '', tls: false },
        { reconnectDelayMs: 0 },
      ),
    ),
  );
  const ends = await Promise.allSettled(clients.map((client, own) => work(client, own, new Random(random.bits()), model, ids, tick)));
  await Promise.all(deaths);
  for (const end of ends) {
    // Nothing else may have gone wrong.
    expect(end.status === 'rejected' && end.reason instanceof EngineError ? end.reason.code : end).toBe('network.failed');
  }
  expect(requests).toBeGreaterThanOrEqual(last);
  for (const client of clients) {
    client.close();
  }
  return last;
}

describe('kill -9 of a copy', () => {
  it.each(['qcow2', 'qed'])('commit from %s: base and overlay together are what they were, and it can be done again', async (format) => {
    for (let round = 0; round < testCases(2); round++) {
      const random = new Random(seed + round);
      const [base, overlay] = [at(`base${round}.qcow2`), at(`overlay${round}.${format}`)];
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, '16M']);
      await writeWithQemuIo(['-f', 'qcow2', base], ['write -P 1 0 5M', 'write -P 2 10M 1M']);
      await makeWithQemuImg(['create', '-q', '-f', format, '-b', base, '-F', 'qcow2', overlay]);
      await writeWithQemuIo(['-f', format, overlay], ['write -P 3 1M 3M', 'write -P 4 6M 7M', 'write -z 10M 512k']);
      const before = await readDisk(format, overlay);
      await killAtChange(['commit', '-f', format, overlay], base, random.between(1, 30));
      const { code, stdout, stderr } = await qemuImg(['check', '-f', 'qcow2', base]);
      expect([0, 3], `${stdout}${stderr}`).toContain(code);
      await expectSound({ name: '', format: format === 'qed' ? 'qed' : 'qcow2', options: '' }, overlay);
      expect(Buffer.compare(await readDisk(format, overlay), before)).toBe(0);
      await runToEnd(['commit', '-f', format, overlay]);
      expect(Buffer.compare(await readDisk(format, overlay), before)).toBe(0);
      expect(Buffer.compare(await readDisk('qcow2', base), before)).toBe(0);
    }
  });

  it('convert: the source stays as it is, and it can be done again', async () => {
    const random = new Random(seed);
    const [source, target] = [at('source.qcow2'), at('target.qcow2')];
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', source, '32M']);
    await writeWithQemuIo(['-f', 'qcow2', source], ['write -P 3 1M 10M', 'write -P 4 15M 15M']);
    const before = await readFile(source);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', target, '32M']);
    await killAtChange(['convert', '-n', '-O', 'qcow2', source, target], target, random.between(1, 20));
    expect(Buffer.compare(await readFile(source), before)).toBe(0);
    const { code } = await qemuImg(['check', '-f', 'qcow2', target]);
    expect([0, 3]).toContain(code);
    await runToEnd(['convert', '-n', '-O', 'qcow2', source, target]);
    expect((await qemuImg(['compare', source, target])).code).toBe(0);
  });
});

/** Runs our command line and kills it when a file was changed so often; it may have ended before. */
async function killAtChange(args: readonly string[], file: string, changes: number): Promise<void> {
  const watcher = watch(file);
  const child = spawnKept(process.execPath, [CLI, ...args], { stdio: 'ignore' });
  let seen = 0;
  watcher.on('change', () => {
    if (++seen === changes) {
      child.kill('SIGKILL');
    }
  });
  await once(child, 'exit');
  watcher.close();
}

async function runToEnd(args: readonly string[]): Promise<void> {
  const child = spawnKept(process.execPath, [CLI, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  expect(await once(child, 'exit')).toEqual([0, null]);
}
