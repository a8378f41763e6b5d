import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { QuietImage } from '../../src/engine/formats/qcow2/manage/quietImage';
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from '../../src/engine/formats/qcow2/manage/snapshots';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { crashed } from '../harness/storage/recordingStorage';
import { TestStorage } from '../unit/qed/testStorage';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* The same snapshots by us and by qemu-img, on two images that qemu-io writes the same to. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('snapshots');
});
afterAll(() => folder.dispose());

async function onImage<T>(path: string, action: (image: QuietImage) => Promise<T>): Promise<T> {
  const storage = FileStorage.openFile(path, { writable: true });
  try {
    return await action(QuietImage.open(storage));
  } finally {
    storage.close();
  }
}

async function expectSound(path: string, what: string): Promise<void> {
  const { code, stdout, stderr } = await qemuImg(['check', path]);
  expect(code, `${what}\n${stdout}${stderr}`).toBe(0);
}

async function expectSame(ours: string, theirs: string, what: string): Promise<void> {
  const { code, stdout, stderr } = await qemuImg(['compare', ours, theirs]);
  expect(code, `${what}\n${stdout}${stderr}`).toBe(0);
}

async function idsAndNames(path: string): Promise<readonly (readonly [string, string])[]> {
  const { stdout } = await qemuImg(['info', '--output=json', path]);
  const { snapshots = [] } = JSON.parse(stdout) as { snapshots?: { id: string; name: string }[] };
  return snapshots.map(({ id, name }) => [id, name]);
}

