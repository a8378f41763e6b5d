import { chmod, copyFile, mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeImage } from './images';
import { chainscope, makeWithQemuImg, sideBySide, temporaryFolder, writeWithQemuIo } from './tools';

/* `info` beside qemu-img's, on real images: the same text, the same JSON to the byte, the same exit code. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder('info');
});
afterAll(() => folder.dispose());

/** Both outputs of both programs for one image, in one value that is equal when they agree. */
async function expectSameInfo(image: readonly string[], cwd = folder.path): Promise<void> {
  for (const options of [[], ['--output=json'], ['--backing-chain'], ['--backing-chain', '--output=json']]) {
    const { theirs, ours } = await sideBySide(['info', ...options, ...image], { cwd });
    expect({ options, code: ours.code, stdout: ours.stdout }).toEqual({ options, code: theirs.code, stdout: theirs.stdout });
    expect(theirs.code, theirs.stderr).toBe(0);
  }
}

describe('random images', () => {
  const first = Number(process.env['CHAINSCOPE_SEED'] ?? 1000);
  test.each(Array.from({ length: 24 }, (_, index) => first + index))('seed %i', async (seed) => {
    const home = join(folder.path, `seed-${seed}`);
    await mkdir(home);
    const image = await makeImage(seed, home, { encrypted: 0, maxDepth: 3, crash: true });
    await expectSameInfo([image.path]);
  });
});

describe('every member of the information', () => {
  const images: readonly (readonly [name: string, create: readonly string[]])[] = [
    ['old.qcow2', ['-f', 'qcow2', '-o', 'compat=0.10', '100M']],
    [
      'features.qcow2',
      ['-f', 'qcow2', '-o', 'compression_type=zstd,extended_l2=on,cluster_size=128k,lazy_refcounts=on,refcount_bits=1', '1G'],
    ],
    ['external.qcow2', ['-f', 'qcow2', '-o', 'data_file=external.data,data_file_raw=on', '5M']],
    ['legacy-encrypted.qcow2', ['--object', 'secret,id=s,data=x', '-f', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s', '5M']],
    ['plain.qed', ['-f', 'qed', '1G']],
    ['sparse.vmdk', ['-f', 'vmdk', '1G']],
    ['stream.vmdk', ['-f', 'vmdk', '-o', 'subformat=streamOptimized', '10M']],
    ['flat.vmdk', ['-f', 'vmdk', '-o', 'subformat=monolithicFlat', '10M']],
    ['plain.raw', ['-f', 'raw', '10M']],
  ];
  test.each(images)('%s', async (name, create) => {
    const size = create.at(-1) ?? '';
    await makeWithQemuImg(['create', '-q', ...create.slice(0, -1), name, size], { cwd: folder.path });
    await expectSameInfo([name]);
  });

  test('a LUKS volume and LUKS inside qcow2', async () => {
    const secret = ['--object', 'secret,id=s,data=x'];
    await makeWithQemuImg(['create', '-q', ...secret, '-f', 'luks', '-o', `key-secret=s,${QUICK}`, 'volume.luks', '3M'], {
      cwd: folder.path,
    });
    await makeWithQemuImg(
      ['create', '-q', ...secret, '-f', 'qcow2', '-o', `encrypt.format=luks,encrypt.key-secret=s,encrypt.${QUICK}`, 'luks.qcow2', '3M'],
      { cwd: folder.path },
    );
    await expectSameInfo(['volume.luks']);
    await expectSameInfo(['luks.qcow2']);
    await expectSameInfo([...secret, '--image-opts', 'driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s']);
  });

  test('snapshots, bitmaps and names beyond ASCII', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'rich "quoted".qcow2', '20M'], { cwd: folder.path });
    for (const name of ['one', 'Schnappschuß ☃ 𝄞', 'a name that is longer than its column', 'tab\there\u0001']) {
      await makeWithQemuImg(['snapshot', '-c', name, 'rich "quoted".qcow2'], { cwd: folder.path });
    }
    await makeWithQemuImg(['bitmap', '--add', '-g', '128k', 'rich "quoted".qcow2', 'on'], { cwd: folder.path });
    await makeWithQemuImg(['bitmap', '--add', '--disable', 'rich "quoted".qcow2', 'off'], { cwd: folder.path });
    await expectSameInfo(['rich "quoted".qcow2']);
  });

  test('a dirty image', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'dirty.qcow2', '20M'], { cwd: folder.path });
    await expect(writeWithQemuIo(['dirty.qcow2'], ['write 0 64k', 'abort'], { cwd: folder.path })).rejects.toThrow();
    const { ours } = await sideBySide(['info', 'dirty.qcow2'], { cwd: folder.path });
    expect(ours.stdout).toContain('cleanly shut down: no');
    await expectSameInfo(['dirty.qcow2']);
  });

  test('extents in files of their own are read when the command follows', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', 'split.vmdk', '5G'], { cwd: folder.path });
    const { theirs, ours } = await sideBySide(['info', '--backing-chain', '--output=json', 'split.vmdk'], { cwd: folder.path });
    expect(ours.stdout).toBe(theirs.stdout);
  });
});

