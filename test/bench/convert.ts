import { execFileSync } from 'node:child_process';
import { randomBytes, randomFillSync } from 'node:crypto';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import * as path from 'node:path';

import type { BenchCase } from './case';
import { CLI, timed } from './process';

const MIB = 2 ** 20;

/** Makes a raw file of data of which a third is random. */
function writeData(file: string, mib: number): void {
  const text = randomBytes(4096).toString('hex');
  const bytes = Buffer.alloc(MIB);
  const fd = openSync(file, 'w');
  for (let done = 0; done < mib; done++) {
    for (let at = 0; at < MIB; at += 4096) {
      randomFillSync(bytes, at, 1400);
      bytes.write(text.slice(0, 2696), at + 1400);
    }
    writeSync(fd, bytes);
  }
  closeSync(fd);
}

interface Conversion {
  readonly name: string;
  readonly target: number;
  /** Of the source, in MiB. */
  readonly mib: number;
  /** Arguments that make the source of a raw file; null leaves it raw. */
  readonly source: readonly string[] | null;
  readonly from: string;
  readonly to: string;
  readonly args?: readonly string[];
}

function conversion({ name, target, mib, source, from, to, args = [] }: Conversion): BenchCase {
  let folder = '';
  const file = (suffix: string) => path.join(folder, `convert-${mib}.${suffix}`);
  const input = () => (source === null ? file('raw') : file('source'));
  const time = async (command: string, before: readonly string[]) => {
    rmSync(file('target'), { force: true });
    return timed(command, [...before, 'convert', ...args, '-f', from, '-O', to, input(), file('target')]);
  };
  const words = ['convert', ...args, '-f', from, '-O', to, 'SOURCE', 'TARGET'].join(' ');
  return {
    name,
    target,
    commands: { ours: `chainscope ${words}`, peer: `qemu-img ${words}` },
    prepare: (where) => {
      folder = where;
      writeData(file('raw'), mib);
      if (source !== null) {
        execFileSync('qemu-img', ['convert', ...source, '-f', 'raw', file('raw'), file('source')]);
      }
      // Both must write the same, or the times compare nothing.
      execFileSync(process.execPath, [CLI, 'convert', ...args, '-f', from, '-O', to, input(), file('target')]);
      execFileSync('qemu-img', ['compare', '-f', from, '-F', to, input(), file('target')]);
      return Promise.resolve();
    },
    ours: () => time(process.execPath, [CLI]),
    peer: () => time('qemu-img', []),
  };
}

const QCOW2 = ['-O', 'qcow2'];

/** Neither program flushes, unless it is told to. */
export const convertCases: readonly BenchCase[] = [
  conversion({ name: 'convert, 1 GiB, qcow2 to raw', target: 0.5, mib: 1024, source: QCOW2, from: 'qcow2', to: 'raw' }),
  conversion({ name: 'convert, 1 GiB, raw to qcow2', target: 0.5, mib: 1024, source: null, from: 'raw', to: 'qcow2' }),
  conversion({
    name: 'convert, 1 GiB, raw to qcow2, flushed',
    target: 0.5,
    mib: 1024,
    source: null,
    from: 'raw',
    to: 'qcow2',
    args: ['-t', 'writeback'],
  }),
  conversion({
    name: 'convert, 256 MiB, compressed with zlib, to raw',
    target: 0.55,
    mib: 256,
    source: [...QCOW2, '-c'],
    from: 'qcow2',
    to: 'raw',
  }),
  conversion({
    name: 'convert, 256 MiB, compressed with zstd, to raw',
    target: 0.95,
    mib: 256,
    source: [...QCOW2, '-c', '-o', 'compression_type=zstd'],
    from: 'qcow2',
    to: 'raw',
  }),
];
