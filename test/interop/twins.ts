import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chainscope, qemuImg, temporaryFolder, type Outcome } from './tools';

/** Two folders that the same is done in: by qemu-img, and by our command line. */
export interface Twins {
  readonly path: string;
  readonly theirs: string;
  readonly ours: string;
  /** In both folders. */
  both(work: (cwd: string) => Promise<unknown>): Promise<void>;
  run(args: readonly string[]): Promise<{ readonly theirs: Outcome; readonly ours: Outcome }>;
  dispose(): Promise<void>;
}

export async function twinFolders(name: string): Promise<Twins> {
  const folder = await temporaryFolder(name);
  const theirs = join(folder.path, 'theirs');
  const ours = join(folder.path, 'ours');
  mkdirSync(theirs);
  mkdirSync(ours);
  return {
    path: folder.path,
    theirs,
    ours,
    both: async (work) => {
      await Promise.all([work(theirs), work(ours)]);
    },
    run: async (args) => {
      const [left, right] = await Promise.all([qemuImg(args, { cwd: theirs }), chainscope(args, { cwd: ours })]);
      return { theirs: left, ours: right };
    },
    dispose: () => folder.dispose(),
  };
}

/**
 * What was printed for people, without what is no message of the command's own: our program says once which file does not open, qemu-img
 * twice; node names are random.
 */
export function messages(stderr: string): string {
  return stderr
    .replace(/Could not open '([^']*)': (?=Could not open)/g, '')
    .replaceAll(/#block\d+/g, '#block')
    .trimEnd();
}

/** How a command ended, to be compared. */
export function ending({ code, stdout, stderr }: Outcome): object {
  return { code, stdout, stderr: messages(stderr) };
}
