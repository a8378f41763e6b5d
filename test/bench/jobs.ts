import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

import { NbdClient } from '../../src/engine/nbd/client/nbdClient';
import type { JobPace } from '../../src/protocol/jobs';
import { EngineProcess } from '../interop/startEngineProcess';
import { Random } from '../interop/random';
import { imageNode, StorageDaemon } from '../interop/storageDaemon';
import type { BenchCase, FigureCase } from './case';
import { CLI, timed } from './process';

/* Streaming beside qemu-storage-daemon's block-stream, and what a guest feels of it. */

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const EXTENT = 256 * 1024;

interface Chain {
  readonly base: string;
  /** As it is before each run. */
  readonly top: string;
}

/** A base with `mib` MiB of data scattered over a disk six times as large, and an overlay that has an eighth of them anew. */
function makeChain(folder: string, mib: number): Chain {
  const chain = { base: path.join(folder, `jobs-${mib}-base.qcow2`), top: path.join(folder, `jobs-${mib}-top.qcow2`) };
  if (fs.existsSync(chain.top)) {
    return chain;
  }
  const random = new Random(mib);
  const extents = (mib * MIB) / EXTENT;
  const slots = Array.from({ length: extents * 6 }, (_, index) => index);
  for (let index = 0; index < extents; index++) {
    const other = index + random.below(slots.length - index);
    [slots[index], slots[other]] = [slots[other]!, slots[index]!];
  }
  const writes = (count: number, length: number) =>
    slots.slice(0, count).map((slot, index) => `write -P ${(index % 255) + 1} ${slot * EXTENT} ${length}`);
  const write = (file: string, commands: readonly string[]) => {
    const input = `${commands.join('\n')}\n`;
    execFileSync('qemu-io', ['-t', 'unsafe', '-f', 'qcow2', file], { input, stdio: ['pipe', 'ignore', 'inherit'] });
  };
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', chain.base, `${slots.length * EXTENT}`]);
  write(chain.base, writes(extents, EXTENT));
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', chain.base, '-F', 'qcow2', chain.top]);
  write(chain.top, writes(extents / 8, EXTENT / 4));
  return chain;
}

/** A new overlay for each run, with nothing left to write of the last one. */
function fresh({ top }: Chain): string {
  const file = `${top}.run`;
  fs.copyFileSync(top, file);
  execFileSync('sync');
  return file;
}

function streaming(mib: number): BenchCase {
  let chain: Chain;
  return {
    name: `stream, ${(mib / 1024).toFixed(1)} GiB scattered over a chain of 2, on the disk`,
    target: 0.6,
    commands: { ours: 'chainscope stream TOP', peer: 'block-stream in qemu-storage-daemon, then fdatasync' },
    prepare: (folder) => {
      chain = makeChain(folder, mib);
      return Promise.resolve();
    },
    ours: () => timed(process.execPath, [CLI, 'stream', '-q', '-f', 'qcow2', fresh(chain)]),
    peer: async () => {
      const file = fresh(chain);
      const start = performance.now();
      const daemon = await StorageDaemon.start([imageNode('top', 'qcow2', file)], path.dirname(file));
      await daemon.runJob('block-stream', { device: 'top' });
      await daemon.quit();
      const fd = fs.openSync(file, 'r');
      fs.fdatasyncSync(fd);
      fs.closeSync(fd);
      return performance.now() - start;
    },
  };
}

/** `--big` adds what takes minutes. */
export const jobCases: readonly BenchCase[] = [streaming(1434), ...(process.argv.includes('--big') ? [streaming(4096)] : [])];

/** Built with the bench. */
const ENGINE = path.resolve('dist/test/bench/engineProcess.mjs');
const READS = 4000;
const WARM_READS = 500;
const BUSY_READS = 20_000;
/** A job is told something after so many reads. */
const VERB_READS = 200;
/** A guest's request, in bytes. */
const READ_BYTES = 4096;
/** A guest thinks between two requests now and then, in milliseconds. */
const THINK_MS = 2;

