import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import type { OpenedImage, OpenImageOptions } from '../../src/engine/block/graph/openedImage';
import { followGate } from '../../src/engine/gate/policies';
import { makeMixedChain } from './mapChains';
import { qemuNbd } from './nbdServers';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuHolding, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* Chains opened as nodes, beside QEMU's tools on the same files. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);
beforeAll(async () => {
  folder = await temporaryFolder('graph');
});
afterAll(() => folder.dispose());

const newGraph = (): BlockGraph => new BlockGraph({ gate: followGate('all') });

const READING: OpenImageOptions = { format: null, readOnly: true, user: 'a reader' };
const WRITING: OpenImageOptions = { format: 'qcow2', readOnly: false, user: 'a guest' };

async function bytesOf({ node }: OpenedImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.size);
  await node.read(0, bytes);
  return bytes;
}

/** Two overlays of one base. */
async function family(name: string): Promise<{ base: string; a: string; b: string }> {
  const [base, a, b] = [at(`${name}-base.qcow2`), at(`${name}-a.qcow2`), at(`${name}-b.qcow2`)];
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, '4M']);
  await writeWithQemuIo(['-f', 'qcow2', base], ['write -P 1 0 1M']);
  for (const overlay of [a, b]) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay]);
  }
  return { base, a, b };
}

/** Whether QEMU opens the image for writing now. */
async function qemuMayWrite(image: string): Promise<boolean> {
  return (await runTool('qemu-io', ['-f', 'qcow2', image, '-c', 'quit'])).code === 0;
}

describe('a graph', () => {
  test('has one node for a base of two chains, as long as one of them is open', async () => {
    const { base, a, b } = await family('shared');
    const graph = newGraph();
    const first = await graph.open(a, WRITING);
    const second = await graph.open(b, WRITING);
    expect(first.node.backing).toBe(second.node.backing);
    await first.close();
    expect(await qemuMayWrite(base)).toBe(false);
    await second.close();
    expect(await qemuMayWrite(base)).toBe(true);
  });

  test('lets nobody write a base under its overlays, nor use an image that is written as a base', async () => {
    const { base, a } = await family('permissions');
    const graph = newGraph();
    const overlay = await graph.open(a, READING);
    await expect(graph.open(base, WRITING)).rejects.toMatchObject({ code: 'file.locked' });
    await overlay.close();
    const writer = await graph.open(base, WRITING);
    await expect(graph.open(a, READING)).rejects.toMatchObject({ code: 'file.locked' });
    await writer.close();
    await (await graph.open(a, READING)).close();
    expect(await qemuMayWrite(base)).toBe(true);
  });

  test('keeps QEMU from writing what is written here, and the other way round', async () => {
    const { a } = await family('locks');
    const writer = await newGraph().open(a, WRITING);
    const refused = await runTool('qemu-io', ['-f', 'qcow2', a, '-c', 'quit']);
    expect(refused.stderr).toContain('Failed to get "write" lock');
    await writer.close();
    const server = await qemuHolding(a);
    try {
      await expect(newGraph().open(a, WRITING)).rejects.toMatchObject({ code: 'file.locked' });
    } finally {
      await server.end();
    }
    await (await newGraph().open(a, WRITING)).close();
  });

  test('changes an image between reading and writing while it is read', async () => {
    const { base, a } = await family('reopen');
    const image = await newGraph().open(a, { ...READING, format: 'qcow2' });
    const data = new Uint8Array(100_000).fill(7);
    await expect(Promise.resolve().then(() => image.node.write(1000, data))).rejects.toMatchObject({ code: 'request.readOnly' });
    for (let turn = 0; turn < 3; turn++) {
      const reads = Array.from({ length: 20 }, () => bytesOf(image));
      await image.setReadOnly(false);
      await image.node.write(1000 + turn, data);
      reads.push(bytesOf(image));
      await image.setReadOnly(true);
      await Promise.all(reads);
      expect((await bytesOf(image)).subarray(1000, 1000 + data.length + turn).every((byte) => byte === 7)).toBe(true);
    }
    expect(await qemuMayWrite(a)).toBe(false);
    await image.close();
    expect((await qemuImg(['check', '-q', a])).code).toBe(0);
    await writeWithQemuIo(['-f', 'qcow2', a], ['read -P 1 0 1000', `read -P 7 1000 ${data.length + 2}`]);
    expect(await qemuMayWrite(base)).toBe(true);
  });

  test('a change to writing that QEMU does not allow leaves the image as it was', async () => {
    const { a } = await family('refused');
    const image = await newGraph().open(a, { ...READING, format: 'qcow2' });
    const reader = await qemuHolding(a, ['-r']);
    try {
      await expect(image.setReadOnly(false)).rejects.toMatchObject({ code: 'file.locked' });
      expect((await bytesOf(image))[0]).toBe(1);
    } finally {
      await reader.end();
    }
    await image.setReadOnly(false);
    await image.node.write(0, new Uint8Array(512).fill(9));
    await image.close();
    await writeWithQemuIo(['-f', 'qcow2', a], ['read -P 9 0 512']);
  });

  test('says what is wrong with a chain', async () => {
    const { base, a } = await family('wrong');
    const loop = at('loop.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', loop, '1M']);
    await makeWithQemuImg(['rebase', '-q', '-u', '-f', 'qcow2', '-b', loop, '-F', 'qcow2', loop]);
    await expect(newGraph().open(loop, READING)).rejects.toMatchObject({ code: 'chain.loop' });
    const missing = at('missing.qcow2');
    await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', at('gone'), '-F', 'qcow2', missing, '1M']);
    await expect(newGraph().open(missing, READING)).rejects.toMatchObject({ code: 'file.notFound' });
    const unknown = at('unknown.qcow2');
    await copyFile(a, unknown);
    await makeWithQemuImg(['rebase', '-q', '-u', '-f', 'qcow2', '-b', base, '-F', 'vpc', unknown]);
    await expect(newGraph().open(unknown, READING)).rejects.toMatchObject({ code: 'file.notAccessible' });
    expect(await qemuMayWrite(base)).toBe(true);
  });
});

