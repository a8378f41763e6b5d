import { execFileSync } from 'node:child_process';
import * as path from 'node:path';

import type { BenchCase } from './case';
import { writeLargeQcow2 } from './largeImages';
import { CLI, timed } from './process';

const SIZE = 32 * 2 ** 30;

/** Where the chains of this run lie; cases run one after the other. */
let inFolder = '';

function top(depth: number): string {
  return path.join(inFolder, `chain-${depth}-${depth - 1}.qcow2`);
}

/** A chain of scattered images; their data clusters are holes. */
function writeChain(depth: number): void {
  for (let level = 0; level < depth; level++) {
    const backing = level === 0 ? {} : { backing: `chain-${depth}-${level - 1}.qcow2` };
    writeLargeQcow2(path.join(inFolder, `chain-${depth}-${level}.qcow2`), {
      size: SIZE,
      share: level === 0 ? 0.5 : 0.02,
      run: 2,
      scattered: true,
      seed: 100 + level,
      ...backing,
    });
  }
}

/** Both must say the same, or the times compare nothing. */
function requireSameMap(file: string): void {
  const options = { maxBuffer: 2 ** 30 };
  const peer = execFileSync('qemu-img', ['map', '--output=json', file], options);
  if (!execFileSync(process.execPath, [CLI, 'map', '--output=json', file], options).equals(peer)) {
    throw new Error(`the maps of ${file} differ`);
  }
}

function mapCase(depth: number, target: number): BenchCase {
  return {
    name: `map --output=json, chain of ${depth}, scattered`,
    target,
    commands: { ours: 'chainscope map --output=json IMAGE', peer: 'qemu-img map --output=json IMAGE' },
    prepare: (folder) => {
      inFolder = folder;
      writeChain(depth);
      requireSameMap(top(depth));
      return Promise.resolve();
    },
    ours: () => timed(process.execPath, [CLI, 'map', '--output=json', top(depth)]),
    peer: () => timed('qemu-img', ['map', '--output=json', top(depth)]),
  };
}

export const mapCases: readonly BenchCase[] = [mapCase(1, 0.45), mapCase(10, 0.14), mapCase(100, 0.03)];
