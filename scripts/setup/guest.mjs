import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../run/paths.mjs';
import { run } from '../run/processes.mjs';

/*
 * A small Linux that the guest tests boot: Debian's own kernel for clouds (ext4 built in) and an initial RAM disk of busybox and the virtio
 * modules. The kernel's package is downloaded and unpacked, not installed: this machine's own kernel is left alone.
 */

/** Where it is kept; `kernel` and `initrd` in it. */
export const GUEST = join(ROOT, '.guest');

const META_PACKAGE = 'linux-image-cloud-amd64';

/**
 * In the order of their dependencies.
 *
 * @type {readonly string[]}
 */
const MODULES = ['virtio_pci', 'virtio_blk'];

/** Runs what the test gives as /work, says how it ended, and switches the machine off. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
${MODULES.map((name) => `modprobe ${name}`).join('\n')}
sh -e /work
echo "guest ended with $?"
poweroff -f
`;

/**
 * Makes sure that the guest is there.
 *
 * @param {(step: string) => void} say
 */
export async function installGuest(say) {
  if (existsSync(GUEST)) {
    return;
  }
  say('Fetching a small Linux for the guest tests (some 30 MB)');
  const work = await mkdtemp(join(tmpdir(), 'chainscope-guest-'));
  try {
    const name = await kernelPackage();
    await must('apt-get', ['download', '-q', name], work);
    const [file] = (await readdir(work)).filter((entry) => entry.endsWith('.deb'));
    await must('dpkg', ['-x', file ?? '', 'unpacked'], work);
    const partial = join(work, 'guest');
    await mkdir(partial);
    const boot = join(work, 'unpacked', 'boot');
    const kernel = (await readdir(boot)).find((entry) => entry.startsWith('vmlinuz-'));
    if (kernel === undefined) {
      throw new Error(`The package ${name} has no kernel.`);
    }
    await cp(join(boot, kernel), join(partial, 'kernel'));
    await packInitrd(work, kernel.slice('vmlinuz-'.length), join(partial, 'initrd'));
    // Moved when it is whole; `cp` and not `rename`, since the temporary folder may lie on another file system.
    const moved = `${GUEST}-by-${process.pid}`;
    await cp(partial, moved, { recursive: true });
    await rename(moved, GUEST);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The package that has the kernel; the meta package only names it. */
async function kernelPackage() {
  const { code, output } = await run('apt-cache', ['depends', '--important', META_PACKAGE], { quiet: true });
  const name = /Depends: (linux-image-\S+)/.exec(output)?.[1];
  if (code !== 0 || name === undefined) {
    throw new Error(`${META_PACKAGE} was not found. The guest tests need Debian's package of it: sudo apt-get update`);
  }
  return name;
}

/**
 * @param {string} work
 * @param {string} version the kernel's
 * @param {string} target
 */
async function packInitrd(work, version, target) {
  const root = join(work, 'root');
  const modules = join('lib', 'modules', version);
  const drivers = join(modules, 'kernel', 'drivers');
  await mkdir(join(root, 'bin'), { recursive: true });
  await cp('/bin/busybox', join(root, 'bin', 'busybox'));
  for (const folder of ['virtio', 'block']) {
    await cp(join(work, 'unpacked', drivers, folder), join(root, drivers, folder), { recursive: true });
  }
  await must('busybox', ['depmod', '-b', root, version], work);
  await writeFile(join(root, 'init'), INIT, { mode: 0o755 });
  await must('sh', ['-c', 'cd root && find . | cpio --quiet -o -H newc | gzip -1 > "$1"', 'sh', target], work);
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} cwd
 */
async function must(command, args, cwd) {
  const { code, output } = await run(command, args, { cwd, quiet: true });
  if (code !== 0) {
    throw new Error(`${command} ${args.join(' ')} failed (exit code ${code}):\n${output.trim()}`);
  }
}
