import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';

import type { BenchCase, FigureCase } from './case';
import { CLI, residentPeak, timed } from './process';

/*
 * Our NBD server beside qemu-nbd, with clients that are not ours: `nbdload` (compiled here, from C), and nbdcopy.
 */

const MIB = 2 ** 20;
const GIB = 2 ** 30;

const READS = 100_000;
const WRITES = 60_000;
const ALLOCATING_WRITES = 12_000;
const COLD_READS = 8_000;
const DEPTH = 16;
const SPAN = GIB;

let inFolder = '';
const at = (name: string): string => path.join(inFolder, name);

interface Served {
  readonly image: string;
  readonly format: 'raw' | 'qcow2';
}

/** Serves an image while `work` runs; the server's start and end are not measured. */
async function served(
  { image, format }: Served,
  server: 'ours' | 'peer',
  work: (socket: string, pid: number | undefined) => Promise<number>,
): Promise<number> {
  const socket = at('nbd.sock');
  const options = ['-t', '-e', '8', '-f', format, '-k', socket, at(image)];
  const child =
    server === 'ours'
      ? spawn(process.execPath, [CLI, 'nbd', ...options], { stdio: ['ignore', 'ignore', 'inherit'] })
      : spawn('qemu-nbd', options, { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await listening(child, socket);
    return await work(socket, child.pid);
  } finally {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
    fs.rmSync(socket, { force: true });
  }
}

async function listening(child: ChildProcess, socket: string): Promise<void> {
  while (!fs.existsSync(socket)) {
    if (child.exitCode !== null) {
      throw new Error(`the server ended with ${child.exitCode}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function load(kind: 'read' | 'write', count: number, span = SPAN): (socket: string) => Promise<number> {
  return async (socket) => {
    const child = spawn(at('nbdload'), [socket, kind, `${count}`, `${DEPTH}`, `${span}`, '7'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    const [code] = (await once(child, 'close')) as [number];
    if (code !== 0) {
      throw new Error(`nbdload ended with ${code}`);
    }
    return Number(output);
  };
}

function qemuImg(...args: readonly string[]): void {
  execFileSync('qemu-img', args, { cwd: inFolder, stdio: ['ignore', 'ignore', 'inherit'] });
}

function prepared(name: string, make: (image: string) => void): (folder: string) => Promise<void> {
  return (folder) => {
    inFolder = folder;
    if (!fs.existsSync(at('nbdload'))) {
      execFileSync('cc', ['-O2', '-o', at('nbdload'), path.resolve('test/bench/nbdload.c')]);
    }
    if (!fs.existsSync(at(name))) {
      make(name);
    }
    return Promise.resolve();
  };
}

/** A disk full of bytes that no compression or zero detection makes less of. */
function makeRaw(image: string): void {
  const file = fs.openSync(at(image), 'w');
  const bytes = new Uint32Array(MIB / 4);
  let value = 1;
  for (let offset = 0; offset < SPAN; offset += MIB) {
    for (let i = 0; i < bytes.length; i++) {
      value = (Math.imul(value, 1664525) + 1013904223) >>> 0;
      bytes[i] = value;
    }
    fs.writeSync(file, bytes, 0, MIB, offset);
  }
  fs.closeSync(file);
}

function makeQcow2(image: string): void {
  ensureRaw();
  qemuImg('convert', '-q', '-f', 'raw', '-O', 'qcow2', 'load.raw', image);
}

function ensureRaw(): void {
  if (!fs.existsSync(at('load.raw'))) {
    makeRaw('load.raw');
  }
}

/** Ten images; each cluster lies in one of them, as overlays that were written in turn leave it. */
function makeChain(image: string): void {
  ensureRaw();
  for (let depth = 0; depth < 10; depth++) {
    const name = depth === 9 ? image : `chain-${depth}.qcow2`;
    const backing = depth === 0 ? [] : ['-b', `chain-${depth - 1}.qcow2`, '-F', 'qcow2'];
    qemuImg('create', '-q', '-f', 'qcow2', ...backing, name, `${SPAN}`);
    const commands: string[] = [];
    for (let cluster = depth; cluster < SPAN / 65536; cluster += 10) {
      commands.push(`write -P ${(cluster % 255) + 1} ${cluster * 65536} 65536`);
    }
    execFileSync('qemu-io', ['-f', 'qcow2', at(name)], { input: `${commands.join('\n')}\n`, stdio: ['pipe', 'ignore', 'inherit'] });
  }
}

/** A hundred images; each cluster lies in one of them. */
function makeDeepChain(image: string): void {
  for (let depth = 0; depth < DEEP; depth++) {
    const name = depth === DEEP - 1 ? image : `deep-${depth}.qcow2`;
    const backing = depth === 0 ? [] : ['-b', `deep-${depth - 1}.qcow2`, '-F', 'qcow2'];
    qemuImg('create', '-q', '-f', 'qcow2', ...backing, name, `${DEEP_SPAN}`);
    const commands: string[] = [];
    for (let cluster = depth; cluster < DEEP_SPAN / 65536; cluster += DEEP) {
      commands.push(`write -P ${(cluster % 255) + 1} ${cluster * 65536} 65536`);
    }
    execFileSync('qemu-io', ['-f', 'qcow2', at(name)], { input: `${commands.join('\n')}\n`, stdio: ['pipe', 'ignore', 'inherit'] });
  }
  qemuImg('convert', '-q', '-f', 'qcow2', '-O', 'qcow2', image, FLAT.image);
}

/** 64 TiB, every cluster mapped: 256 MiB of L2 tables. Where their data would lie the file has ended. For reading only. */
function makeHuge(image: string): void {
  qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=2M', image, `${HUGE_SPAN}`);
  const file = fs.openSync(at(image), 'r+');
  const header = new DataView(new ArrayBuffer(48));
  fs.readSync(file, header, 0, 48, 0);
  const [l1Size, l1Offset] = [header.getUint32(36), header.getUint32(40) * 2 ** 32 + header.getUint32(44)];
  const cluster = 2 * MIB;
  const first = Math.ceil(fs.fstatSync(file).size / cluster) * cluster;
  const [l1, table] = [new DataView(new ArrayBuffer(l1Size * 8)), new DataView(new ArrayBuffer(cluster))];
  for (let index = 0; index < l1Size; index++) {
    const offset = first + index * cluster;
    l1.setUint32(index * 8, 0x80000000);
    l1.setUint32(index * 8 + 4, offset);
    for (let entry = 0; entry < cluster; entry += 8) {
      table.setUint32(entry, (0x80000000 | (1 + (entry % 4096))) >>> 0);
    }
    fs.writeSync(file, table, 0, cluster, offset);
  }
  fs.writeSync(file, l1, 0, l1.byteLength, l1Offset);
  fs.closeSync(file);
}

const DEEP = 100;
const DEEP_SPAN = 128 * MIB;
const HUGE_SPAN = 64 * 1024 * GIB;
const DEEP_CHAIN = { image: 'deep.qcow2', format: 'qcow2' } as const;
const FLAT = { image: 'flat.qcow2', format: 'qcow2' } as const;
const HUGE = { image: 'huge.qcow2', format: 'qcow2' } as const;

const RAW = { image: 'load.raw', format: 'raw' } as const;
const QCOW2 = { image: 'load.qcow2', format: 'qcow2' } as const;
const CHAIN = { image: 'chain.qcow2', format: 'qcow2' } as const;
const EMPTY = { image: 'empty.qcow2', format: 'qcow2' } as const;

const COMMANDS = { ours: 'chainscope nbd -t -e 8 -f FORMAT -k SOCKET IMAGE', peer: 'qemu-nbd -t -e 8 -f FORMAT -k SOCKET IMAGE' };

interface Measured {
  readonly name: string;
  readonly target: number;
  readonly disk: Served;
  readonly make: (image: string) => void;
  readonly work: (socket: string) => Promise<number>;
  /** Before each run, with no server there. */
  readonly before?: () => void;
}

function nbdCase({ name, target, disk, make, work, before }: Measured): BenchCase {
  const measure = (server: 'ours' | 'peer') => () => {
    before?.();
    return served(disk, server, work);
  };
  return { name, target, commands: COMMANDS, prepare: prepared(disk.image, make), ours: measure('ours'), peer: measure('peer') };
}

/** What the page cache holds of an image is given up. */
function goCold(image: string): void {
  execFileSync('dd', [`of=${at(image)}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' });
}

const copy = (socket: string): Promise<number> => timed('nbdcopy', [`nbd+unix:///?socket=${socket}`, 'null:']);

export const nbdCases: readonly BenchCase[] = [
  nbdCase({ name: 'NBD server, random 4 KiB reads, raw', target: 0.45, disk: RAW, make: makeRaw, work: load('read', READS) }),
  nbdCase({ name: 'NBD server, random 4 KiB reads, qcow2', target: 0.35, disk: QCOW2, make: makeQcow2, work: load('read', READS) }),
  nbdCase({ name: 'NBD server, random 4 KiB reads, chain of 10', target: 0.25, disk: CHAIN, make: makeChain, work: load('read', READS) }),
  nbdCase({
    name: 'NBD server, random 4 KiB reads, qcow2, cold',
    target: 1,
    disk: QCOW2,
    make: makeQcow2,
    work: load('read', COLD_READS),
    before: () => {
      goCold(QCOW2.image);
    },
  }),
  nbdCase({
    name: 'NBD server, random 4 KiB writes in place, qcow2',
    target: 0.8,
    disk: QCOW2,
    make: makeQcow2,
    work: load('write', WRITES),
  }),
  nbdCase({
    name: 'NBD server, random 4 KiB writes that allocate, qcow2',
    target: 0.8,
    disk: EMPTY,
    make: () => undefined,
    work: load('write', ALLOCATING_WRITES),
    before: () => {
      qemuImg('create', '-q', '-f', 'qcow2', EMPTY.image, `${SPAN}`);
    },
  }),
  nbdCase({ name: 'NBD server, nbdcopy, qcow2', target: 0.8, disk: QCOW2, make: makeQcow2, work: copy }),
  nbdCase({ name: 'NBD server, nbdcopy, chain of 10', target: 0.8, disk: CHAIN, make: makeChain, work: copy }),
];

function depthFigure(server: 'ours' | 'peer', name: string, target: number | null): FigureCase {
  const work = load('read', READS / 2, DEEP_SPAN);
  return {
    name,
    unit: 'ratio',
    target,
    prepare: prepared(DEEP_CHAIN.image, makeDeepChain),
    measure: async () => (await served(DEEP_CHAIN, server, work)) / (await served(FLAT, server, work)),
  };
}

export const nbdFigures: readonly FigureCase[] = [
  depthFigure('ours', 'NBD server, random 4 KiB reads, chain of 100 / chain of 1', 1.2),
  depthFigure('peer', 'the same with qemu-nbd', null),
  {
    name: 'NBD server, random reads over 64 TiB, peak memory of the process (cache 32 MiB)',
    unit: 'MiB',
    target: 96,
    prepare: prepared(HUGE.image, makeHuge),
    measure: () =>
      served(HUGE, 'ours', async (socket, pid) => {
        await load('read', READS, HUGE_SPAN)(socket);
        return residentPeak(pid);
      }),
  },
];
