import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { Qcow2Node } from '../../src/engine/formats/qcow2/write/qcow2Node';
import { FileStorage } from '../../src/engine/io/fileStorage';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* Persistent bitmaps of images that a guest of ours writes; an NBD client of qemu-nbd tells what they say then. */

let folder: { readonly path: string; dispose(): Promise<void> };
beforeAll(async () => {
  folder = await temporaryFolder('tracking');
});
afterAll(() => folder.dispose());

async function openNode(path: string): Promise<Qcow2Node> {
  const storage = FileStorage.openFile(path, { writable: true });
  return Qcow2Node.open({ storage, backing: null, nodeName: 'node', readOnly: false });
}

async function flagsOf(path: string): Promise<Record<string, readonly string[]>> {
  const { stdout } = await qemuImg(['info', '-U', '--output=json', path]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: { name: string; flags: string[] }[] } } };
  return Object.fromEntries((info['format-specific'].data.bitmaps ?? []).map(({ name, flags }) => [name, flags]));
}

/** The guest ranges that an NBD client is told are dirty. */
async function dirty(path: string, name: string): Promise<readonly (readonly [number, number])[]> {
  const server = ['[', 'qemu-nbd', '-r', '-f', 'qcow2', '-B', name, path, ']'];
  const { code, stdout, stderr } = await runTool('nbdinfo', ['--json', `--map=qemu:dirty-bitmap:${name}`, '--', ...server]);
  expect(code, stderr).toBe(0);
  const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
  return extents.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
}

/** Ranges of bytes in whole units, joined. */
function inUnits(ranges: readonly (readonly [number, number])[], unit: number, size: number): (readonly [number, number])[] {
  const units = new Uint8Array(Math.ceil(size / unit));
  for (const [offset, length] of ranges) {
    units.fill(1, Math.floor(offset / unit), Math.ceil((offset + length) / unit));
  }
  const joined: [number, number][] = [];
  for (let index = 0; index < units.length; index++) {
    if (units[index] === 1) {
      const last = joined.at(-1);
      const length = Math.min(unit, size - index * unit);
      if (last && last[0] + last[1] === index * unit) {
        last[1] += length;
      } else {
        joined.push([index * unit, length]);
      }
    }
  }
  return joined;
}

describe('persistent bitmaps under a guest', () => {
  const seed = testSeed();
  it(`say what it wrote (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < testCases(6); index++) {
      const path = join(folder.path, 'guest.qcow2');
      const size = random.between(100, 20_000) * 512;
      const granularity = 2 ** random.between(9, 18);
      const clusterBits = random.between(9, 18);
      const lazy = random.chance(0.3) ? ',lazy_refcounts=on' : '';
      const what = `CHAINSCOPE_SEED=${seed} case ${index}: size ${size}, granularity ${granularity}, clusters 2^${clusterBits}${lazy}`;
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', `cluster_size=${2 ** clusterBits}${lazy}`, path, `${size}`]);
      await makeWithQemuImg(['bitmap', '--add', '-g', `${granularity}`, path, 'on']);
      await makeWithQemuImg(['bitmap', '--add', '--disable', path, 'off']);
      const changed: [number, number][] = [];
      const crashed = join(folder.path, 'crashed.qcow2');
      for (let session = 0; session < 2; session++) {
        const node = await openNode(path);
        for (let step = 0; step < 12; step++) {
          const offset = random.below(size / 512) * 512;
          const length = Math.min(size - offset, random.between(1, 300) * 512);
          const kind = random.below(3);
          if (kind === 0) {
            await node.write(offset, new Uint8Array(length).fill(step + 1));
          } else if (kind === 1) {
            await node.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
          } else {
            await node.discard(offset, length);
          }
          changed.push([offset, length]);
        }
        await node.flush();
        copyFileSync(path, crashed);
        await node.close();
      }
      expect(await qemuImg(['check', path]), what).toMatchObject({ code: 0 });
      expect(await flagsOf(path), what).toEqual({ on: ['auto'], off: [] });
      expect(await dirty(path, 'on'), what).toEqual(inUnits(changed, granularity, size));
      expect(await dirty(path, 'off'), what).toEqual([]);
      expect(await flagsOf(crashed), what).toEqual({ on: ['in-use', 'auto'], off: [] });
    }
  });

  it('are not touched by a guest that only reads', async () => {
    const path = join(folder.path, 'reading.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', path, '1M']);
    await makeWithQemuImg(['bitmap', '--add', path, 'on']);
    const node = await openNode(path);
    await node.read(0, new Uint8Array(4096));
    expect(await flagsOf(path)).toEqual({ on: ['auto'] });
    await node.close();
    expect(await flagsOf(path)).toEqual({ on: ['auto'] });
  });

  it('follow the size of the disk, those that do not record too', async () => {
    const path = join(folder.path, 'resized.qcow2');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', path, '1M']);
    await makeWithQemuImg(['bitmap', '--add', '-g', '512', path, 'on']);
    await makeWithQemuImg(['bitmap', '--add', '-g', '64k', path, 'off']);
    let node = await openNode(path);
    await node.write(0, new Uint8Array(10 * 1024));
    await node.write(1000 * 1024, new Uint8Array(24 * 1024));
    await node.close();
    await makeWithQemuImg(['bitmap', '--disable', path, 'off']);
    node = await openNode(path);
    await node.resize(1010 * 1024);
    await node.resize(50 * 1024 * 1024);
    expect(await flagsOf(path)).toEqual({ on: ['in-use', 'auto'], off: ['in-use'] });
    await node.write(40 * 1024 * 1024, new Uint8Array(512));
    await node.close();
    expect(await qemuImg(['check', path])).toMatchObject({ code: 0 });
    expect(await dirty(path, 'on')).toEqual([
      [0, 10 * 1024],
      [1000 * 1024, 10 * 1024],
      [40 * 1024 * 1024, 512],
    ]);
    // A bit that lay over the end says the same of all that it covers now.
    expect(await dirty(path, 'off')).toEqual([
      [0, 64 * 1024],
      [960 * 1024, 64 * 1024],
    ]);
  });
});
