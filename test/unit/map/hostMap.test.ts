import { describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { ClassArray } from '../../../src/engine/map/classSource';
import { HOST_CLASSES } from '../../../src/engine/map/hostClass';
import { HostMap, type HostMapLimits } from '../../../src/engine/map/hostMap';
import { Pace } from '../../../src/engine/pace';
import type { ImageFormat } from '../../../src/protocol/chain';
import { Random, testCases, testSeed } from '../../interop/random';
import { damage, randomImage } from '../check/randomQcow2';
import { chainOf, SparseSource } from '../inspect/memory';
import { qcow2HostClasses, qedHostClasses } from './hostReference';

function hostMapOf(file: Uint8Array, format: ImageFormat, limits?: HostMapLimits): HostMap {
  return new HostMap(chainOf([new SparseSource([{ hostOffset: 0, bytes: file }], file.length)], [format]).layers[0]!, limits);
}

async function classesOf(map: HostMap, from = 0, to = map.clusters): Promise<string[]> {
  const values = new Uint8Array(to - from).fill(255);
  await map.scan(from, to, new ClassArray(from, values), new Pace());
  return [...values].map((value) => HOST_CLASSES[value]?.id ?? `${value}`);
}

/** A QED file with tables and clusters strewn over it, some of them twice, some out of bounds. */
function randomQed(random: Random): Uint8Array {
  const size = 4096;
  const tableClusters = random.pick([1, 2, 4]);
  const clusters = 60 + random.below(60);
  const file = new Uint8Array(clusters * size);
  const view = new DataView(file.buffer);
  view.setUint32(0, 0x00444551, true);
  view.setUint32(4, size, true);
  view.setUint32(8, tableClusters, true);
  view.setUint32(12, 1, true);
  view.setBigUint64(40, BigInt(size), true);
  view.setBigUint64(48, BigInt(1 << 26), true);
  let next = 1 + tableClusters;
  for (let table = 0; table < 3; table++) {
    const offset = next * size;
    view.setBigUint64(size + table * 8, BigInt(offset), true);
    next += tableClusters;
    for (let entry = 0; entry < 15; entry++) {
      const cluster = random.chance(0.9) ? next++ : random.below(clusters + 3);
      view.setBigUint64(offset + random.below(500) * 8, random.chance(0.1) ? 1n : BigInt(cluster * size), true);
    }
  }
  return file;
}

describe('the host map against a plain walk of all tables', () => {
  const first = testSeed();
  it.each(Array.from({ length: testCases(80) }, (_, i) => first + i))('qcow2, seed %i', async (seed) => {
    const random = new Random(seed);
    const made = randomImage(random);
    const image = random.chance(0.6) ? damage(random, made) : made;
    const wanted = qcow2HostClasses(image.file);
    expect(await classesOf(hostMapOf(image.file, 'qcow2')), image.describe).toEqual(wanted);
    // The same in blocks, as a file of very many clusters is looked at; some of its blocks twice, in any order.
    const map = hostMapOf(image.file, 'qcow2', { whole: 0, block: random.between(1, 40) });
    for (let round = 0; round < 4; round++) {
      const from = random.below(map.clusters + 1);
      const to = random.between(from, map.clusters);
      expect(await classesOf(map, from, to), image.describe).toEqual(wanted.slice(from, to));
    }
    expect(await classesOf(map), image.describe).toEqual(wanted);
  });

  it.each(Array.from({ length: testCases(20) }, (_, i) => first + i))('QED, seed %i', async (seed) => {
    const file = randomQed(new Random(seed));
    const wanted = qedHostClasses(file);
    expect(new Set(wanted).size).toBeGreaterThan(4);
    expect(await classesOf(hostMapOf(file, 'qed'))).toEqual(wanted);
    expect(await classesOf(hostMapOf(file, 'qed', { whole: 0, block: 7 }))).toEqual(wanted);
  });
});

describe('the host map', () => {
  it('counts a refcount block that is not aligned in the one cluster that its offset lies in', async () => {
    const built = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).write(0, Uint8Array.of(1)).write(1, Uint8Array.of(1)).build();
    const file = new Uint8Array(built.layout.fileSize);
    for (const { hostOffset, bytes } of built.pieces) {
      file.set(bytes, hostOffset);
    }
    const whole = await classesOf(hostMapOf(file, 'qcow2'));
    const cluster = whole.indexOf('data');
    new DataView(file.buffer).setBigUint64(built.layout.refcountTableOffset + 8, BigInt(cluster * 4096 + 512));
    expect(await classesOf(hostMapOf(file, 'qcow2'))).toEqual(whole.with(cluster, 'corrupt'));
    expect(qcow2HostClasses(file)).toEqual(whole.with(cluster, 'corrupt'));
  });

  it('lets scans run at the same time', async () => {
    const { file } = randomImage(new Random(11));
    const wanted = qcow2HostClasses(file);
    const map = hostMapOf(file, 'qcow2', { whole: 0, block: 5 });
    const scans = await Promise.all([classesOf(map), classesOf(map), classesOf(map, 1, 4)]);
    expect(scans).toEqual([wanted, wanted, wanted.slice(1, 4)]);
  });

  it('goes on after a scan that was cancelled', async () => {
    const { file } = randomImage(new Random(12));
    const map = hostMapOf(file, 'qcow2', { whole: 0, block: 5 });
    const stop = new AbortController();
    const pace = new Pace({ signal: stop.signal });
    stop.abort();
    await expect(map.scan(0, map.clusters, new ClassArray(0, new Uint8Array(map.clusters)), pace)).rejects.toMatchObject({
      code: 'cancelled',
    });
    expect(await classesOf(map)).toEqual(qcow2HostClasses(file));
  });

  it('needs a format with clusters', () => {
    expect(() => hostMapOf(new Uint8Array(4096), 'raw')).toThrow(/no clusters/);
  });
});
