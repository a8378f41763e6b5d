import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nbdkit, type RunningServer } from './nbdServers';
import { Random, testSeed } from './random';

/** A raw disk on an NBD server that writes down who reads what. */
export interface CountedBase extends RunningServer {
  /** Every read since the server was started, in order. */
  reads(): Promise<readonly { readonly offset: number; readonly length: number }[]>;
  /** Bytes of all those reads. */
  bytesRead(): Promise<number>;
}

let count = 0;

/** Serves a file with nbdkit for reading. */
export async function serveCounted(folder: string, file: string): Promise<CountedBase> {
  const log = join(folder, `reads${count++}`);
  const server = await nbdkit(folder, ['-r', '--filter=log', 'file', file, `logfile=${log}`]);
  const reads = async () => {
    const lines = await readFile(log, 'utf8');
    return [...lines.matchAll(/ Read id=\d+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+)/g)].map(([, offset, length]) => ({
      offset: Number(offset),
      length: Number(length),
    }));
  };
  return { ...server, reads, bytesRead: async () => (await reads()).reduce((bytes, { length }) => bytes + length, 0) };
}

const MIB = 2 ** 20;

/** The same with a new disk, `base.raw`: noise, but for every fourth MiB, which is zeroes. */
export async function serveNoise(folder: string, size: number): Promise<CountedBase> {
  const random = new Random(testSeed());
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; at += 512) {
    content.fill((at / MIB) % 4 < 3 ? random.between(1, 255) : 0, at, at + 512);
  }
  const file = join(folder, 'base.raw');
  await writeFile(file, content);
  return serveCounted(folder, file);
}
