import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { amendQcow2, type Qcow2AmendOptions } from '../../src/engine/formats/qcow2/manage/amend';
import { setBackingLink } from '../../src/engine/formats/qcow2/manage/backingLink';
import { QuietImage } from '../../src/engine/formats/qcow2/manage/quietImage';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { makeImage } from './images';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* Amended images, beside those that qemu-img amends. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('amend');
});
afterAll(() => folder.dispose());

const PASSPHRASE = new TextEncoder().encode('chainscope');

async function amend(path: string, options: Qcow2AmendOptions): Promise<string> {
  const storage = FileStorage.openFile(path, { writable: true });
  try {
    await amendQcow2(storage, options, { passphrase: PASSPHRASE });
    return '';
  } catch (error) {
    return (error as Error).message;
  } finally {
    storage.close();
  }
}

function words(options: Qcow2AmendOptions): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)}`)
    .join(',');
}

async function specific(path: string): Promise<unknown> {
  const { stdout } = await qemuImg(['info', '-U', '--output=json', path], { cwd: folder.path });
  const { 'format-specific': found, snapshots } = JSON.parse(stdout) as { 'format-specific': unknown; snapshots?: object[] };
  return { found, snapshots: snapshots?.length };
}

describe('amended images', () => {
  const seed = testSeed();
  const cases = testCases(6);
  it(`are as qemu-img would have left them (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < cases; index++) {
      const image = await makeImage(random.bits(), folder.path, { format: 'qcow2', encrypted: 0, maxSize: 32 * 1024 * 1024 });
      // Images with a raw data file share it with their twins, and those with bitmaps are downgraded by qemu-img at their expense.
      const bitmaps = image.bitmaps.length > 0;
      const ours = join(folder.path, 'ours.qcow2');
      const theirs = join(folder.path, 'theirs.qcow2');
      copyFileSync(image.path, ours);
      copyFileSync(image.path, theirs);
      const before = join(folder.path, 'before.raw');
      await makeWithQemuImg(['convert', '-U', '-O', 'raw', image.path, before], { cwd: folder.path });
      for (let step = 0; step < 4; step++) {
        const options = random.pick<Qcow2AmendOptions>([
          { compat: bitmaps ? '1.1' : '0.10' },
          { compat: '1.1' },
          { lazy_refcounts: random.chance(0.5) },
          { refcount_bits: 2 ** random.between(0, 6) },
          { refcount_bits: 2 ** random.between(3, 6) },
          { compat: '1.1', refcount_bits: 2 ** random.between(2, 6), lazy_refcounts: true },
          bitmaps ? { compat: '1.1', refcount_bits: 16 } : { compat: '0.10', refcount_bits: 16, lazy_refcounts: random.chance(0.5) },
          { data_file_raw: false },
        ]);
        const what = `CHAINSCOPE_SEED=${seed} ${image.describe}\n${words(options)}`;
        const found = await specific(ours);
        const failure = await amend(ours, options);
        // Widening refcounts of one bit, qemu-img 7.2 may go round for ever.
        const { code, stderr } = await runTool('timeout', ['3', 'qemu-img', 'amend', '-f', 'qcow2', '-o', words(options), theirs], {
          cwd: folder.path,
        });
        if (code === 124) {
          copyFileSync(ours, theirs);
          expect(await qemuImg(['check', ours], { cwd: folder.path }), what).toMatchObject({ signal: null });
          continue;
        }
        if (code === 0 && failure.includes('existing compressed clusters')) {
          // QEMU asks the disk only: a snapshot's clusters it makes unreadable.
          expect(image.describe, what).toContain('qemu-img snapshot');
          break;
        }
        expect(failure === '', `${what}\n${failure}\n${stderr}`).toBe(code === 0);
        if (code !== 0) {
          // QEMU may have done a part of what it was asked for before it refused.
          expect(await specific(ours), what).toEqual(found);
          copyFileSync(ours, theirs);
          continue;
        }
        const check = await qemuImg(['check', ours], { cwd: folder.path });
        const theirCheck = await qemuImg(['check', theirs], { cwd: folder.path });
        // Leaks that were there before stay there.
        expect(check.code === 0 || check.code === theirCheck.code, `${what}\n${check.stdout}${check.stderr}`).toBe(true);
        expect(await specific(ours), what).toEqual(await specific(theirs));
      }
      const compared = await qemuImg(['compare', '-U', '-f', 'qcow2', '-F', 'raw', ours, before], { cwd: folder.path });
      expect(compared.code, `CHAINSCOPE_SEED=${seed} ${image.describe}\n${compared.stdout}${compared.stderr}`).toBe(0);
    }
  });

  it('are refused in the words of qemu-img', async () => {
    const path = join(folder.path, 'refused.qcow2');
    const ours = join(folder.path, 'refused-by-us.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=8', path, '10M']);
    await writeWithQemuIo(['-f', 'qcow2', path], ['write 0 1M']);
    await makeWithQemuImg(['snapshot', '-c', 's', path]);
    for (const options of [
      { refcount_bits: 1 },
      { compat: '0.10' },
      { data_file: 'x' },
      { data_file_raw: true },
      { backing_file: 'x' },
      { compat: '0.10', refcount_bits: 16, lazy_refcounts: true },
      { refcount_bits: 3 },
    ] satisfies Qcow2AmendOptions[]) {
      const theirs = join(folder.path, 'refused-by-qemu.qcow2');
      copyFileSync(path, theirs);
      const { code, stderr } = await qemuImg(['amend', '-f', 'qcow2', '-o', words(options), theirs]);
      expect(code, words(options)).toBe(1);
      copyFileSync(path, ours);
      // What to do is told apart from what is wrong.
      expect(stderr.split('\n')[0], words(options)).toBe(`qemu-img: ${await amend(ours, options)}`);
    }
  });

  it('get and lose passphrases', async () => {
    const path = join(folder.path, 'luks.qcow2');
    const secret = (id: string, data: string) => ['--object', `secret,id=${id},data=${data}`];
    await makeWithQemuImg([
      'create',
      '-q',
      ...secret('s', 'chainscope'),
      '-f',
      'qcow2',
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
      path,
      '1M',
    ]);
    const opens = async (passphrase: string) =>
      (await qemuImg(['check', ...secret('s', passphrase), '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`]))
        .code === 0;
    const newSecret = new TextEncoder().encode('another');
    expect(await amend(path, { encrypt: { state: 'active', newSecret, iterTime: 10 } })).toBe('');
    expect([await opens('another'), await opens('chainscope'), await opens('third')]).toEqual([true, true, false]);
    expect(await amend(path, { encrypt: { state: 'inactive', oldSecret: PASSPHRASE } })).toBe('');
    expect([await opens('another'), await opens('chainscope')]).toEqual([true, false]);
    expect(await amend(path, { encrypt: { state: 'inactive', oldSecret: newSecret } })).toMatch(/irreversibly - refusing operation$/);
  });
});

it('the backing link changes and what nobody here knows stays', async () => {
  const path = join(folder.path, 'link.qcow2');
  await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', path, '10M']);
  // An extension of a type that nobody knows, and a header field too.
  const bytes = readFileSync(path);
  const moved = Buffer.from(bytes.subarray(112, 1024));
  bytes.writeUInt32BE(120, 100);
  bytes.write('PRIVATE!', 112, 'latin1');
  bytes.writeUInt32BE(0x77777777, 120);
  bytes.writeUInt32BE(5, 124);
  bytes.write('hello\0\0\0', 128, 'latin1');
  moved.copy(bytes, 136);
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(8) + 24n, 8);
  writeFileSync(path, bytes);
  const info = async () => JSON.parse((await qemuImg(['info', '--output=json', path])).stdout) as Record<string, unknown>;
  expect(await info()).toMatchObject({ 'backing-filename': 'base.qcow2' });

  const link = async (name: string | null, format: string | null) => {
    const storage = FileStorage.openFile(path, { writable: true });
    try {
      await setBackingLink(QuietImage.open(storage), name, format);
    } finally {
      storage.close();
    }
  };
  await link('elsewhere/a long name.raw', 'raw');
  expect(await info()).toMatchObject({ 'backing-filename': 'elsewhere/a long name.raw', 'backing-filename-format': 'raw' });
  await link(null, null);
  expect(await info()).not.toHaveProperty('backing-filename');
  const header = readFileSync(path).subarray(0, 1024).toString('latin1');
  expect(header).toContain('PRIVATE!');
  expect(header).toContain('wwww\0\0\0\x05hello');
  expect(await qemuImg(['check', path])).toMatchObject({ code: 0 });
  await expect(link('x'.repeat(1024), 'raw')).rejects.toMatchObject({ code: 'request.invalid' });
});
