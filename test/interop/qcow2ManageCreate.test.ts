import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createQcow2 } from '../../src/engine/formats/qcow2/manage/create';
import type { Qcow2CreateOptions } from '../../src/engine/formats/qcow2/manage/createOptions';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* Images that we make, beside those that qemu-img makes with the same options. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('create');
});
afterAll(() => folder.dispose());

const KIB = 1024;
const MIB = 1024 * KIB;
const PASSPHRASE = 'chainscope';

async function make(path: string, options: Qcow2CreateOptions): Promise<void> {
  const storage = FileStorage.openFile(path, { writable: true, create: 'truncate' });
  const dataFile = options.data_file
    ? FileStorage.openFile(join(folder.path, options.data_file), { writable: true, create: 'truncate' })
    : undefined;
  try {
    await createQcow2(storage, options, { dataFile, passphrase: new TextEncoder().encode(PASSPHRASE) });
  } finally {
    dataFile?.close();
    storage.close();
  }
}

/** The same options for qemu-img. */
function qemuOptions({ size, encrypt, ...options }: Qcow2CreateOptions): string[] {
  const words = Object.entries(options)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)}`);
  for (const [name, value] of Object.entries(encrypt ?? {})) {
    words.push(`encrypt.${name}=${String(value)}`);
  }
  return [...(words.length > 0 ? ['-o', words.join(',')] : []), '--', 'theirs.qcow2', String(size)];
}

async function makeTheirs(options: Qcow2CreateOptions): Promise<Buffer> {
  await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', ...qemuOptions(options)], { cwd: folder.path });
  return readFileSync(join(folder.path, 'theirs.qcow2'));
}

describe('byte for byte as qemu-img create', () => {
  const cases: readonly Qcow2CreateOptions[] = [
    { size: 0 },
    { size: 1000 },
    { size: 64 * MIB },
    { size: 2 ** 46 },
    { size: 1 * MIB, compat: '0.10' },
    { size: 10 * MIB, cluster_size: 512 },
    { size: 10 * MIB, cluster_size: 4096, lazy_refcounts: true },
    { size: 10 * MIB, cluster_size: 2 * MIB, refcount_bits: 64 },
    { size: 10 * MIB, refcount_bits: 1 },
    { size: 10 * MIB, extended_l2: true, compression_type: 'zstd' },
    { size: 10 * MIB, backing_file: 'base.raw', backing_fmt: 'raw' },
    { size: 10 * MIB, cluster_size: 512, backing_file: 'a'.repeat(100), backing_fmt: 'qcow2' },
    { size: 10 * MIB, data_file: 'data.raw' },
    { size: 10 * MIB, data_file: 'data.raw', data_file_raw: true },
    { size: 10 * MIB, preallocation: 'metadata' },
    { size: 10 * MIB, preallocation: 'metadata', extended_l2: true, backing_file: 'base.qcow2', backing_fmt: 'qcow2' },
  ];
  it.each(cases.map((options) => [JSON.stringify(options), options] as const))('%s', async (_, options) => {
    const theirs = await makeTheirs(options);
    const path = join(folder.path, 'ours.qcow2');
    await make(path, options);
    const ours = readFileSync(path);
    expect(ours.length).toBe(theirs.length);
    expect(ours.equals(theirs)).toBe(true);
  });
});

it('refuses what qemu-img refuses, in its words', async () => {
  const cases: readonly Qcow2CreateOptions[] = [
    { size: MIB, cluster_size: 1000 },
    { size: MIB, refcount_bits: 3 },
    { size: MIB, compat: '0.10', refcount_bits: 8 },
    { size: MIB, compat: '0.10', lazy_refcounts: true },
    { size: MIB, compat: '0.10', extended_l2: true },
    { size: MIB, extended_l2: true, cluster_size: 4096 },
    { size: MIB, compat: '0.10', compression_type: 'zstd' },
    { size: MIB, compression_type: 'lzo' },
    { size: MIB, compat: '2.0' },
    { size: MIB, data_file_raw: true },
    { size: MIB, data_file: 'data.raw', compat: '0.10' },
    { size: MIB, preallocation: 'metadata', backing_file: 'base.raw', backing_fmt: 'raw' },
    { size: MIB, backing_file: 'base.raw', backing_fmt: 'raw', data_file: 'data.raw', data_file_raw: true },
    { size: 2 ** 40, cluster_size: 512 },
    { size: MIB, encrypt: { format: 'rot13' } },
  ];
  for (const options of cases) {
    const { stderr } = await qemuImg(['create', '-q', '-u', '-f', 'qcow2', ...qemuOptions(options)], { cwd: folder.path });
    const path = join(folder.path, 'refused.qcow2');
    const ours = await make(path, options).then(
      () => 'made',
      (error: unknown) => (error as Error).message,
    );
    expect(`qemu-img: theirs.qcow2: ${ours}\n`, JSON.stringify(options)).toBe(stderr);
  }
});

describe('preallocated and encrypted images', () => {
  const seed = testSeed();
  const cases = testCases(12);
  it(`are consistent and usable (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < cases; index++) {
      const clusterBits = random.between(9, 21);
      const options: Qcow2CreateOptions = {
        size: random.between(1, 40 * MIB),
        cluster_size: 2 ** clusterBits,
        refcount_bits: 2 ** random.between(0, 6),
        extended_l2: clusterBits >= 14 && random.chance(0.4),
        preallocation: random.pick(['metadata', 'falloc', 'full', 'off']),
        data_file: random.chance(0.3) ? 'random.raw' : null,
      };
      const path = join(folder.path, 'random.qcow2');
      await make(path, options);
      const what = JSON.stringify(options);
      const check = await qemuImg(['check', '--output=json', path], { cwd: folder.path });
      expect(check.code, `${what} ${check.stdout}${check.stderr}`).toBe(0);
      await writeWithQemuIo(['-f', 'qcow2', path], [`write -P 0x5a 0 ${Math.min(512, Math.floor(options.size / 512) * 512) || 512}`], {
        cwd: folder.path,
      });
      const again = await qemuImg(['check', '--output=json', path], { cwd: folder.path });
      expect(again.code, `${what} ${again.stdout}`).toBe(0);
      const map = JSON.parse((await qemuImg(['map', '--output=json', path], { cwd: folder.path })).stdout) as readonly {
        data: boolean;
        offset?: number;
      }[];
      expect(options.preallocation === 'off' || map.every(({ offset }) => offset !== undefined), `${what} ${JSON.stringify(map)}`).toBe(
        true,
      );
    }
  });

  it('a terabyte of metadata is a moment, and the file full of holes', async () => {
    const path = join(folder.path, 'large.qcow2');
    await make(path, { size: 2 ** 40, preallocation: 'metadata' });
    const { size, blocks } = statSync(path);
    expect(size).toBeGreaterThan(2 ** 40);
    expect(blocks * 512).toBeLessThan(200 * MIB);
    const { stdout } = await qemuImg(['info', '--output=json', path]);
    expect(JSON.parse(stdout)).toMatchObject({ 'virtual-size': 2 ** 40, 'format-specific': { data: { 'refcount-bits': 16 } } });
  });

  it.each([{}, { 'cipher-alg': 'aes-128', 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv', 'hash-alg': 'sha1' }])(
    'with LUKS %o take what qemu-io writes',
    async (encrypt) => {
      const path = join(folder.path, 'luks.qcow2');
      await make(path, { size: 10 * MIB, encrypt: { format: 'luks', 'iter-time': 10, ...encrypt } });
      const named = [
        '--object',
        `secret,id=s,data=${PASSPHRASE}`,
        '--image-opts',
        `driver=qcow2,file.filename=${path},encrypt.key-secret=s`,
      ];
      await writeWithQemuIo(named, ['write -P 0x5a 100k 300k', 'read -P 0x5a 100k 300k', 'read -P 0 0 100k']);
      expect(await qemuImg(['check', ...named])).toMatchObject({ code: 0 });
    },
  );
});
