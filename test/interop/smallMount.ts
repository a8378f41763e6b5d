import { mkdtemp, rm } from 'node:fs/promises';
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
export async function mountSmall(bytes: number): Promise<SmallMount> {
  const path = await mkdtemp(join(tmpdir(), 'chainscope-mount-'));
  const { code, stderr } = await runTool('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path]);
  if (code !== 0) {
    await rm(path, { recursive: true });
    throw new Error(`A tmpfs must be mounted at ${path}, which needs root and CAP_SYS_ADMIN: ${stderr}`);
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
    },
  };
}