describe('snapshots', () => {
  const seed = testSeed();
  const cases = testCases(5);
  it(`are those that qemu-img would have made (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < cases; index++) {
      const ours = join(folder.path, 'ours.qcow2');
      const theirs = join(folder.path, 'theirs.qcow2');
      const old = random.chance(0.2);
      const clusterBits = random.between(9, 18);
      const options = [`cluster_size=${2 ** clusterBits}`, `compat=${old ? '0.10' : '1.1'}`];
      if (!old) {
        options.push(`refcount_bits=${2 ** random.between(3, 6)}`, `extended_l2=${clusterBits >= 14 && random.chance(0.5) ? 'on' : 'off'}`);
      }
      const size = random.between(1, 2000) * 1024;
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', options.join(','), ours, `${size}`]);
      copyFileSync(ours, theirs);
      const log: string[] = [options.join(), `${size}`];
      for (let step = 0; step < 12; step++) {
        const names = (await idsAndNames(theirs)).map(([, name]) => name);
        const kind = random.pick(['write', 'write', 'create', 'create', 'apply', 'delete']);
        const name = random.pick(names) ?? '';
        if (kind === 'write' || ((kind === 'apply' || kind === 'delete') && name === '')) {
          const offset = random.below(size / 512) * 512;
          const length = Math.min(size - offset, random.between(1, 200) * 512);
          const command = random.pick([
            `write -P ${random.between(1, 255)} ${offset} ${length}`,
            `write -z ${offset} ${length}`,
            `discard ${offset} ${length}`,
            `write -c -P ${random.between(1, 255)} ${Math.floor(offset / 2 ** clusterBits) * 2 ** clusterBits} ${2 ** clusterBits}`,
          ]);
          log.push(command);
          // A compressed write past the end of the disk is refused, by both alike.
          for (const path of [ours, theirs]) {
            await writeWithQemuIo(['-f', 'qcow2', path], [command]).catch(() => undefined);
          }
        } else {
          log.push(`${kind} ${name}`);
          switch (kind) {
            case 'create': {
              const fresh = `s${random.below(4)}`;
              await onImage(ours, (image) => createSnapshot(image, { name: fresh }));
              await makeWithQemuImg(['snapshot', '-c', fresh, theirs]);
              break;
            }
            case 'apply':
              await onImage(ours, (image) => applySnapshot(image, name));
              await makeWithQemuImg(['snapshot', '-a', name, theirs]);
              break;
            case 'delete':
              await onImage(ours, (image) => deleteSnapshot(image, { name }));
              await makeWithQemuImg(['snapshot', '-d', name, theirs]);
              break;
          }
          const what = log.join('\n');
          await expectSound(ours, what);
          expect(await idsAndNames(ours), what).toEqual(await idsAndNames(theirs));
        }
        await expectSame(ours, theirs, log.join('\n'));
      }
      for (const [id] of await idsAndNames(theirs)) {
        const [a, b] = [join(folder.path, 'a.raw'), join(folder.path, 'b.raw')];
        await makeWithQemuImg(['convert', '-l', `snapshot.id=${id}`, '-O', 'raw', ours, a]);
        await makeWithQemuImg(['convert', '-l', `snapshot.id=${id}`, '-O', 'raw', theirs, b]);
        await expectSame(a, b, `${log.join('\n')} snapshot ${id}`);
      }
    }
  });

  it('that do not fit the refcounts are refused, and leave nothing behind', async () => {
    const path = join(folder.path, 'narrow.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=1', path, '10M']);
    await writeWithQemuIo(['-f', 'qcow2', path], ['write -P 7 0 1M']);
    await expect(onImage(path, (image) => createSnapshot(image, { name: 'a' }))).rejects.toMatchObject({ code: 'request.unsupported' });
    await expectSound(path, 'after the refusal');
  });

  it('are whole or not there at all after a crash, and the disk is what it was', async () => {
    const seed = testSeed();
    const random = new Random(seed);
    const path = join(folder.path, 'crash.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512,refcount_bits=8', path, '200k']);
    await writeWithQemuIo(['-f', 'qcow2', path], ['write -P 1 0 100k', 'write -c -P 9 110592 512']);
    await onImage(path, (image) => createSnapshot(image, { name: 'first' }));
    await writeWithQemuIo(['-f', 'qcow2', path], ['write -P 2 50k 100k']);
    const disk = { first: join(folder.path, 'first.raw'), now: join(folder.path, 'now.raw') };
    await makeWithQemuImg(['convert', '-l', 'snapshot.name=first', '-O', 'raw', path, disk.first]);
    await makeWithQemuImg(['convert', '-O', 'raw', path, disk.now]);
    const start = await import('node:fs').then((fs) => new Uint8Array(fs.readFileSync(path)));
    const actions: readonly (readonly [string, (image: QuietImage) => Promise<unknown>])[] = [
      ['create', (image) => createSnapshot(image, { name: 'second' })],
      ['apply', (image) => applySnapshot(image, 'first')],
      ['delete', (image) => deleteSnapshot(image, { name: 'first' })],
    ];
    for (const [kind, action] of actions) {
      const storage = new TestStorage(start);
      await action(QuietImage.open(storage));
      for (let trial = 0; trial < testCases(12); trial++) {
        const count = random.below(storage.log.length + 1);
        const left = join(folder.path, 'crashed.qcow2');
        writeFileSync(
          left,
          crashed(start, storage.log, count, () => random.chance(0.5)),
        );
        const what = `CHAINSCOPE_SEED=${seed} ${kind}, after ${count} of ${storage.log.length}`;
        await qemuImg(['check', '-q', '-r', 'all', left]);
        await expectSound(left, what);
        const snapshots = await onImage(left, (image) => Promise.resolve(listSnapshots(image).map(({ name }) => name)));
        const same = async (other: string) => (await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', left, other])).code === 0;
        expect((await same(disk.now)) || (kind === 'apply' && (await same(disk.first))), what).toBe(true);
        if (snapshots.includes('first')) {
          await makeWithQemuImg(['snapshot', '-a', 'first', left]);
          expect(await same(disk.first), what).toBe(true);
        } else {
          expect(kind, what).toBe('delete');
        }
      }
    }
  });
});
