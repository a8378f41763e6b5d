import { chmod, copyFile, mkdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LUKS_HEADER, LUKS_KEY_SLOT, LUKS_KEY_SLOTS, LUKS_MAGIC, LUKS_SLOT } from '../../src/engine/formats/luks/structures';
import { ENCRYPTION_EXTENSION, EXTENSION, EXTENSION_HEADER, QCOW2_HEADER } from '../../src/engine/formats/qcow2/structures';
import { encode } from '../../src/engine/layout/codec';
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

/** Where a qcow2 header has its `header_length`. */
const HEADER_LENGTH_AT = 100;

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

  // qemu-img itself makes a LUKS header only on a machine that is quiet enough for it to time the key derivation.
  test.each([
    ['aes', 'xts-plain64', 64, 'sha256'],
    ['aes', 'cbc-essiv:sha256', 16, 'sha1'],
    ['serpent', 'cbc-plain', 24, 'sha512'],
    ['twofish', 'xts-plain:sha1', 32, 'ripemd160'],
    ['cast5', 'cbc-plain64', 16, 'md5'],
  ])('LUKS with %s %s, a volume and inside qcow2', async (cipher, mode, keyBytes, hash) => {
    const header = luksHeader(cipher, mode, keyBytes, hash);
    const name = `${cipher}-${mode.replace(':', '-')}`;
    await writeFile(join(folder.path, `${name}.luks`), Buffer.concat([header, Buffer.alloc(4 * 2 ** 20)]));
    await expectSameInfo([`${name}.luks`]);
    await writeFile(join(folder.path, `${name}.qcow2`), await luksInQcow2(header, `${name}.qcow2`));
    await expectSameInfo([`${name}.qcow2`]);
    const secret = ['--object', 'secret,id=s,data=x'];
    await expectSameInfo([...secret, '--image-opts', `driver=qcow2,file.filename=${name}.qcow2,encrypt.key-secret=s`]);
  });

  test.each([
    ['rot13', 'xts-plain64', 64, 'sha256'],
    ['aes', 'xts-plain64', 16, 'sha256'],
    ['aes', 'abc-plain64', 64, 'sha256'],
    ['aes', 'xts-plain65', 64, 'sha256'],
    ['aes', 'xts', 64, 'sha256'],
    ['aes', 'cbc-essiv:none', 32, 'sha256'],
    ['aes', 'xts-plain64', 64, 'none'],
  ])('LUKS with %s %s and keys of %i bytes, hashed by %s, is refused', async (cipher, mode, keyBytes, hash) => {
    await writeFile(join(folder.path, 'odd.luks'), luksHeader(cipher, mode, keyBytes, hash));
    const { theirs, ours } = await sideBySide(['info', 'odd.luks'], { cwd: folder.path });
    expect([ours.code, ours.stdout]).toEqual([theirs.code, theirs.stdout]);
    expect(ours.code).toBe(1);
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

/** A LUKS1 header as cryptsetup lays it out, the first key slot in use. No passphrase opens it. */
function luksHeader(cipher: string, mode: string, keyBytes: number, hash: string): Buffer {
  const materialSectors = Math.ceil((keyBytes * 4000) / 512 / 8) * 8;
  const text = (value: string) => Buffer.from(value);
  const slots = Array.from({ length: LUKS_KEY_SLOTS }, (_, index) =>
    encode(LUKS_KEY_SLOT, {
      active: index === 0 ? LUKS_SLOT.enabled : LUKS_SLOT.disabled,
      iterations: index === 0 ? 1234 : 0,
      'key-material-offset': 8 + index * materialSectors,
      stripes: 4000,
    }),
  );
  const header = encode(LUKS_HEADER, {
    magic: Uint8Array.from(LUKS_MAGIC),
    version: 1,
    'cipher-name': text(cipher),
    'cipher-mode': text(mode),
    'hash-spec': text(hash),
    'payload-offset': 8 + LUKS_KEY_SLOTS * materialSectors,
    'key-bytes': keyBytes,
    'mk-digest-iter': 1000,
    uuid: text('6e6f7420-6120-7265-616c-207575696421'),
  });
  return Buffer.concat([header, ...slots]);
}

/** A qcow2 image whose encryption header extension names that LUKS header, behind everything else. */
async function luksInQcow2(header: Buffer, name: string): Promise<Buffer> {
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', name, '3M'], { cwd: folder.path });
  const image = await readFile(join(folder.path, name));
  const end = Math.ceil(image.length / 65536) * 65536;
  image.writeUInt32BE(2, QCOW2_HEADER.fields.find((field) => field.name === 'crypt_method')?.offset ?? 0);
  const extension = Buffer.concat([
    encode(EXTENSION_HEADER, { type: EXTENSION.encryption, length: ENCRYPTION_EXTENSION.length }),
    encode(ENCRYPTION_EXTENSION, { offset: end, length: header.length }),
    encode(EXTENSION_HEADER, { type: EXTENSION.end, length: 0 }),
  ]);
  extension.copy(image, QCOW2_HEADER.length);
  return Buffer.concat([image, Buffer.alloc(end - image.length), header, Buffer.alloc(65536)]);
}

describe('names and records that QEMU reads its own way', () => {
  test.each([
    `json:{'driver':'qcow2','file':{'driver':'file','filename':'quoted.qcow2'}}`,
    `json:{'driver':"qcow2",'file.filename':'it\\'s "quoted".qcow2'}`,
  ])('%s', async (name) => {
    const home = join(folder.path, 'quoted');
    await mkdir(home, { recursive: true });
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'quoted.qcow2', '1M'], { cwd: home });
    await copyFile(join(home, 'quoted.qcow2'), join(home, `it's "quoted".qcow2`));
    await expectSameInfo([name], home);
  });

  test('of two backing formats, the last one', async () => {
    const path = join(folder.path, 'twice.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', path, '1M']);
    const bytes = await readFile(path);
    const header = bytes.readUInt32BE(HEADER_LENGTH_AT);
    expect(bytes.readUInt32BE(header)).toBe(EXTENSION.backingFormat);
    const second = Buffer.alloc(16);
    second.writeUInt32BE(EXTENSION.backingFormat, 0);
    second.writeUInt32BE(3, 4);
    second.write('raw', 8);
    // Between the first one and what follows it, which moves down; the name of the backing file too.
    const at = header + 16;
    const name = Number(bytes.readBigUInt64BE(8));
    bytes.copyWithin(at + second.length, at, name + bytes.readUInt32BE(16));
    second.copy(bytes, at);
    bytes.writeBigUInt64BE(BigInt(name + second.length), 8);
    await writeFile(path, bytes);
    const { theirs, ours } = await sideBySide(['info', path]);
    expect(ours.stdout).toBe(theirs.stdout);
    expect(theirs.stdout).toContain('backing file format: raw');
  });
});
