import { platform } from 'node:os';

import { nativeCalls } from './native';

/** Finds holes in files: lseek(SEEK_DATA / SEEK_HOLE). */
export interface HoleFinder {
  /** First byte at or after `offset` that is data, or -1 when only a hole follows. */
  nextData(fd: number, offset: number): number;
  /** First byte at or after `offset` that lies in a hole; the end of the file counts as one. */
  nextHole(fd: number, offset: number): number;
}

/** `whence` values differ between systems; elsewhere there is no such call. */
const WHENCE: Partial<Record<string, { data: number; hole: number }>> = {
  linux: { data: 3, hole: 4 },
  freebsd: { data: 3, hole: 4 },
  darwin: { data: 4, hole: 3 },
};

let found: HoleFinder | null | undefined;

/** The system's hole finder, or null where there is none and every byte counts as data. */
export function holeFinder(): HoleFinder | null {
  found ??= find();
  return found;
}

function find(): HoleFinder | null {
  const whence = WHENCE[platform()];
  const calls = whence && nativeCalls();
  return calls
    ? {
        nextData: (fd, offset) => calls.lseek(fd, offset, whence.data),
        nextHole: (fd, offset) => calls.lseek(fd, offset, whence.hole),
      }
    : null;
}
