import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { Random, testCases, testSeed } from './random';
import { mountSmall } from './smallMount';
import { chainscope, makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* `allocate` and `allocation`. */

const MIB = 2 ** 20;
const SIZE = 2 * MIB;

const ended: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

/** A thin image on a base with some data, in a folder of its own choice. */
async function thinImage(folder: string, format: string, backed: boolean, random: Random): Promise<string> {
  const disk = join(folder, `disk.${format}`);
  const elsewhere = await temporaryFolder('allocate');
  ended.push(() => elsewhere.dispose());
  const base = join(elsewhere.path, 'base.qcow2');
  if (backed) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, `${SIZE}`]);
    await writeWithQemuIo(['-f', 'qcow2', base], ['write -P 17 300k 400k', 'write -z 1M 100k', 'write -P 18 1500k 3k']);
  }
  await makeWithQemuImg(['create', '-q', '-f', format, ...(backed ? ['-b', base, '-F', 'qcow2'] : []), disk, `${SIZE}`]);
  const at = 1024 * random.below(SIZE / 1024 - 100);
  await writeWithQemuIo(['-f', format, disk], [`write -P 33 ${at} ${1024 * random.between(1, 100)}`]);
  return disk;
}

/** What more there is to it, with images of all kinds: allocateFull.test.ts. */
const CASES = [
  ['qcow2', true, 'zero'],
  ['qcow2', true, 'metadata'],
  ['raw', false, 'metadata'],
] as const;

describe('allocate', () => {
  test.each(CASES)('lets no write fail on a full file system afterwards (%s, backing file %s, %s)', async (format, backed, mode) => {
    const random = new Random(testSeed());
    const mount = await mountSmall(3 * MIB);
    ended.push(() => mount.dispose());
    const disk = await thinImage(mount.path, format, backed, random);
    const content = join(mount.path, '..', `content-${process.pid}-${format}-${backed}-${mode}`);
    await makeWithQemuImg(['convert', '-f', format, '-O', 'raw', disk, content]);
    ended.push(async () => {
      await runTool('rm', ['-f', content]);
    });
    expect(await chainscope(['allocate', '-q', '-f', format, '--mode', mode, disk])).toMatchObject({ code: 0, stderr: '' });
    expect(await qemuImg(['compare', '-f', format, '-F', 'raw', disk, content])).toMatchObject({ code: 0 });
    // Until nothing more fits.
    await expect(writeFile(join(mount.path, 'filler'), Buffer.alloc(4 * MIB, 1))).rejects.toThrow('ENOSPC');
    const written = await runTool('qemu-io', ['-f', format, '-c', `write -P 99 0 ${SIZE}`, '-c', 'flush', disk]);
    expect(written).toMatchObject({ code: 0, stderr: '' });
    expect(await runTool('qemu-io', ['-r', '-f', format, '-c', `read -q -P 99 0 ${SIZE}`, disk])).toMatchObject({ code: 0, stdout: '' });
    if (format !== 'raw') {
      expect(await qemuImg(['check', '-f', format, disk])).toMatchObject({ code: 0 });
    }
  });

  test('is not needed where there is room: without it a full file system refuses', async () => {
    const mount = await mountSmall(3 * MIB);
    ended.push(() => mount.dispose());
    const disk = await thinImage(mount.path, 'qcow2', false, new Random(testSeed()));
    await expect(writeFile(join(mount.path, 'filler'), Buffer.alloc(4 * MIB, 1))).rejects.toThrow('ENOSPC');
    const written = await runTool('qemu-io', ['-f', 'qcow2', '-c', `write -P 99 0 ${SIZE}`, disk]);
    expect(`${written.stdout}${written.stderr}`).toContain('No space left on device');
  });

  const seed = testSeed();
  for (let index = 0; index < testCases(6); index++) {
    test(`allocates a range and nothing else (seed ${seed + index})`, async () => {
      const random = new Random(seed + index);
      const folder = await temporaryFolder('allocate');
      ended.push(() => folder.dispose());
      const disk = await thinImage(folder.path, 'qcow2', random.chance(0.7), random);
      const content = join(folder.path, 'content');
      await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', disk, content]);
      const before = await thinBytes(disk);
      const offset = 65536 * random.below(SIZE / 65536);
      const length = Math.min(SIZE - offset, 65536 * random.between(1, 12));
      const allocated = ['allocate', '--output=json', '--offset', `${offset}`, '--length', `${length}`, disk];
      expect(await chainscope(allocated)).toMatchObject({ code: 0, stderr: '' });
      expect(await thinBytes(disk, offset, length)).toBe(0);
      expect(before - (await thinBytes(disk))).toBeLessThanOrEqual(length);
      expect(await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', disk, content])).toMatchObject({ code: 0 });
      expect(await qemuImg(['check', disk])).toMatchObject({ code: 0 });
    });
  }

  test('shows what is allocated where, and where the rest comes from', async () => {
    const folder = await temporaryFolder('allocate');
    ended.push(() => folder.dispose());
    const [base, disk] = [join(folder.path, 'base'), join(folder.path, 'disk')];
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, '1M']);
    await writeWithQemuIo(['-f', 'qcow2', base], ['write 0 128k']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', disk]);
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write 64k 128k', 'write -z 512k 64k']);
    const { stdout } = await chainscope(['allocation', disk]);
    expect(stdout).toBe(
      [
        'Offset          Length          Allocated  Content      Mapped to       File',
        `0               0x10000         no         data         0x50000         ${base}`,
        `0x10000         0x20000         yes        data         0x50000         ${disk}`,
        '0x30000         0x50000         no         nothing',
        `0x80000         0x10000         yes        zeroes                       ${disk}`,
        '0x90000         0x70000         no         nothing',
        '',
      ].join('\n'),
    );
  });

  test('refuses a range past the end', async () => {
    const folder = await temporaryFolder('allocate');
    ended.push(() => folder.dispose());
    const disk = join(folder.path, 'disk.raw');
    await writeFile(disk, '');
    await truncate(disk, SIZE);
    expect(await chainscope(['allocate', '-f', 'raw', '--offset', '1M', '--length', '2M', disk])).toMatchObject({ code: 1 });
  });
});

/** Bytes of a range that the image itself has not. */
async function thinBytes(disk: string, offset = 0, length = SIZE): Promise<number> {
  const { stdout, code } = await chainscope(['allocation', '--output=json', '--offset', `${offset}`, '--length', `${length}`, disk]);
  expect(code).toBe(0);
  const rows = JSON.parse(stdout) as { length: number; allocated: boolean }[];
  expect(rows.reduce((bytes, row) => bytes + row.length, 0)).toBe(length);
  return rows.reduce((bytes, row) => bytes + (row.allocated ? 0 : row.length), 0);
}
