import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { createQed, type QedCreateOptions } from '../../src/engine/formats/qed/create';
import { QedNode } from '../../src/engine/formats/qed/qedNode';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { BytesNode, expectSame } from '../unit/qed/nodes';
import { crashed } from '../harness/storage/recordingStorage';
import { TestStorage } from '../unit/qed/testStorage';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

const seed = testSeed();
let folder: Awaited<ReturnType<typeof temporaryFolder>>;

beforeAll(async () => {
  folder = await temporaryFolder('qed');
});

afterAll(async () => {
  await folder.dispose();
});

function at(name: string): string {
  return join(folder.path, name);
}

function openNode(path: string, backing: BytesNode | null, readOnly = false): Promise<QedNode> {
  const storage = FileStorage.openFile(path, { writable: !readOnly });
  return QedNode.open(storage, { nodeName: 'node', filename: path, backing, readOnly });
}

async function check(path: string): Promise<{ readonly corruptions?: number; readonly leaks?: number; readonly 'check-errors': number }> {
  const { stdout } = await qemuImg(['check', '-f', 'qed', '--output=json', path]);
  return JSON.parse(stdout) as { readonly 'check-errors': number };
}

/** The guest's bytes as qemu-img reads them. */
async function guestBytes(path: string): Promise<Uint8Array> {
  await makeWithQemuImg(['convert', '-f', 'qed', '-O', 'raw', path, at('guest.raw')]);
  return readFile(at('guest.raw'));
}

