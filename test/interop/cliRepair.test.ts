import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeImage } from './images';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* `check -r`: qemu-img judges what is left. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('repair');
});
afterAll(() => folder.dispose());

const path = (name: string) => join(folder.path, name);

/** Offsets of the first refcount block and of the first L2 table. */
function places(bytes: Buffer): { readonly block: number; readonly l2: number } {
  const table = Number(bytes.readBigUInt64BE(48));
  const l1 = Number(bytes.readBigUInt64BE(40));
  return { block: Number(bytes.readBigUInt64BE(table)), l2: Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n) };
}

describe('check -r', () => {
  const cases = [
    {
      name: 'a leak',
      modes: ['leaks', 'all'],
      leaks: 1,
      corruptions: 0,
      damage: (b: Buffer) => b.writeUInt16BE(1, places(b).block + 2 * 15),
    },
    {
      name: 'a missing count',
      modes: ['all'],
      leaks: 0,
      corruptions: 1,
      damage: (b: Buffer) => b.writeUInt16BE(0, places(b).block + 2 * 5),
    },
    {
      name: 'a count that is too high',
      modes: ['leaks', 'all'],
      leaks: 1,
      corruptions: 0,
      damage: (b: Buffer) => b.writeUInt16BE(2, places(b).block + 2 * 5),
    },
    { name: 'a flag', modes: ['leaks', 'all'], leaks: 0, corruptions: 1, damage: (b: Buffer) => b.writeUInt8(0, places(b).l2) },
  ] as const;
  test.each(cases.flatMap((damaged) => damaged.modes.map((mode) => ({ ...damaged, mode }))))(
    '$mode repairs $name',
    async ({ damage, mode, leaks, corruptions }) => {
      const image = path('damaged.qcow2');
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '1M']);
      await writeWithQemuIo([image], ['write -P 7 0 600k']);
      // With a cluster behind the last one, which nothing refers to.
      const bytes = Buffer.concat([readFileSync(image), Buffer.alloc(65536)]);
      damage(bytes);
      writeFileSync(image, bytes);
      copyFileSync(image, path('theirs.qcow2'));
      const ours = await chainscope(['check', '-r', mode, image]);
      const theirs = await qemuImg(['check', '-r', mode, path('theirs.qcow2')]);
      const repaired = (text: string) => /repaired:\n\n {4}(\d+) leaked clusters\n {4}(\d+) corruptions/.exec(text)?.slice(1).map(Number);
      expect({ code: ours.code, repaired: repaired(ours.stdout) }).toEqual({ code: 0, repaired: [leaks, corruptions] });
      expect({ code: theirs.code, repaired: repaired(theirs.stdout) }).toEqual({ code: 0, repaired: [leaks, corruptions] });
      expect(await qemuImg(['check', image])).toMatchObject({ code: 0 });
      await writeWithQemuIo(['-r', image], ['read -P 7 0 600k', 'read -P 0 600k 424k']);
    },
  );

  test.each(['leaks', 'all'])('%s clears autoclear features that nobody here knows, also in a sound image', async (mode) => {
    const image = path('autoclear.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '1M']);
    const bytes = readFileSync(image);
    bytes.writeBigUInt64BE(1n << 63n, 88);
    writeFileSync(image, bytes);
    expect(await chainscope(['check', '-r', mode, image])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(image).readBigUInt64BE(88)).toBe(0n);
    expect(await qemuImg(['check', image])).toMatchObject({ code: 0 });
  });

  test('leaves what it cannot repair, and says so', async () => {
    const image = path('overlap.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', image, '1M']);
    await writeWithQemuIo([image], ['write -P 7 0 600k']);
    const bytes = readFileSync(image);
    // The refcount block is where the L2 table is.
    bytes.writeBigUInt64BE(BigInt(places(bytes).l2), Number(bytes.readBigUInt64BE(48)));
    writeFileSync(image, bytes);
    const { code, stderr } = await chainscope(['check', '-r', 'all', image]);
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be repaired') as unknown });
    expect(readFileSync(image).equals(bytes)).toBe(true);
  });

  test('ends as qemu-img where there is nothing to repair, or nobody can', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', path('sound.qcow2'), '1M']);
    await makeWithQemuImg(['create', '-q', '-f', 'qed', path('sound.qed'), '1M']);
    await makeWithQemuImg(['create', '-q', '-f', 'raw', path('a.raw'), '1M']);
    for (const args of [
      ['sound.qcow2'],
      ['sound.qed'],
      ['--output=json', 'sound.qcow2'],
      ['-f', 'raw', 'a.raw'],
      ['-U', 'sound.qcow2'],
      ['-q', 'sound.qcow2'],
    ]) {
      const ours = await chainscope(['check', '-r', 'all', ...args], { cwd: folder.path });
      const theirs = await qemuImg(['check', '-r', 'all', ...args], { cwd: folder.path });
      expect(ours, args.join(' ')).toEqual(theirs);
    }
  });

  const seed = testSeed();
  test(`repairs counts of random images (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < testCases(6); index++) {
      const made = await makeImage(random.bits(), folder.path, { format: 'qcow2', encrypted: 0, maxSize: 16 * 1024 * 1024 });
      const what = `CHAINSCOPE_SEED=${seed} case ${index}: ${made.describe}`;
      await makeWithQemuImg(['convert', '-U', '-O', 'raw', made.path, path('before.raw')]);
      const bytes = readFileSync(made.path);
      const { block } = places(bytes);
      for (let step = 0; step < 4; step++) {
        // Counts of the first clusters; that of the header stays, QEMU checks nothing without it.
        const clusterSize = 2 ** bytes.readUInt32BE(20);
        const at = block + 8 + random.below(Math.min(64, clusterSize - 8));
        bytes.writeUInt8(random.below(256), at);
      }
      writeFileSync(made.path, bytes);
      const { code, stderr } = await chainscope(['check', '-r', 'all', '-f', 'qcow2', made.path], { cwd: folder.path });
      expect(code, `${what}\n${stderr}`).toBe(0);
      expect((await qemuImg(['check', '-f', 'qcow2', made.path], { cwd: folder.path })).code, what).toBe(0);
      const compared = await qemuImg(['compare', '-U', '-f', 'qcow2', '-F', 'raw', made.path, path('before.raw')], { cwd: folder.path });
      expect(compared.code, what).toBe(0);
    }
  });
});
