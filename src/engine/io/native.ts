import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { platform } from 'node:os';

/*
 * System calls that Node does not offer. `koffi` calls them; it takes some milliseconds to load, so that happens at the first call only.
 * Where it cannot be loaded, or for a system that lacks a call, the callers do without: every byte counts as data, zeroes are written out,
 * and locks are not taken, which is said.
 */

/** A byte range for `fcntl`: `struct flock`. */
export interface FileLock {
  l_type: number;
  readonly l_whence: number;
  readonly l_start: number;
  readonly l_len: number;
  readonly l_pid: number;
}

export interface NativeCalls {
  /** The new offset, or -1. */
  lseek(fd: number, offset: number, whence: number): number;
  /** 0, or -1 with `errno`. Null where the system has no such call. */
  readonly fallocate: ((fd: number, mode: number, offset: number, length: number) => number) | null;
  /** Null where the system has no such call. */
  readonly fadvise: ((fd: number, offset: number, length: number, advice: number) => number) | null;
  /** 0, or -1 with `errno`. Null where the system has no locks of open file descriptions. */
  readonly lock: ((fd: number, command: number, range: FileLock) => number) | null;
  /** The last call's error by its POSIX name (`ENOSPC`). */
  errno(): string;
}

interface Koffi {
  load(path: null): { func(prototype: string): (...args: unknown[]) => number };
  struct(name: string, fields: Readonly<Record<string, string>>): unknown;
  errno(): number;
  readonly os: { readonly errno: Readonly<Record<string, number>> };
}

let loaded: NativeCalls | null | undefined;

/** Null where nothing can be called. */
export function nativeCalls(): NativeCalls | null {
  loaded ??= load() ?? null;
  return loaded;
}

function load(): NativeCalls | undefined {
  try {
    const koffi = build(createRequire(__filename));
    const library = koffi.load(null);
    const lseek = library.func('int64_t lseek(int fd, int64_t offset, int whence)');
    const linux = platform() === 'linux';
    const fallocate = linux ? library.func('int fallocate(int fd, int mode, int64_t offset, int64_t len)') : null;
    return {
      lseek,
      fallocate,
      fadvise: linux ? library.func('int posix_fadvise(int fd, int64_t offset, int64_t len, int advice)') : null,
      lock: linux ? lockCall(koffi, library) : null,
      errno: () => {
        const number = koffi.errno();
        return Object.entries(koffi.os.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
      },
    };
  } catch {
    // An optional native module for another platform; see above.
    return undefined;
  }
}

/** The C library's loader where it is musl, by Node's name of the architecture. */
const MUSL: Readonly<Record<string, string>> = { x64: '/lib/ld-musl-x86_64.so.1', arm64: '/lib/ld-musl-aarch64.so.1' };

/** The build for this system; the package's own loaders look in many places first, which a command line feels. */
function build(require: NodeJS.Require): Koffi {
  const home = `@koromix/koffi-${platform()}-${process.arch}`;
  const musl = MUSL[process.arch];
  const known = platform() === 'linux' && musl !== undefined && !existsSync(musl);
  for (const name of [...(known ? [`${home}/linux_${process.arch}/koffi.node`] : []), home]) {
    try {
      return require(name) as Koffi;
    } catch {
      // Not installed in this way.
    }
  }
  return require('koffi') as Koffi;
}

function lockCall(koffi: Koffi, library: ReturnType<Koffi['load']>): NativeCalls['lock'] {
  koffi.struct('chainscope_flock', { l_type: 'int16', l_whence: 'int16', l_start: 'int64', l_len: 'int64', l_pid: 'int32' });
  return library.func('int fcntl(int fd, int cmd, _Inout_ chainscope_flock *lock)');
}