describe('creation', () => {
  const cases: readonly QedCreateOptions[] = [
    { size: 0 },
    { size: 1000 },
    { size: 2 ** 20, cluster_size: 4096 },
    { size: 2 ** 40, cluster_size: 2 ** 20, table_size: 16 },
    { size: 5 * 2 ** 30, backing_file: 'base.raw', backing_fmt: 'raw' },
    { size: 2 ** 21, backing_file: 'base.qcow2', backing_fmt: 'qcow2', table_size: 2, cluster_size: 8192 },
  ];

  test.each(cases)('%j gives the file that qemu-img gives', async (options) => {
    await makeWithQemuImg(['create', '-q', '-f', 'raw', at('base.raw'), '1M']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', at('base.qcow2'), '1M']);
    const { size, ...others } = options;
    const list = Object.entries(others).map(([name, value]) => `${name}=${value}`);
    await makeWithQemuImg(['create', '-q', '-f', 'qed', ...(list.length > 0 ? ['-o', list.join()] : []), at('theirs.qed'), String(size)], {
      cwd: folder.path,
    });
    const storage = FileStorage.openFile(at('ours.qed'), { writable: true, create: 'truncate' });
    await createQed(storage, options);
    storage.close();
    expect(Buffer.compare(await readFile(at('ours.qed')), await readFile(at('theirs.qed')))).toBe(0);
  });
});

test(`both write the same image in turn (CHAINSCOPE_SEED=${seed})`, async () => {
  for (let round = 0; round < testCases(4); round++) {
    const random = new Random(seed + round);
    const clusterSize = random.pick([4096, 8192, 65536] as const);
    const size = clusterSize * random.between(20, 40) + 512 * random.below(8);
    const base = Buffer.alloc(random.pick([size, 3 * clusterSize + 512, size + clusterSize] as const));
    for (let i = 0; i < base.length; i += 512) {
      base.fill(1 + ((i / 512) % 250), i, i + 512);
    }
    const backed = random.chance(0.7);
    await writeFile(at('base.raw'), base);
    const storage = FileStorage.openFile(at('both.qed'), { writable: true, create: 'truncate' });
    const backing = backed ? { backing_file: at('base.raw'), backing_fmt: 'raw' } : {};
    await createQed(storage, { size, cluster_size: clusterSize, table_size: 2, ...backing });
    storage.close();
    const expected = Buffer.alloc(size);
    if (backed) {
      base.copy(expected, 0, 0, Math.min(size, base.length));
    }
    for (let turn = 0; turn < 6; turn++) {
      const node = turn % 2 === 0 ? await openNode(at('both.qed'), backed ? new BytesNode(base) : null) : null;
      const commands: string[] = [];
      for (let i = 0; i < 8; i++) {
        // QEMU 7.2 fills the rest of a zero cluster from the backing file when a part is written, where its own specification has zeroes.
        const unit = backed && !node ? clusterSize : 512;
        const length = unit * random.between(1, (3 * clusterSize) / unit);
        const offset = unit * random.below(Math.floor((size - length) / unit) + 1);
        const value = random.chance(0.3) ? 0 : random.between(1, 255);
        expected.fill(value, offset, offset + length);
        if (!node) {
          commands.push(value === 0 ? `write -z -u ${offset} ${length}` : `write -P ${value} ${offset} ${length}`);
        } else if (value === 0) {
          await node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
        } else {
          await node.write(offset, new Uint8Array(length).fill(value));
        }
      }
      if (node) {
        await node.close();
      } else {
        await writeWithQemuIo(['-f', 'qed', at('both.qed')], commands);
      }
      expect(await check(at('both.qed'))).toMatchObject({ 'check-errors': 0 });
      expect((await check(at('both.qed'))).corruptions ?? 0).toBe(0);
      expect((await check(at('both.qed'))).leaks ?? 0).toBe(0);
      expectSame(await guestBytes(at('both.qed')), expected);
      const reader = await openNode(at('both.qed'), backed ? new BytesNode(base) : null, true);
      const ours = new Uint8Array(size);
      await reader.read(0, ours);
      await reader.close();
      expectSame(ours, expected);
    }
  }
});

test('QEMU sees what resizing and another backing file did', async () => {
  await writeFile(at('base.raw'), Buffer.alloc(10 * 65536, 7));
  await makeWithQemuImg(['create', '-q', '-f', 'qed', '-b', at('base.raw'), '-F', 'raw', at('grown.qed'), '100K']);
  const node = await openNode(at('grown.qed'), new BytesNode(Buffer.alloc(10 * 65536, 7)));
  await node.resize(20 * 65536);
  await node.close();
  const expected = Buffer.alloc(20 * 65536);
  expected.fill(7, 0, 100 * 1024);
  expectSame(await guestBytes(at('grown.qed')), expected);
  const again = await openNode(at('grown.qed'), null);
  await again.changeBackingFile('other', 'qcow2');
  await again.close();
  const { stdout } = await qemuImg(['info', '--output=json', at('grown.qed')]);
  expect(JSON.parse(stdout)).toMatchObject({ 'backing-filename': 'other', 'virtual-size': 20 * 65536 });
});

test(`QEMU finds nothing wrong after a crash of ours, and we nothing after one of its (CHAINSCOPE_SEED=${seed})`, async () => {
  const random = new Random(seed);
  const base = Buffer.alloc(40 * 4096, 9);
  await writeFile(at('base.raw'), base);
  const storage = new TestStorage();
  await createQed(storage, { size: base.length, cluster_size: 4096, table_size: 2, backing_file: at('base.raw'), backing_fmt: 'raw' });
  const start = storage.bytes;
  storage.log.length = 0;
  const node = await QedNode.open(storage, { nodeName: 'node', filename: 'x', backing: new BytesNode(base), readOnly: false });
  for (let i = 0; i < 12; i++) {
    await node.write(512 * random.below(300), new Uint8Array(512 * random.between(1, 20)).fill(i + 1));
    await (random.chance(0.4) ? node.flush() : undefined);
  }
  await node.close();
  for (let round = 0; round < testCases(15); round++) {
    const count = random.below(storage.log.length + 1);
    const bytes = crashed(start, storage.log, count, () => random.chance(0.5));
    await writeFile(at('crashed.qed'), bytes);
    expect((await check(at('crashed.qed'))).corruptions ?? 0).toBe(0);
    const reader = await QedNode.open(new TestStorage(bytes), {
      nodeName: 'node',
      filename: 'x',
      backing: new BytesNode(base),
      readOnly: true,
    });
    const ours = new Uint8Array(base.length);
    await reader.read(0, ours);
    expectSame(ours, await guestBytes(at('crashed.qed')));
  }
  // qemu-io is killed between its writes: the mark stays, and entries may lead past the end of the file.
  await makeWithQemuImg(['create', '-q', '-f', 'qed', '-o', 'cluster_size=4096,table_size=2', at('killed.qed'), '1M']);
  await runTool('qemu-io', ['-f', 'qed', '-c', 'write -P 3 0 8k', '-c', 'flush', '-c', 'sigraise 9', at('killed.qed')]);
  const killed = await openNode(at('killed.qed'), null);
  const found = new Uint8Array(8192);
  await killed.read(0, found);
  expect(found.every((byte) => byte === 3)).toBe(true);
  await killed.close();
  expect((await check(at('killed.qed'))).corruptions ?? 0).toBe(0);
});
