import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { openChain } from '../../src/engine/chain/openChain';
import { openReader } from '../../src/engine/chain/chainReader';
import { unlockChain } from '../../src/engine/chain/unlock';
import { followGate } from '../../src/engine/gate/policies';
import { makeWithQemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* Encrypted images that qemu-img made and qemu-io wrote, read by us. */

const PASSPHRASE = new TextEncoder().encode('chainscope');
const SECRET = ['--object', 'secret,id=sec0,data=chainscope'];

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('luks');
});
afterAll(() => folder.dispose());

async function read(path: string, passphrase: Uint8Array, parts: readonly (readonly [offset: number, length: number])[]) {
  const chain = await openChain(path, { currentFolder: folder.path, format: 'qcow2', gate: followGate('all'), locks: null });
  try {
    const reader = openReader(chain, { ciphers: await unlockChain(chain, () => passphrase) });
    return parts.map(([offset, length]) => {
      const bytes = new Uint8Array(length);
      reader.read(offset, bytes);
      return bytes;
    });
  } finally {
    chain.close();
  }
}

async function make(name: string, options: readonly string[]): Promise<string> {
  const path = join(folder.path, name);
  await makeWithQemuImg(['create', '-q', ...SECRET, '-f', 'qcow2', '-o', ['encrypt.key-secret=sec0', ...options].join(','), path, '8M']);
  return path;
}

describe.each([
  { name: 'aes-256-xts, plain64', options: [] },
  { name: 'aes-128-xts, plain64, sha1', options: ['encrypt.cipher-alg=aes-128', 'encrypt.hash-alg=sha1'] },
  { name: 'aes-192-xts, plain', options: ['encrypt.cipher-alg=aes-192', 'encrypt.ivgen-alg=plain'] },
  {
    name: 'aes-256-cbc, essiv:sha256, sha512',
    options: ['encrypt.cipher-mode=cbc', 'encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256', 'encrypt.hash-alg=sha512'],
  },
  { name: 'aes-128-cbc, plain64', options: ['encrypt.cipher-alg=aes-128', 'encrypt.cipher-mode=cbc'] },
])('a LUKS image with $name', ({ name, options }) => {
  it('reads as what qemu-io wrote, at any alignment; another passphrase opens nothing', async () => {
    const path = await make(`${name.replaceAll(/\W/g, '-')}.qcow2`, ['encrypt.format=luks', 'encrypt.iter-time=10', ...options]);
    await writeWithQemuIo(
      [...SECRET, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=sec0`],
      ['write -P 0x5a 65536 200000', 'write -P 0x11 3145728 512'],
    );
    const [across, last, untouched] = await read(path, PASSPHRASE, [
      [65530, 150001],
      [3145728 + 511, 3],
      [4194304, 10],
    ]);
    expect(across).toEqual(Uint8Array.from({ length: 150001 }, (_, index) => (index < 6 ? 0 : 0x5a)));
    expect([...last!]).toEqual([0x11, 0, 0]);
    expect([...untouched!]).toEqual(Array.from({ length: 10 }, () => 0));
    await expect(read(path, new TextEncoder().encode('wrong'), [])).rejects.toMatchObject({ code: 'data.passphrase' });
  });
});

it('reads images with the old AES encryption', async () => {
  const path = await make('old.qcow2', ['encrypt.format=aes']);
  await writeWithQemuIo(
    [...SECRET, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=sec0`],
    // So that guest and host offsets differ.
    ['write -P 0x5a 3145728 65536', 'write -P 0x33 1048576 1024'],
  );
  const [first, second] = await read(path, PASSPHRASE, [
    [3145728 + 700, 4000],
    [1048576, 1025],
  ]);
  expect(new Set(first)).toEqual(new Set([0x5a]));
  expect(second).toEqual(Uint8Array.from({ length: 1025 }, (_, index) => (index < 1024 ? 0x33 : 0)));
});
