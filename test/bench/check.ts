import * as fs from 'node:fs';
import * as path from 'node:path';

import type { BenchCase, FigureCase } from './case';
import { writeLargeQcow2, type LargeImage } from './largeImages';
import { CLI, runForMemory, timed } from './process';

const GIB = 2 ** 30;

/** As `qemu-img create -o preallocation=metadata` lays it out. */
const PREALLOCATED = { name: 'preallocated-1T.qcow2', image: { size: 1024 * GIB, share: 1, run: 1, scattered: false, seed: 1 } };
/** As years of use leave it. */
const SCATTERED = { name: 'scattered-100G.qcow2', image: { size: 100 * GIB, share: 0.5, run: 1, scattered: true, seed: 2 } };

function prepare({ name, image }: { name: string; image: LargeImage }): (folder: string) => Promise<void> {
  return (folder) => {
    inFolder = folder;
    if (!fs.existsSync(path.join(folder, name))) {
      writeLargeQcow2(path.join(folder, name), image);
    }
    return Promise.resolve();
  };
}

/** Where the images of this run lie; cases run one after the other. */
let inFolder = '';

function ours(name: string): () => Promise<number> {
  return () => timed(process.execPath, [CLI, 'check', path.join(inFolder, name)]);
}

export const checkCases: readonly BenchCase[] = [
  {
    name: 'check, 1 TiB, metadata preallocated (16 M clusters)',
    target: 0.1,
    commands: { ours: 'chainscope check IMAGE', peer: 'qemu-img check IMAGE' },
    prepare: prepare(PREALLOCATED),
    ours: ours(PREALLOCATED.name),
    peer: () => timed('qemu-img', ['check', path.join(inFolder, PREALLOCATED.name)]),
  },
  {
    name: 'check, 100 GiB, half of it scattered at random; qemu-img with its default cache',
    target: 0.01,
    commands: { ours: 'chainscope check IMAGE', peer: 'qemu-img check IMAGE' },
    prepare: prepare(SCATTERED),
    ours: ours(SCATTERED.name),
    peer: () => timed('qemu-img', ['check', path.join(inFolder, SCATTERED.name)]),
  },
  {
    name: 'the same; qemu-img with refcount-cache-size=64M',
    target: 0.25,
    commands: {
      ours: 'chainscope check IMAGE',
      peer: 'qemu-img check --image-opts driver=qcow2,refcount-cache-size=64M,file.filename=IMAGE',
    },
    prepare: prepare(SCATTERED),
    ours: ours(SCATTERED.name),
    peer: () =>
      timed('qemu-img', [
        'check',
        '--image-opts',
        `driver=qcow2,refcount-cache-size=64M,file.filename=${path.join(inFolder, SCATTERED.name)}`,
      ]),
  },
];

export const checkFigures: readonly FigureCase[] = [
  {
    name: 'check of the 1 TiB image, peak memory of the process',
    unit: 'MiB',
    target: 96,
    prepare: prepare(PREALLOCATED),
    measure: async (): Promise<number> =>
      (await runForMemory(process.execPath, [CLI, 'check', path.join(inFolder, PREALLOCATED.name)])).peakMiB,
  },
];