describe('how images are named', () => {
  let home: string;
  beforeAll(async () => {
    home = join(folder.path, 'names');
    await mkdir(join(home, 'sub'), { recursive: true });
    await makeWithQemuImg(['create', '-q', '-f', 'raw', 'base.raw', '1M'], { cwd: home });
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'mid.qcow2'], { cwd: home });
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', '../mid.qcow2', '-F', 'qcow2', 'sub/top.qcow2'], { cwd: home });
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', join(home, 'mid.qcow2'), '-F', 'qcow2', 'absolute.qcow2'], { cwd: home });
    await makeWithQemuImg(
      [
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}',
        '-F',
        'raw',
        'json.qcow2',
        '1M',
      ],
      { cwd: home },
    );
    await symlink('sub/top.qcow2', join(home, 'link.qcow2'));
    await copyFile(join(home, 'mid.qcow2'), join(home, 'a,b.qcow2'));
  });

  const named: readonly (readonly string[])[] = [
    ['./mid.qcow2'],
    ['sub/top.qcow2'],
    ['sub/../mid.qcow2'],
    ['absolute.qcow2'],
    ['json.qcow2'],
    ['file:mid.qcow2'],
    ['-f', 'raw', 'mid.qcow2'],
    ['-f', 'file', 'mid.qcow2'],
    ['-Ufqcow2', 'mid.qcow2'],
    ['--image-opts', 'driver=qcow2,file.driver=file,file.filename=mid.qcow2'],
    ['--image-opts', 'file.filename=mid.qcow2,force-share=on'],
    ['--image-opts', 'driver=qcow2,file.filename=a,,b.qcow2'],
    ['--image-opts', 'driver=qcow2,lazy-refcounts=on,cache.direct=off,l2-cache-size=1M,node-name=n,file.filename=mid.qcow2'],
    ['--image-opts', 'driver=file,filename=mid.qcow2'],
    ['json:{"driver":"qcow2","file":{"driver":"file","filename":"mid.qcow2"}}'],
    ['json:{"driver":"qcow2","file.filename":"mid.qcow2"}'],
    ['json:{"driver":"file","filename":"mid.qcow2"}'],
  ];
  test.each(named)('%s %s %s', async (...image) => {
    await expectSameInfo(image, home);
  });
});

describe('images that do not open', () => {
  test.each([
    ['missing.qcow2'],
    ['.'],
    ['unknown:thing'],
    ['-f', 'qcow2', 'text'],
    ['-f', 'nonsense', 'text'],
    ['cut.qcow2'],
    ['--backing-chain', 'orphan.qcow2'],
    ['--backing-chain', 'loop-a.qcow2'],
    ['--image-opts', 'driver=qcow2,file.filename=text,nonsense=1'],
    ['--image-opts', 'filename=text'],
    ['--image-opts', 'text'],
    ['--image-opts', '-f', 'raw', 'file.filename=text'],
    ['json:{'],
    ['json:[]'],
  ])('%s %s %s %s', async (...image) => {
    const cwd = folder.path;
    await writeFile(join(cwd, 'text'), 'no image\n');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'cut.qcow2', '1M'], { cwd });
    await truncate(join(cwd, 'cut.qcow2'), 90);
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'nowhere.qcow2', '-F', 'qcow2', 'orphan.qcow2', '1M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'loop-b.qcow2', '-F', 'qcow2', 'loop-a.qcow2', '1M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'loop-a.qcow2', '-F', 'qcow2', 'loop-b.qcow2', '1M'], { cwd });
    const { theirs, ours } = await sideBySide(['info', ...image], { cwd });
    expect({ code: ours.code, stdout: ours.stdout }).toEqual({ code: theirs.code, stdout: theirs.stdout });
    expect(ours.stderr).toMatch(/^qemu-img: ./);
    expect(ours.stderr).not.toContain('error in');
  });

  test('a file that may not be read', async () => {
    if (process.getuid?.() === 0) {
      // Root reads everything: the case cannot be made, here or for qemu-img.
      return;
    }
    const path = join(folder.path, 'secret.qcow2');
    await writeFile(path, '');
    await chmod(path, 0);
    const { theirs, ours } = await sideBySide(['info', path]);
    expect(ours.code).toBe(theirs.code);
    expect(ours.stderr).toContain('Permission denied');
  });
});

describe('what info opens', () => {
  test('a missing data file and a missing backing file do not matter', async () => {
    const cwd = folder.path;
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', 'alone.qcow2', '1M'], { cwd });
    const { code, stdout } = await chainscope(['info', '--output=json', 'alone.qcow2'], { cwd });
    expect({ code, backing: (JSON.parse(stdout) as Record<string, unknown>)['backing-filename'] }).toEqual({
      code: 0,
      backing: 'gone.qcow2',
    });
  });

  test('a chain that is not followed ends with a word about it', async () => {
    const cwd = folder.path;
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', 'alone2.qcow2', '1M'], { cwd });
    const { code, stdout, stderr } = await chainscope(['info', '--backing-chain', '--follow=none', '--output=json', 'alone2.qcow2'], {
      cwd,
    });
    expect({ code, images: (JSON.parse(stdout) as unknown[]).length, stderr }).toEqual({
      code: 0,
      images: 1,
      stderr: "qemu-img: warning: 'gone.qcow2' was not followed (--follow none)\n",
    });
  });
});

/** Key derivation that is quick, yet long enough for qemu-img to time on a busy machine. */
const QUICK = 'iter-time=500';