/** A guest's reads, one after the other, in milliseconds, the shortest first. `thinkMs`: it pauses for so long after some of them. */
async function readTimes(socket: string, reads: number, thinkMs: number, meanwhile = (): void => undefined): Promise<readonly number[]> {
  const client = await NbdClient.open({ protocol: 'nbd', socket: { type: 'unix', path: socket }, exportName: '', tls: false });
  const random = new Random(1);
  const times: number[] = [];
  const bytes = new Uint8Array(READ_BYTES);
  for (let read = 0; read < reads; read++) {
    const start = performance.now();
    await client.read(READ_BYTES * random.below(GIB / READ_BYTES), bytes);
    times.push(performance.now() - start);
    if (thinkMs > 0 && read % 8 === 0) {
      await new Promise((resolve) => setTimeout(resolve, thinkMs));
    }
    if (read % VERB_READS === 0) {
      meanwhile();
    }
  }
  client.close();
  return times.sort((a, b) => a - b);
}

function percentile99(times: readonly number[]): number {
  return times[Math.floor(times.length * 0.99)]!;
}

/** A chain with its disk served by an engine of its own, and a stream that it can be told to start. */
async function beside<T>(
  chain: Chain,
  pace: JobPace,
  work: (engine: EngineProcess, socket: string, file: string) => Promise<T>,
): Promise<T> {
  const file = fresh(chain);
  const socket = `${chain.top}.sock`;
  const image = { path: file, format: 'qcow2' } as const;
  const request = { type: 'stream', image, base: null, bottom: null, range: null } as const;
  const engine = await EngineProcess.start(ENGINE, { ...image, socket, request, settings: { pace } });
  try {
    await readTimes(socket, WARM_READS, THINK_MS);
    return await work(engine, socket, file);
  } finally {
    await engine.kill();
    fs.rmSync(socket, { force: true });
  }
}

function guestFigure(
  figure: Pick<FigureCase, 'name' | 'unit' | 'target'>,
  measure: (engine: EngineProcess, socket: string, file: string) => Promise<number>,
  pace: JobPace = { kind: 'full' },
): FigureCase {
  let chain: Chain;
  return {
    ...figure,
    prepare: (folder) => {
      chain = makeChain(folder, 1434);
      return Promise.resolve();
    },
    measure: () => beside(chain, pace, measure),
  };
}

/** How much longer than without a job, as a ratio of the 99th percentiles. */
function slowdown(thinkMs: number) {
  return async (engine: EngineProcess, socket: string): Promise<number> => {
    const alone = percentile99(await readTimes(socket, READS, thinkMs));
    await engine.startJob();
    return percentile99(await readTimes(socket, READS, thinkMs)) / alone;
  };
}

/** MiB in a second that a stream copies beside a guest that never pauses. */
async function rateBeside(engine: EngineProcess, socket: string, file: string): Promise<number> {
  await engine.startJob();
  const before = fs.statSync(file).size;
  const start = performance.now();
  await readTimes(socket, BUSY_READS, 0);
  return (fs.statSync(file).size - before) / MIB / ((performance.now() - start) / 1000);
}

/** The longest read while a stream is told one thing after the other, less the longest without one, in milliseconds. */
async function stall(engine: EngineProcess, socket: string): Promise<number> {
  const alone = (await readTimes(socket, READS, 0)).at(-1)!;
  const verbs: (() => void)[] = [() => void engine.startJob()];
  for (let time = 0; time < (READS / VERB_READS - 2) / 2; time++) {
    verbs.push(
      () => engine.tell('pause'),
      () => engine.tell('resume'),
    );
  }
  verbs.push(() => engine.tell('cancel'));
  const told = await readTimes(socket, READS, 0, () => verbs.shift()?.());
  return told.at(-1)! - alone;
}

export const jobFigures: readonly FigureCase[] = [
  guestFigure(
    { name: 'p99 of guest reads while a stream runs at full speed, to that without a job', unit: 'ratio', target: 2 },
    slowdown(THINK_MS),
  ),
  guestFigure({ name: 'the same, of a guest that never pauses', unit: 'ratio', target: 2 }, slowdown(0)),
  guestFigure({ name: 'a stream beside that guest', unit: 'MiB/s', target: null }, rateBeside),
  guestFigure(
    { name: 'p99 of guest reads while a stream waits for idle times, to that without a job', unit: 'ratio', target: 1.1 },
    slowdown(THINK_MS),
    { kind: 'idle', graceMs: 50, systemPressure: null },
  ),
  guestFigure(
    {
      name: 'longest guest read while a stream is started, paused, resumed and cancelled, past the longest without',
      unit: 'ms',
      target: 1,
    },
    stall,
  ),
];
