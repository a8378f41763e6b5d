import { appendFile, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { GUEST } from '../../scripts/setup/guest.mjs';
import { spawnKept } from '../interop/processes';
import { runTool } from '../interop/tools';

/** Ends a machine that hangs; one boots in some seconds, on a slow computer in some minutes. */
const TIMEOUT_MS = 600_000;

export interface MachineOptions {
  /** Values of QEMU's -drive; the first is /dev/vda, and so on. */
  readonly drives: readonly string[];
  /** A script for busybox's shell, run as root with `-e`. */
  readonly script: string;
  /** Where the machine's files are made. */
  readonly folder: string;
  /** Called with each line that the guest prints, while it runs. */
  readonly onLine?: (line: string) => void;
}

/**
 * Boots Linux on an emulated machine, runs the script and waits until the machine is off.
 * @returns what the guest printed
 */
export async function runMachine({ drives, script, folder, onLine }: MachineOptions): Promise<string> {
  const initrd = await initrdWith(script, folder);
  const args = [
    ...['-M', 'pc', '-accel', 'tcg', '-cpu', 'max', '-m', '256', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', join(GUEST, 'kernel'), '-initrd', initrd, '-append', 'console=ttyS0 quiet panic=1'],
    ...drives.flatMap((drive) => ['-drive', `${drive},if=virtio`]),
  ];
  return new Promise((fulfil, reject) => {
    const child = spawnKept('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_MS, killSignal: 'SIGKILL' });
    let output = '';
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const lines = (rest + text).split(/\r?\n/);
      rest = lines.pop() ?? '';
      lines.forEach((line) => onLine?.(line));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0 && output.includes('guest ended with 0')) {
        fulfil(output);
      } else {
        reject(new Error(`The machine ended with ${signal ?? code ?? 'nothing'}:\n${output}`));
      }
    });
  });
}

/** An initial RAM disk may be several archives, one behind the other: ours is the small Linux and the script. */
async function initrdWith(script: string, folder: string): Promise<string> {
  const root = join(folder, 'initrd-root');
  await mkdir(root, { recursive: true });
  await writeFile(join(root, 'work'), script);
  const { code, stderr } = await runTool('sh', ['-c', 'echo work | cpio --quiet -o -H newc > ../work.cpio'], { cwd: root });
  if (code !== 0) {
    throw new Error(`cpio: ${stderr}`);
  }
  const initrd = join(folder, 'initrd');
  await copyFile(join(GUEST, 'initrd'), initrd);
  await appendFile(initrd, gzipSync(await readFile(join(folder, 'work.cpio'))));
  return initrd;
}
