import { createRequire } from 'node:module';
import { platform } from 'node:os';

/**
 * Finding holes needs lseek(SEEK_DATA / SEEK_HOLE), which Node does not offer. `koffi` calls it; it is loaded at the first sparse file
 * only, and where it cannot be loaded every byte counts as data.
 */
export interface HoleFinder {
  /** First byte at or after `offset` that is data, or -1 when only a hole follows. */
  nextData(fd: number, offset: number): number;
  /** First byte at or after `offset` that lies in a hole; the end of the file counts as one. */
  nextHole(fd: number, offset: number): number;
}

interface Koffi {
  load(path: null): { func(prototype: string): (fd: number, offset: number, whence: number) => number };
}

/** `whence` values differ between systems; elsewhere there is no such call. */
const WHENCE: Partial<Record<string, { data: number; hole: number }>> = {
  linux: { data: 3, hole: 4 },
  freebsd: { data: 3, hole: 4 },
  darwin: { data: 4, hole: 3 },
};

let loaded: HoleFinder | null | undefined;

/** The system's hole finder, or null where there is none. */
export function holeFinder(): HoleFinder | null {
  loaded ??= load() ?? null;
  return loaded;
}

function load(): HoleFinder | undefined {
  const whence = WHENCE[platform()];
  if (!whence) {
    return undefined;
  }
  try {
    const koffi = createRequire(__filename)('koffi') as Koffi;
    const lseek = koffi.load(null).func('int64_t lseek(int fd, int64_t offset, int whence)');
    return {
      nextData: (fd, offset) => lseek(fd, offset, whence.data),
      nextHole: (fd, offset) => lseek(fd, offset, whence.hole),
    };
  } catch {
    // An optional native module for another platform: treating everything as data is correct, only less informative.
    return undefined;
  }
}