test('an image that lies in an export of another NBD server is written there', async () => {
  const { base } = await family('remote');
  const overlay = at('remote.qcow2');
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay]);
  // One that lets the image grow beyond what the export has would have no place for it.
  await makeWithQemuImg(['resize', '-q', '-f', 'raw', overlay, '4M']);
  const server = await qemuNbd(folder.path, ['-f', 'raw', overlay]);
  try {
    const image = await newGraph().open(server.uri, WRITING);
    await image.node.write(70_000, new Uint8Array(100_000).fill(3));
    const bytes = await bytesOf(image);
    expect([bytes[69_999], bytes[70_000], bytes[169_999], bytes[170_000]]).toEqual([1, 3, 3, 1]);
    await image.close();
  } finally {
    await server.stop();
  }
  await writeWithQemuIo(['-f', 'qcow2', overlay], ['read -P 1 0 70000', 'read -P 3 70000 100000']);
  expect((await qemuImg(['check', '-q', overlay])).code).toBe(0);
});

describe('random chains of mixed formats and sizes', () => {
  const seeds = Array.from({ length: testCases(6) }, (_, index) => testSeed() + index);
  test.each(seeds)('read as QEMU reads them, before and after writing on top (seed %i)', async (seed) => {
    const random = new Random(seed);
    const { path } = await makeMixedChain(seed, folder.path, 6);
    const format = path.endsWith('.qed') ? 'qed' : path.endsWith('.raw') ? 'raw' : 'qcow2';
    const flat = at(`${seed}.raw`);
    await makeWithQemuImg(['convert', '-q', '-f', format, '-O', 'raw', path, flat]);
    const shadow = await readFile(flat);
    const image = await newGraph().open(path, { format, readOnly: true, user: 'a reader' });
    const before = await bytesOf(image);
    expect(Buffer.compare(before, shadow)).toBe(0);
    await image.setReadOnly(false);
    for (let step = 0; step < 60; step++) {
      const offset = random.below(shadow.length);
      const length = Math.min(random.between(1, 200_000), shadow.length - offset);
      const draw = random.below(10);
      const bytes = Buffer.alloc(length, draw < 7 ? random.between(1, 255) : 0);
      shadow.set(bytes, offset);
      await (draw < 7 ? image.node.write(offset, bytes) : image.node.writeZeroes(offset, length, { mayUnmap: draw === 8 }));
    }
    expect(Buffer.compare(await bytesOf(image), shadow)).toBe(0);
    await image.close();
    await makeWithQemuImg(['convert', '-q', '-f', format, '-O', 'raw', path, flat]);
    expect(Buffer.compare(await readFile(flat), shadow)).toBe(0);
    if (format !== 'raw') {
      expect((await qemuImg(['check', '-q', '-f', format, path])).code).toBe(0);
    }
  });
});
