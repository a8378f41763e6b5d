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
/** A guest's request, in bytes. */
const READ_BYTES = 4096;
/** A guest thinks between two requests now and then, in milliseconds. */
const THINK_MS = 2;

/** The 99th percentile of a guest's reads, one after the other, in milliseconds. */
async function readLatency(socket: string, size: number, reads: number): Promise<number> {
  const client = await NbdClient.open({ protocol: 'nbd', socket: { type: 'unix', path: socket }, exportName: '', tls: false });
  const random = new Random(1);
  const times: number[] = [];
  const bytes = new Uint8Array(READ_BYTES);
  for (let read = 0; read < reads; read++) {
    const start = performance.now();
    await client.read(READ_BYTES * random.below(size / READ_BYTES), bytes);
    times.push(performance.now() - start);
    if (read % 8 === 0) {
      await new Promise((resolve) => setTimeout(resolve, THINK_MS));
    }
  }
  client.close();
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)]!;
}

function latency(name: string, target: number, pace: JobPace): FigureCase {
  let chain: Chain;
  return {
    name,
    unit: 'ratio',
    target,
    prepare: (folder) => {
      chain = makeChain(folder, 1434);
      return Promise.resolve();
    },
    measure: async () => {
      const file = fresh(chain);
      const socket = `${chain.top}.sock`;
      const image = { path: file, format: 'qcow2' } as const;
      const request = { type: 'stream', image, base: null, bottom: null, range: null } as const;
      const engine = await EngineProcess.start(ENGINE, { ...image, socket, request, settings: { pace } });
      try {
        await readLatency(socket, GIB, 500);
        const alone = await readLatency(socket, GIB, READS);
        await engine.startJob();
        return (await readLatency(socket, GIB, READS)) / alone;
      } finally {
        await engine.kill();
        fs.rmSync(socket, { force: true });
      }
    },
  };
}

export const jobFigures: readonly FigureCase[] = [
  latency('p99 of guest reads while a stream runs at full speed, to that without a job', 2, { kind: 'full' }),
  latency('p99 of guest reads while a stream waits for idle times, to that without a job', 1.1, {
    kind: 'idle',
    graceMs: 50,
    systemPressure: null,
  }),
];
