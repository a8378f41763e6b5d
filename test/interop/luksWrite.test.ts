import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import type { OpenedImage } from '../../src/engine/block/graph/openedImage';
import { followGate } from '../../src/engine/gate/policies';
import { createImage } from '../../src/engine/manage/create';
import { createImageSnapshot } from '../../src/engine/manage/snapshot';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* Encrypted images that we write in turn with QEMU: both see what the other wrote, and what lies in the file is not what the guest wrote. */

const PASSPHRASE = new TextEncoder().encode('chainscope');
const SECRET = ['--object', 'secret,id=s,data=chainscope'];

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('luks-write');
});
afterAll(() => folder.dispose());

function open(path: string, passphrase: Uint8Array | null = PASSPHRASE): Promise<OpenedImage> {
  const graph = new BlockGraph({ gate: followGate('all') });
  return graph.open(path, { format: 'qcow2', readOnly: false, user: 'a test', passphraseOf: () => passphrase });
}

const named = (path: string) => [...SECRET, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`];

/** What a guest reads, by QEMU. */
async function content(path: string): Promise<Buffer> {
  const raw = `${path}.raw`;
  await makeWithQemuImg(['convert', ...named(path), '-O', 'raw', raw]);
  return readFileSync(raw);
}

describe('LUKS images', () => {
  const seed = testSeed();
  it(`hold what both wrote (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < testCases(5); index++) {
      const path = join(folder.path, 'turns.qcow2');
      const size = random.between(2000, 16_000) * 512;
      const options: Record<string, string> = {
        cluster_size: String(2 ** random.between(9, 18)),
        'encrypt.format': 'luks',
        'encrypt.key-secret': 's',
        'encrypt.iter-time': '10',
        'encrypt.cipher-alg': random.pick(['aes-256', 'aes-128']),
        ...(random.chance(0.3) ? { 'encrypt.cipher-mode': 'cbc', 'encrypt.ivgen-alg': 'essiv' } : {}),
      };
      if (random.chance(0.3)) {
        Object.assign(options, { cluster_size: '65536', extended_l2: 'on' });
      }
      const what = `CHAINSCOPE_SEED=${seed} case ${index}: ${size} ${JSON.stringify(options)}`;
      const secretOf = () => PASSPHRASE;
      await createImage({ filename: path, format: 'qcow2', size, options }, { gate: followGate('all'), secretOf });
      const expected = new Uint8Array(size);
      for (let turn = 0; turn < 3; turn++) {
        const image = await open(path);
        for (let step = 0; step < 10; step++) {
          const unit = random.chance(0.3) ? 1 : 512;
          const offset = random.below(size / unit) * unit;
          const length = Math.min(size - offset, random.between(1, 100_000));
          if (random.chance(0.8)) {
            const bytes = new Uint8Array(length).map((_, at) => (at * 7 + step * 31 + turn) & 0xff);
            expected.set(bytes, offset);
            await Promise.resolve(image.node.write(offset, bytes));
          } else {
            expected.fill(0, offset, offset + length);
            await Promise.resolve(image.node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) }));
          }
        }
        const seen = new Uint8Array(size);
        await Promise.resolve(image.node.read(0, seen));
        expect(Buffer.from(seen).equals(expected), `${what}\nread by us in turn ${turn}`).toBe(true);
        await image.close();
        expect((await content(path)).equals(expected), `${what}\nread by QEMU in turn ${turn}`).toBe(true);
        expect(await qemuImg(['check', ...named(path)]), what).toMatchObject({ code: 0 });
        const [at, pattern] = [random.below(size / 512 - 200) * 512, random.between(1, 255)];
        const length = random.between(1, 200) * 512;
        await writeWithQemuIo(named(path), [`write -P ${pattern} ${at} ${length}`]);
        expected.fill(pattern, at, at + length);
        if (turn === 0) {
          await createImageSnapshot({ filename: path, format: 'qcow2' }, 'kept', { gate: followGate('all'), passphraseOf: secretOf });
        }
      }
      expect((await content(path)).equals(expected), what).toBe(true);
    }
  });

  it('show nothing of what was written to who reads the file', async () => {
    const path = join(folder.path, 'secret.qcow2');
    const options = { 'encrypt.format': 'luks', 'encrypt.key-secret': 's', 'encrypt.iter-time': '10' };
    await createImage(
      { filename: path, format: 'qcow2', size: 1024 * 1024, options },
      { gate: followGate('all'), secretOf: () => PASSPHRASE },
    );
    const image = await open(path);
    await Promise.resolve(image.node.write(1000, new TextEncoder().encode('a sentence nobody else should read'.repeat(50))));
    await image.close();
    expect(readFileSync(path).includes('nobody else')).toBe(false);
    expect((await content(path)).includes('nobody else')).toBe(true);
  });

  it('do not open without the passphrase, nor with another', async () => {
    const path = join(folder.path, 'closed.qcow2');
    const options = { 'encrypt.format': 'luks', 'encrypt.key-secret': 's', 'encrypt.iter-time': '10' };
    await createImage(
      { filename: path, format: 'qcow2', size: 1024 * 1024, options },
      { gate: followGate('all'), secretOf: () => PASSPHRASE },
    );
    const before = readFileSync(path);
    await expect(open(path, new TextEncoder().encode('wrong'))).rejects.toMatchObject({ code: 'data.passphrase' });
    await expect(open(path, null)).rejects.toMatchObject({ code: 'data.encrypted' });
    expect(readFileSync(path).equals(before)).toBe(true);
    // Nobody is kept out by what did not open.
    expect(await runTool('qemu-io', [...named(path), '-c', 'write 0 64k'])).toMatchObject({ code: 0 });
  });

  it('with the old AES encryption are read and not written', async () => {
    const path = join(folder.path, 'aes.qcow2');
    await makeWithQemuImg(['create', '-q', ...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s', path, '1M']);
    const image = await open(path);
    await expect(Promise.resolve().then(() => image.node.write(0, new Uint8Array(512)))).rejects.toMatchObject({
      code: 'request.readOnly',
    });
    await image.close();
  });
});
