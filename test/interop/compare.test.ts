import { copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openChain } from '../../src/engine/chain/openChain';
import { compareChains, type Comparison } from '../../src/engine/chain/compare';
import { followGate } from '../../src/engine/gate/policies';
import { makeImage, type RandomImage } from './images';
import { Random, testCases, testSeed } from './random';
import { makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo } from './tools';

/* The engine's comparison beside qemu-img compare: what differs, where, and the exit code. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder('compare');
});
afterAll(() => folder.dispose());

interface Image {
  readonly path: string;
  readonly format: string;
}

async function ours(a: Image, b: Image, strict: boolean): Promise<Comparison> {
  const gate = followGate('all');
  const left = await openChain(a.path, { gate, format: a.format as 'qcow2' });
  try {
    const right = await openChain(b.path, { gate, format: b.format as 'qcow2' });
    try {
      return await compareChains(left, right, { strict });
    } finally {
      right.close();
    }
  } finally {
    left.close();
  }
}

/** What qemu-img prints for a comparison. */
function inWords(comparison: Comparison): string {
  switch (comparison.kind) {
    case 'identical':
      return `0 ${comparison.sizesDiffer ? 'Warning: Image size mismatch!\n' : ''}Images are identical.\n`;
    case 'contentMismatch':
      return `1 ${comparison.sizesDiffer ? 'Warning: Image size mismatch!\n' : ''}Content mismatch at offset ${comparison.guestOffset}!\n`;
    case 'sizeMismatch':
      return '1 Strict mode: Image size mismatch!\n';
    case 'statusMismatch':
      return `1 Strict mode: Offset ${comparison.guestOffset} block status mismatch!\n`;
    case 'statusFailed':
      return '3 ';
    case 'readFailed':
      return '4 ';
  }
}

async function expectSame(a: Image, b: Image, description: string): Promise<void> {
  for (const strict of [false, true]) {
    const theirs = await qemuImg(['compare', ...(strict ? ['-s'] : []), '-f', a.format, '-F', b.format, a.path, b.path]);
    const words = `${theirs.code} ${theirs.stdout}`;
    expect({ strict, words: inWords(await ours(a, b, strict)) }, `${description}\n${theirs.stderr}`).toEqual({ strict, words });
  }
}

/** A second image with the same contents, or nearly: another format, other options, perhaps a request more. */
async function makeOther(image: RandomImage, random: Random, home: string): Promise<Image> {
  const path = join(home, 'other');
  const format = random.pick(['qcow2', 'qcow2', 'raw', 'qed']);
  const kind = random.below(4);
  if (kind === 0) {
    // The very same tables.
    await copyFile(image.path, path);
    if (random.chance(0.5) && image.dataFile === null) {
      await change({ path, format: image.format }, image.size, random);
    }
    return { path, format: image.format };
  }
  if (kind === 1) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', image.path, '-F', image.format, path]);
    if (random.chance(0.6)) {
      await change({ path, format: 'qcow2' }, image.size, random);
    }
    return { path, format: 'qcow2' };
  }
  const options = format === 'qcow2' && random.chance(0.5) ? ['-o', `cluster_size=${2 ** random.between(12, 18)}`] : [];
  const compressed = format === 'qcow2' && random.chance(0.3) ? ['-c'] : [];
  await makeWithQemuImg(['convert', '-q', '-f', image.format, '-O', format, ...compressed, ...options, image.path, path]);
  if (random.chance(0.5)) {
    await change({ path, format }, image.size, random);
  }
  if (random.chance(0.3)) {
    // QED has no shrinking, and rounds nothing.
    const size =
      format === 'raw' && random.chance(0.5) ? Math.max(512, image.size - 512 * random.below(100)) : image.size + 512 * random.below(3000);
    if (format === 'raw') {
      await truncate(path, size);
    } else if (size > image.size) {
      await makeWithQemuImg(['resize', '-q', '-f', format, path, `${size}`]);
      if (random.chance(0.5)) {
        await writeWithQemuIo(['-f', format, path], [`write -P ${random.between(0, 3)} ${size - 512} 512`]);
      }
    }
  }
  return { path, format };
}

async function change({ path, format }: Image, size: number, random: Random): Promise<void> {
  const offset = random.below(Math.max(1, Math.floor(size / 512))) * 512;
  const length = Math.min(size - offset, 512 * random.between(1, 300));
  const request = random.pick(['write -P 77', 'write -P 0', 'write -z', 'discard']);
  await writeWithQemuIo(['-f', format, path], [`${request} ${offset} ${length}`]);
}

describe('random pairs', () => {
  const seed = testSeed();
  test.each(Array.from({ length: testCases(24) }, (_, index) => seed + index))('seed %i', async (caseSeed) => {
    const home = join(folder.path, `${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 24 * 1024 * 1024, maxDepth: 3 });
    const other = await makeOther(image, random, home);
    await expectSame(image, other, image.describe);
    await expectSame(other, image, image.describe);
  });
});

describe('images that cannot be read to the end', () => {
  test('a table entry that leads nowhere, and a compressed cluster that does not decompress', async () => {
    const good = { path: join(folder.path, 'good.qcow2'), format: 'qcow2' };
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', good.path, '1M']);
    await writeWithQemuIo(['-f', 'qcow2', good.path], ['write -P 1 0 64k', 'write -c -P 2 64k 64k']);
    const bytes = await readFile(good.path);
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    const crooked = Buffer.from(bytes);
    crooked.writeBigUInt64BE(crooked.readBigUInt64BE(l2) + 0x200n, l2);
    const garbled = Buffer.from(bytes);
    const compressed = Number(bytes.readBigUInt64BE(l2 + 8) & 0x003fffffffffffffn);
    garbled.fill(0xff, compressed, compressed + 16);
    const bad = [crooked, garbled].map((content, index) => ({ content, path: join(folder.path, `bad${index}.qcow2`), format: 'qcow2' }));
    for (const image of bad) {
      await writeFile(image.path, image.content);
      for (const strict of [false, true]) {
        const theirs = await qemuImg(['compare', ...(strict ? ['-s'] : []), good.path, image.path]);
        const comparison = await ours(good, image, strict);
        expect(inWords(comparison)).toBe(`${theirs.code} ${theirs.stdout}`);
        expect(comparison).toMatchObject({ side: 'b' });
      }
    }
  });
});
