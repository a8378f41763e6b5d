import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chainscopeNbd } from '../interop/nbdServers';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder } from '../interop/tools';
import { runMachine } from './machine';

/* A real Linux whose disk is our NBD export: what it writes and syncs must be a sound file system, and the image sound for QEMU. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let base: string;

beforeAll(async () => {
  folder = await temporaryFolder('guest');
  const raw = join(folder.path, 'base.raw');
  await must('truncate', ['-s', '64M', raw]);
  await must('mkfs.ext4', ['-q', raw]);
  base = join(folder.path, 'base.qcow2');
  await makeWithQemuImg(['convert', '-q', '-f', 'raw', '-O', 'qcow2', raw, base]);
});
afterAll(() => folder.dispose());

/** Writes, overwrites, deletes and syncs; the sums tell later whether all of it is still there. */
const WORK = `
mount /dev/vda /mnt
cd /mnt
mkdir -p tree/a tree/b
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=tree/a/$i bs=64k count=12 2>/dev/null; done
sync
for i in 2 4 6; do dd if=/dev/urandom of=tree/a/$i bs=4k seek=7 count=9 conv=notrunc 2>/dev/null; done
rm tree/a/3 tree/a/5
cp tree/a/1 tree/b/copy
find tree -type f | sort | xargs md5sum > sums
sync
echo "sums: $(wc -l < sums)"
cd /
umount /mnt
`;

const VERIFY = `
mount -o ro /dev/vda /mnt
cd /mnt
md5sum -c sums
cd /
umount /mnt
`;

describe('a guest on our NBD export', () => {
  test.each([
    ['qcow2 over a base', ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2']],
    ['qcow2 with subclusters over a base', ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', '-o', 'extended_l2=on,cluster_size=128k']],
    ['QED over a base', ['-f', 'qed', '-b', 'base.qcow2', '-F', 'qcow2']],
  ])('%s', async (name, options) => {
    const home = join(folder.path, name.replaceAll(' ', '-'));
    await mkdir(home);
    const image = join(folder.path, `${name.replaceAll(' ', '-')}.img`);
    const format = options[1]!;
    await makeWithQemuImg(['create', '-q', ...options, image], { cwd: folder.path });

    const written = await onExport(image, format, home, (drive) => runMachine({ drives: [drive], script: WORK, folder: home }));
    expect(written).toContain('sums: 7');

    // QEMU itself reads the same disk, and fsck finds nothing to mend.
    expect((await qemuImg(['check', '-q', '-f', format, image])).code, 'qemu-img check').toBe(0);
    const flat = join(home, 'flat.raw');
    await makeWithQemuImg(['convert', '-q', '-f', format, '-O', 'raw', image, flat]);
    const fsck = await runTool('fsck.ext4', ['-f', '-n', flat]);
    expect(fsck.code, fsck.stdout + fsck.stderr).toBe(0);

    const verified = await onExport(image, format, home, (drive) => runMachine({ drives: [drive], script: VERIFY, folder: home }));
    expect(verified.match(/: OK/g)).toHaveLength(7);
  });
});

/** Serves an image while `work` runs; the server ends by itself when it is told to, with the image closed. */
async function onExport<T>(image: string, format: string, home: string, work: (drive: string) => Promise<T>): Promise<T> {
  const server = await chainscopeNbd(home, ['-f', format, image]);
  try {
    return await work(`file=${server.uri},format=raw,cache=none`);
  } finally {
    await server.stop();
    expect(await server.ending).toEqual({ code: 0, stderr: '' });
  }
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runTool(program, args);
  if (code !== 0) {
    throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  }
}
