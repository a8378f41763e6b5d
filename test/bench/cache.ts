import { execFile } from 'node:child_process';
import * as path from 'node:path';
import { promisify } from 'node:util';

import type { FigureCase } from './case';

/** One line for each protocol, as test/guest/cache.test.ts prints it. */
const TOLD = /^(NBD|HTTP): (\d+) bytes of the base for the first boot, (\d+) for the second$/gm;

let told: Promise<ReadonlyMap<string, readonly [first: number, second: number]>> | undefined;

/** Boots the guests of the suite once, whatever asks first. */
function boots(): Promise<ReadonlyMap<string, readonly [first: number, second: number]>> {
  told ??= (async () => {
    const args = [path.resolve('node_modules/vitest/vitest.mjs'), 'run', '--project=guest', '--no-color', 'test/guest/cache.test.ts'];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, NO_COLOR: '1' } });
    return new Map([...stdout.matchAll(TOLD)].map(([, protocol, first, second]) => [protocol!, [Number(first), Number(second)] as const]));
  })();
  return told;
}

function bytesOf(protocol: 'NBD' | 'HTTP', boot: 0 | 1, target: number | null): FigureCase {
  return {
    name: `a guest over a cache image, bytes read from its base over ${protocol}, ${boot === 0 ? 'first' : 'second'} boot`,
    unit: 'bytes',
    target,
    prepare: () => Promise.resolve(),
    async measure() {
      const bytes = (await boots()).get(protocol)?.[boot];
      if (bytes === undefined) {
        throw new Error('The guest suite did not tell what it read.');
      }
      return bytes;
    },
  };
}

/** The one byte that a web server is asked for tells how long the file is. */
export const cacheFigures: readonly FigureCase[] = [
  bytesOf('NBD', 0, null),
  bytesOf('NBD', 1, 0),
  bytesOf('HTTP', 0, null),
  bytesOf('HTTP', 1, 1),
];
