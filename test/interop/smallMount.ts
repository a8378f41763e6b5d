import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runTool } from './tools';

/** A small file system of its own, to be filled. */
export interface SmallMount {
  readonly path: string;
  makeReadOnly(): Promise<void>;
  dispose(): Promise<void>;
}

/** Mounts a tmpfs of so many bytes. @throws Error that says what is needed where that is not possible */
export function mountSmall(bytes: number): Promise<SmallMount> {
  return mounted(['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs'], null);
}

/** The same with an ext4 in a file, all of whose blocks anybody may use; a tmpfs, too, on a machine without loop devices. */
export async function mountSmallDisk(bytes: number): Promise<SmallMount> {
  const folder = await mkdtemp(join(tmpdir(), 'chainscope-device-'));
  const device = join(folder, 'ext4');
  await writeFile(device, '');
  await truncate(device, bytes);
  const made = await runTool('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', device]);
  if (made.code !== 0) {
    throw new Error(`No ext4 could be made: ${made.stderr}`);
  }
  try {
    return await mounted(['-o', 'loop', device], folder);
  } catch {
    // Where a tmpfs cannot be mounted either, that says why.
    await rm(folder, { recursive: true });
    return mountSmall(bytes);
  }
}

/** Fills a file system until not even a kilobyte fits. @throws Error where that does not end */
export async function fillUp({ path }: SmallMount): Promise<void> {
  for (const [index, block] of [65536, 1024, 65536, 1024].entries()) {
    // What was written and not placed yet counts for more than it takes.
    await runTool('sync', ['-f', path]);
    const { stderr } = await runTool('dd', ['if=/dev/zero', `of=${join(path, `filler${index}`)}`, `bs=${block}`]);
    if (!stderr.includes('No space left on device')) {
      throw new Error(`${path} does not get full: ${stderr}`);
    }
  }
}

/** @param remains a folder that is of no use after the mount */
async function mounted(what: readonly string[], remains: string | null): Promise<SmallMount> {
  const path = await mkdtemp(join(tmpdir(), 'chainscope-mount-'));
  const { code, stderr } = await runTool('mount', [...what, path]);
  if (code !== 0) {
    await rm(path, { recursive: true });
    throw new Error(`A file system must be mounted at ${path}, which needs root and CAP_SYS_ADMIN: ${stderr}`);
  }
  return {
    path,
    async makeReadOnly() {
      const remounted = await runTool('mount', ['-o', 'remount,ro', path]);
      if (remounted.code !== 0) {
        throw new Error(`${path} cannot be made read-only: ${remounted.stderr}`);
      }
    },
    async dispose() {
      await runTool('umount', ['-l', path]);
      await rm(path, { recursive: true });
      if (remains !== null) {
        await rm(remains, { recursive: true });
      }
    },
  };
}
