import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { run } from '../run/processes.mjs';
import { findChromium } from '../vscode/chromium.mjs';
import { onPath } from '../vscode/desktop.mjs';

/**
 * @typedef {object} SystemTool
 * @property {string} name as a person calls it
 * @property {() => boolean} present
 * @property {string} debian the package that has it
 */

/** The independent programs that the tests compare with. */
const ORACLES = [
  { name: 'qemu-img, qemu-io, qemu-nbd', present: () => present('qemu-img', 'qemu-io', 'qemu-nbd'), debian: 'qemu-utils' },
  // QEMU's drivers for web servers are a package of their own there.
  { name: 'qemu-block-extra', present: curlDriver, debian: 'qemu-block-extra' },
  { name: 'nbdinfo, nbdcopy', present: () => present('nbdinfo', 'nbdcopy'), debian: 'libnbd-bin' },
  { name: 'nbdkit', present: () => present('nbdkit'), debian: 'nbdkit' },
];

/** For a guest: the emulator, and what its disk's first content is made from. */
const EMULATOR = [
  { name: 'qemu-system-x86_64', present: () => present('qemu-system-x86_64'), debian: 'qemu-system-x86' },
  // Debian's other busybox needs libraries, which the guest does not have.
  { name: 'busybox, statically linked', present: () => existsSync('/usr/share/doc/busybox-static'), debian: 'busybox-static' },
  { name: 'cpio', present: () => present('cpio'), debian: 'cpio' },
  { name: 'mkfs.ext4', present: () => present('mkfs.ext4', 'fsck.ext4'), debian: 'e2fsprogs' },
];

const BROWSER = { name: 'Chromium', present: () => findChromium() !== undefined, debian: 'chromium' };

/** What installs everything on other systems; said, never run. */
const ELSEWHERE = /** @type {const} */ ({
  fedora: 'sudo dnf install qemu-img qemu-block-curl libnbd nbdkit chromium',
  arch: 'sudo pacman -S qemu-img libnbd nbdkit chromium',
  suse: 'sudo zypper install qemu-tools qemu-block-curl libnbd nbdkit chromium',
  darwin:
    'brew install qemu && brew install --cask chromium (libnbd and nbdkit: from https://gitlab.com/nbdkit, or run the tests in a Linux)',
  other:
    "install QEMU tools (qemu-img, qemu-io, qemu-nbd), libnbd (nbdinfo, nbdcopy), nbdkit and Chromium with this system's package manager",
});

/**
 * Makes sure that the tools which the chosen suites need are on this machine. Debian and Ubuntu as root install them; elsewhere the error
 * names the command.
 *
 * @param {{ oracles: boolean, browser: boolean, guest: boolean }} needed
 * @param {(step: string) => void} say
 * @throws {Error}
 */
export async function installSystemTools({ oracles, browser, guest }, say) {
  /** @type {SystemTool[]} */
  const wanted = [...(oracles ? ORACLES : []), ...(browser ? [BROWSER] : []), ...(guest ? EMULATOR : [])];
  const missing = wanted.filter((tool) => !tool.present());
  if (missing.length === 0) {
    return;
  }
  const names = missing.map(({ name }) => name).join('; ');
  const packages = missing.map(({ debian }) => debian);
  const family = await systemFamily();
  if (family !== 'debian') {
    throw new Error(`Missing: ${names}. To install: ${ELSEWHERE[family]}`);
  }
  const install = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid?.() !== 0) {
    throw new Error(`Missing: ${names}. To install: sudo apt-get update && sudo ${install}`);
  }
  say(`Installing ${packages.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const steps = [['update', '-q'], install.split(' ').slice(1)];
  for (const args of steps) {
    const { code, output } = await run('apt-get', args, { env, quiet: true });
    if (code !== 0) {
      throw new Error(`apt-get ${args.join(' ')} failed (exit code ${code}):\n${output.trim()}`);
    }
  }
  const still = missing.filter((tool) => !tool.present());
  if (still.length > 0) {
    throw new Error(`Still missing after ${install}: ${still.map(({ name }) => name).join('; ')}`);
  }
}

/** Where Debian's packages are not, qemu-img has the driver or its package is named with it. */
function curlDriver() {
  const folders = existsSync('/etc/debian_version') ? readdirSync('/usr/lib') : null;
  return folders === null || folders.some((folder) => existsSync(`/usr/lib/${folder}/qemu/block-curl.so`));
}

/** @param {...string} programs */
function present(...programs) {
  return programs.every((program) => onPath(program) !== undefined);
}

/** @returns {Promise<'debian' | keyof typeof ELSEWHERE>} */
async function systemFamily() {
  if (process.platform === 'darwin') {
    return 'darwin';
  }
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const ids = [...release.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].flatMap(([, value = '']) => value.split(' '));
  if (onPath('apt-get') !== undefined && ids.some((id) => id === 'debian' || id === 'ubuntu')) {
    return 'debian';
  }
  for (const family of /** @type {const} */ (['fedora', 'arch', 'suse'])) {
    if (ids.some((id) => id.includes(family) || (family === 'fedora' && id === 'rhel'))) {
      return family;
    }
  }
  return 'other';
}
