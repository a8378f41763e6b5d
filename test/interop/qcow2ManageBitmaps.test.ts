import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import {
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  readBitmap,
  removeBitmap,
} from '../../src/engine/formats/qcow2/manage/bitmaps';
import { BitmapTracker } from '../../src/engine/formats/qcow2/manage/bitmapTracker';
import { QuietImage } from '../../src/engine/formats/qcow2/manage/quietImage';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* The same operations on bitmaps by us and by qemu-img, on two images that qemu-io writes the same to; a real NBD client reads both. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('bitmaps');
});
afterAll(() => folder.dispose());

async function onImage<T>(path: string, action: (image: QuietImage, storage: FileStorage) => Promise<T>): Promise<T> {
  const storage = FileStorage.openFile(path, { writable: true });
  try {
    return await action(QuietImage.open(storage), storage);
  } finally {
    storage.close();
  }
}

/** Ours succeeds where qemu-img does, and fails with its words where it does not. */
async function both(ours: Promise<unknown>, theirs: readonly string[], what: string): Promise<void> {
  const failure = await ours.then(
    () => '',
    (error: unknown) => (error as Error).message,
  );
  const { code, stderr } = await qemuImg(['bitmap', ...theirs]);
  expect(failure === '', `${what}\n${stderr}${failure}`).toBe(code === 0);
  if (code !== 0) {
    expect(stderr, what).toContain(failure);
  }
}

interface ShownBitmap {
  readonly name: string;
  readonly flags: readonly string[];
  readonly granularity: number;
}

async function shown(path: string): Promise<readonly ShownBitmap[]> {
  const { stdout } = await qemuImg(['info', '--output=json', path]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: ShownBitmap[] } } };
  return info['format-specific'].data.bitmaps ?? [];
}

/** What an NBD client is told of a bitmap. */
async function clientMap(path: string, name: string): Promise<unknown> {
  const { code, stdout, stderr } = await runTool('nbdinfo', [
    '--json',
    `--map=qemu:dirty-bitmap:${name}`,
    '--',
    '[',
    'qemu-nbd',
    '-r',
    '-f',
    'qcow2',
    '-B',
    name,
    path,
    ']',
  ]);
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

async function expectSound(path: string, what: string): Promise<void> {
  const { code, stdout, stderr } = await qemuImg(['check', path]);
  expect(code, `${what}\n${stdout}${stderr}`).toBe(0);
}

describe('persistent bitmaps', () => {
  const seed = testSeed();
  const cases = testCases(4);
  it(`are those that qemu-img would have made (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < cases; index++) {
      const ours = join(folder.path, 'ours.qcow2');
      const theirs = join(folder.path, 'theirs.qcow2');
      const clusterBits = random.between(9, 17);
      const size = random.between(1, 4000) * 512;
      const options = `cluster_size=${2 ** clusterBits},refcount_bits=${2 ** random.between(0, 6)}`;
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', options, ours, `${size}`]);
      copyFileSync(ours, theirs);
      const log = [options, `${size}`];
      for (let step = 0; step < 10; step++) {
        const name = random.pick(['a', 'b', 'c']);
        const kind = random.pick(['write', 'write', 'add', 'add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const);
        log.push(`${kind} ${name}`);
        const what = `CHAINSCOPE_SEED=${seed}\n${log.join('\n')}`;
        switch (kind) {
          case 'write': {
            const offset = random.below(size / 512) * 512;
            const command = `write ${offset} ${Math.min(size - offset, random.between(1, 300) * 512)}`;
            await writeWithQemuIo(['-f', 'qcow2', ours], [command]);
            await writeWithQemuIo(['-f', 'qcow2', theirs], [command]);
            break;
          }
          case 'add': {
            const granularity = random.chance(0.3) ? undefined : 2 ** random.between(9, 20);
            const enabled = random.chance(0.7);
            const args = ['--add', ...(granularity ? ['-g', `${granularity}`] : []), ...(enabled ? [] : ['--disable']), theirs, name];
            await both(
              onImage(ours, (image) => addBitmap(image, { name, granularity, enabled })),
              args,
              what,
            );
            break;
          }
          case 'merge': {
            const source = random.pick(['a', 'b', 'c']);
            await both(
              onImage(ours, async (image) => {
                // The target is looked for first.
                readBitmap(image.metadata, name);
                await mergeBitmap(image, name, readBitmap(image.metadata, source));
              }),
              ['--merge', source, theirs, name],
              what,
            );
            break;
          }
          default: {
            const action = { remove: removeBitmap, clear: clearBitmap, enable: enableBitmap, disable: disableBitmap }[kind];
            await both(
              onImage(ours, (image) => action(image, name)),
              [`--${kind}`, theirs, name],
              what,
            );
          }
        }
        await expectSound(ours, what);
        expect(await shown(ours), what).toEqual(await shown(theirs));
      }
      for (const { name } of await shown(theirs)) {
        expect(await clientMap(ours, name), log.join('\n')).toEqual(await clientMap(theirs, name));
      }
    }
  });

  it('from another image can be merged', async () => {
    const [from, to] = [join(folder.path, 'from.qcow2'), join(folder.path, 'to.qcow2')];
    for (const path of [from, to]) {
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', path, '10M']);
      await makeWithQemuImg(['bitmap', '--add', '-g', path === from ? '64k' : '512', path, 'b']);
    }
    await writeWithQemuIo(['-f', 'qcow2', from], ['write 1M 1k', 'write 5M 100k']);
    const bits = await onImage(from, (image) => Promise.resolve(readBitmap(image.metadata, 'b')));
    await onImage(to, (image) => mergeBitmap(image, 'b', bits));
    expect(bits.dirtyBytes).toBe(3 * 65536);
    expect(await clientMap(to, 'b')).toEqual(await clientMap(from, 'b'));
    await expectSound(to, 'after merging');
  });

  it('are tracked: in use while a guest writes, true when it is closed, inconsistent when it never was', async () => {
    const path = join(folder.path, 'tracked.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', path, '10M']);
    await makeWithQemuImg(['bitmap', '--add', path, 'on']);
    await makeWithQemuImg(['bitmap', '--add', '--disable', path, 'off']);
    const flagsOf = async () => Object.fromEntries((await shown(path)).map(({ name, flags }) => [name, flags]));
    const storage = FileStorage.openFile(path, { writable: true });
    try {
      const tracker = BitmapTracker.load(storage, QuietImage.open(storage).metadata);
      expect(await flagsOf()).toEqual({ on: ['auto'], off: [] });
      await tracker?.changing(100_000, 100_000);
      expect(await flagsOf()).toEqual({ on: ['in-use', 'auto'], off: [] });
      expect(tracker?.changing(5_000_000, 1)).toBeUndefined();
      const lost = join(folder.path, 'lost.qcow2');
      copyFileSync(path, lost);
      await tracker?.store(QuietImage.open(storage));
      expect(await flagsOf()).toEqual({ on: ['auto'], off: [] });
      await expectSound(path, 'after storing');
      expect(readBitmap(QuietImage.open(storage).metadata, 'on').dirtyBytes).toBe(4 * 65536);

      await expect(onImage(lost, (image) => clearBitmap(image, 'on'))).rejects.toMatchObject({ code: 'request.invalid' });
      await onImage(lost, (image) => removeBitmap(image, 'on'));
      expect((await shown(lost)).map(({ name }) => name)).toEqual(['off']);
      await expectSound(lost, 'after removing');
    } finally {
      storage.close();
    }
  });
});
