import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { copyFileSync, constants, openSync, closeSync, fsyncSync, rmSync, writeSync } from 'node:fs';
import * as path from 'node:path';

import type { BenchCase } from './case';
import { CLI, timed } from './process';

const MIB = 2 ** 20;
/** Size of the disk, in MiB. */
const DISK = 1024;
/** What the overlay has of it: runs of this many KiB, scattered. */
const RUN = 256;
const RUNS = 1536;

/** Writes runs of random data in an order without a pattern, so that neighbours on the disk are none in the file. */
function scatter(image: string, seed: number): void {
  const bytes = Buffer.alloc(RUN * 1024);
  const raw = `${image}.runs`;
  randomFillSync(bytes);
  const fd = openSync(raw, 'w');
  writeSync(fd, bytes);
  closeSync(fd);
  const slots = (DISK * 1024) / RUN;
  const commands = Array.from({ length: RUNS }, (_, index) => {
    // Steps that have no divisor in common with the number of places reach all of them.
    const slot = (seed + index * 1547) % slots;
    return `write -q -s ${raw} ${slot * RUN}k ${RUN}k`;
  });
  execFileSync('qemu-io', ['-f', 'qcow2', '-t', 'unsafe', image], {
    input: `${commands.join('\n')}\nquit\n`,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  rmSync(raw);
}

/** A copy that is on the disk already: what it still had to write would be paid by whoever flushes next. */
function fresh(from: string, to: string): void {
  rmSync(to, { force: true });
  copyFileSync(from, to, constants.COPYFILE_FICLONE);
  const fd = openSync(to, 'r+');
  fsyncSync(fd);
  closeSync(fd);
}

interface Change {
  readonly name: string;
  /** Arguments after the program's, with the names of the files below. */
  readonly args: readonly string[];
}

/** An overlay on a base, both with scattered data of which a half is in both; and another base. */
function change({ name, args }: Change): BenchCase {
  let folder = '';
  const file = (suffix: string) => path.join(folder, `change-${suffix}`);
  const files = ['base.qcow2', 'overlay.qcow2', 'other.qcow2'];
  const time = async (command: string, before: readonly string[]) => {
    files.forEach((suffix) => {
      fresh(file(`${suffix}.made`), file(suffix));
    });
    return timed(command, [...before, ...args.map((arg) => (files.includes(arg) ? file(arg) : arg))]);
  };
  return {
    name,
    target: 0.8,
    commands: { ours: `chainscope ${args.join(' ')}`, peer: `qemu-img ${args.join(' ')}` },
    prepare: async (where) => {
      folder = where;
      for (const [suffix, seed] of [
        ['base.qcow2', 0],
        ['other.qcow2', 3],
        ['overlay.qcow2', 771],
      ] as const) {
        const backing = suffix === 'overlay.qcow2' ? ['-b', file('base.qcow2'), '-F', 'qcow2'] : [];
        execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, file(suffix), `${DISK * MIB}`]);
        scatter(file(suffix), seed);
        rmSync(file(`${suffix}.made`), { force: true });
        copyFileSync(file(suffix), file(`${suffix}.made`));
      }
      // Both must make the same of it, or the times compare nothing.
      await time('qemu-img', []);
      for (const suffix of ['base.qcow2', 'overlay.qcow2']) {
        execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', file(suffix), file(`${suffix}.expected`)]);
      }
      await time(process.execPath, [CLI]);
      for (const suffix of ['base.qcow2', 'overlay.qcow2']) {
        execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', file(suffix), file(`${suffix}.expected`)]);
        rmSync(file(`${suffix}.expected`));
      }
    },
    ours: () => time(process.execPath, [CLI]),
    peer: () => time('qemu-img', []),
  };
}

/** Both flush, as they do by themselves. */
export const commitCases: readonly BenchCase[] = [
  change({ name: 'commit, 384 MiB scattered, into the base', args: ['commit', '-q', '-f', 'qcow2', '-d', 'overlay.qcow2'] }),
  change({ name: 'the same, and empty the overlay', args: ['commit', '-q', '-f', 'qcow2', 'overlay.qcow2'] }),
  change({
    name: 'rebase, safe, onto another base',
    args: ['rebase', '-f', 'qcow2', '-b', 'other.qcow2', '-F', 'qcow2', 'overlay.qcow2'],
  }),
];
