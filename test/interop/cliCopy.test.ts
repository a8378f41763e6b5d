import { copyFile, mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeImage, type RandomImage } from './images';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, temporaryFolder, writeWithQemuIo, type Outcome } from './tools';
import { ending, twinFolders, type Twins } from './twins';

/* convert, rebase, commit and dd beside qemu-img: what a guest reads afterwards, what is allocated, messages and exit codes. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let twins: Twins;
beforeAll(async () => {
  folder = await temporaryFolder('copy');
  twins = await twinFolders('copy-twins');
});
afterAll(async () => {
  await folder.dispose();
  await twins.dispose();
});

const seed = testSeed();
const cases = (count: number, from: number) => Array.from({ length: testCases(count) }, (_, index) => seed + from + index);

function succeeded({ code, stderr }: Outcome, what: string): void {
  expect({ code, stderr }, what).toEqual({ code: 0, stderr: '' });
}

/**
 * The same bytes for a guest, says qemu-img; and no fault in the image.
 * @param fault the exit code of the check: some images have leaks before anything is done to them
 */
async function expectSame(a: string, aFormat: string, b: string, bFormat: string, what: string, fault: number | null = 0): Promise<void> {
  const compared = await qemuImg(['compare', '-f', aFormat, '-F', bFormat, a, b]);
  expect(compared.stdout + compared.stderr, what).toMatch(/Images are identical/);
  if (bFormat !== 'raw') {
    const checked = await qemuImg(['check', '-f', bFormat, b]);
    expect(checked.code, `${what}\n${checked.stdout}${checked.stderr}`).toBe(fault);
  }
}

/** Guest bytes that the image itself has allocated, as qemu-img map tells them. */
async function allocated(path: string, format: string): Promise<number> {
  const { stdout } = await qemuImg(['map', '--output=json', '-f', format, path]);
  const extents = JSON.parse(stdout) as { length: number; depth: number; data: boolean }[];
  return extents.filter(({ depth, data }) => depth === 0 && data).reduce((sum, { length }) => sum + length, 0);
}

function targetOptions(random: Random): { readonly format: string; readonly args: readonly string[] } {
  const format = random.pick(['raw', 'qcow2', 'qcow2', 'qcow2', 'qed']);
  const args = ['-O', format];
  if (format === 'qcow2') {
    const options = [`cluster_size=${2 ** random.between(14, 18)}`];
    if (random.chance(0.3)) {
      options.push('compression_type=zstd');
    } else if (random.chance(0.2)) {
      options.push('extended_l2=on');
    } else if (random.chance(0.2)) {
      options.push('compat=0.10');
    }
    args.push('-o', options.join(','));
    if (random.chance(0.3)) {
      args.push('-c');
    }
  }
  args.push(...random.pick([[], [], ['-S', '0'], ['-S', '512'], ['-S', '64k'], ['-W', '-m', '4'], ['-t', 'writeback', '-T', 'none']]));
  return { format, args };
}

describe('convert', () => {
  test.each(cases(12, 0))('any image to any other, seed %i', async (caseSeed) => {
    const home = join(folder.path, `${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 16 * 1024 * 1024, maxDepth: 3 });
    const { format, args } = targetOptions(random);
    const snapshot = random.chance(0.3) ? random.pick(image.snapshots) : undefined;
    const common = ['convert', '-f', image.format, ...args, ...(snapshot === undefined ? [] : ['-l', snapshot]), image.path];
    const [theirs, ours] = [join(home, 'theirs'), join(home, 'ours')];
    const what = `${common.join(' ')}\n${image.describe}`;
    succeeded(await qemuImg([...common, theirs]), what);
    succeeded(await chainscope([...common, ours]), what);
    await expectSame(theirs, format, ours, format, what);
    const [allocatedHere, allocatedThere] = [await allocated(ours, format), await allocated(theirs, format)];
    if (format === 'raw') {
      expect((await stat(ours)).size).toBe((await stat(theirs)).size);
      // qemu-img writes the zeroes between data that begins and ends inside file system blocks.
      expect(allocatedHere, what).toBeLessThanOrEqual(allocatedThere);
    } else {
      expect(allocatedHere, what).toBe(allocatedThere);
    }
  });

  test.each(cases(5, 1000))('over a backing file, and into an image that is there, seed %i', async (caseSeed) => {
    const home = join(folder.path, `${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 8 * 1024 * 1024, maxDepth: 3 });
    const other = join(home, 'over');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', image.path, '-F', image.format, other]);
    const offset = 512 * random.below(Math.max(1, Math.floor(image.size / 512) - 200));
    await writeWithQemuIo(['-f', 'qcow2', other], [`write -P 9 ${offset} ${Math.min(50_000 - (50_000 % 512), image.size - offset)}`]);
    const target = join(home, 'delta');
    succeeded(
      await chainscope(['convert', '-f', 'qcow2', '-O', 'qcow2', '-B', image.path, '-F', image.format, other, target]),
      image.describe,
    );
    await expectSame(other, 'qcow2', target, 'qcow2', image.describe);
    const there = join(home, 'there');
    const format = random.pick(['qcow2', 'raw', 'qed']);
    await makeWithQemuImg(['create', '-q', '-f', format, there, `${image.size + 512 * random.below(1000)}`]);
    await writeWithQemuIo(['-f', format, there], [`write -P 77 0 ${Math.min(100 * 512, image.size)}`]);
    succeeded(await chainscope(['convert', '-n', '-f', 'qcow2', '-O', format, other, there]), image.describe);
    await expectSame(other, 'qcow2', there, format, image.describe);
  });

  test('into and out of an encrypted image', async () => {
    const cwd = folder.path;
    const secret = ['--object', 'secret,id=s,data=abc'];
    const encrypted = 'driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2';
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'open.qcow2', '1M'], { cwd });
    await writeWithQemuIo(['-f', 'qcow2', 'open.qcow2'], ['write -P 1 0 100k', 'write -P 3 512k 64k'], { cwd });
    const luks = ['-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'];
    succeeded(await chainscope(['convert', ...secret, '-O', 'qcow2', ...luks, 'open.qcow2', 'luks.qcow2'], { cwd }), 'encrypting');
    await makeWithQemuImg(['convert', ...secret, '--image-opts', encrypted, 'theirs.raw'], { cwd });
    succeeded(await chainscope(['convert', ...secret, '--image-opts', encrypted, 'ours.raw'], { cwd }), 'decrypting');
    for (const name of ['theirs.raw', 'ours.raw']) {
      await expectSame(join(cwd, 'open.qcow2'), 'qcow2', join(cwd, name), 'raw', name);
    }
  });

  test('several sources, salvage and bitmaps', async () => {
    await twins.both(async (cwd) => {
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'a.qcow2', '1M'], { cwd });
      await writeWithQemuIo(['-f', 'qcow2', 'a.qcow2'], ['write -P 1 0 100k', 'write -c -P 2 128k 64k'], { cwd });
      await writeFile(join(cwd, 'b.raw'), Buffer.alloc(70_001, 7));
      await makeWithQemuImg(['bitmap', '--add', '-g', '64k', 'a.qcow2', 'one'], { cwd });
      await makeWithQemuImg(['bitmap', '--add', '--disable', 'a.qcow2', 'two'], { cwd });
      await writeWithQemuIo(['-f', 'qcow2', 'a.qcow2'], ['write -P 3 512k 64k'], { cwd });
    });
    for (const args of [
      ['convert', '-O', 'raw', 'a.qcow2', 'b.raw', 'a.qcow2', 'joined.raw'],
      ['convert', '--bitmaps', '-O', 'qcow2', 'a.qcow2', 'bitmaps.qcow2'],
      ['convert', '--salvage', '-O', 'raw', 'a.qcow2', 'salvaged.raw'],
    ]) {
      const { theirs, ours } = await twins.run(args);
      expect(ending(ours), args.join(' ')).toEqual(ending(theirs));
    }
    for (const [name, format] of [
      ['joined.raw', 'raw'],
      ['salvaged.raw', 'raw'],
      ['bitmaps.qcow2', 'qcow2'],
    ] as const) {
      await expectSame(join(twins.theirs, name), format, join(twins.ours, name), format, name);
    }
    const bitmaps = async (cwd: string) => {
      const { stdout } = await qemuImg(['info', '--output=json', 'bitmaps.qcow2'], { cwd });
      return (JSON.parse(stdout) as { 'format-specific': { data: { bitmaps: unknown } } })['format-specific'].data.bitmaps;
    };
    expect(await bitmaps(twins.ours)).toEqual(await bitmaps(twins.theirs));
  });
});

/** Where the data of the compressed clusters of an image of 64 KiB clusters begins, in the order of the disk. */
function compressedPlaces(image: Buffer): number[] {
  const l2Table = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n);
  const entries = Array.from({ length: 8192 }, (_, index) => image.readBigUInt64BE(l2Table + index * 8));
  return entries.filter((entry) => (entry & (1n << 62n)) !== 0n).map((entry) => Number(entry & ((1n << 54n) - 1n)));
}

test('salvage keeps all of the clusters around those that do not decompress', async () => {
  // Enough for threads to be started.
  const clusters = 288;
  await twins.both(async (cwd) => {
    const data = Buffer.concat(Array.from({ length: clusters }, (_, index) => Buffer.alloc(65536, `the contents of cluster ${index}; `)));
    await writeFile(join(cwd, 'plain.raw'), data);
    await makeWithQemuImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'plain.raw', 'broken.qcow2'], { cwd });
    const image = await readFile(join(cwd, 'broken.qcow2'));
    const places = compressedPlaces(image);
    expect(places).toHaveLength(clusters);
    // One in every few: a block type that there is none of, which is noticed while others are being decompressed.
    for (let index = 0; index < clusters; index += 11) {
      image[places[index]!] = 0x07;
    }
    await writeFile(join(cwd, 'broken.qcow2'), image);
  });
  const { theirs, ours } = await twins.run(['convert', '-q', '--salvage', '-O', 'raw', 'broken.qcow2', 'kept.raw']);
  expect(ours.code).toBe(theirs.code);
  const kept = async (cwd: string) => {
    const bytes = await readFile(join(cwd, 'kept.raw'));
    return Array.from({ length: bytes.length / 65536 }, (_, index) => bytes.toString('latin1', index * 65536, index * 65536 + 30));
  };
  expect(await kept(twins.ours)).toEqual(await kept(twins.theirs));
  await expectSame(join(twins.theirs, 'kept.raw'), 'raw', join(twins.ours, 'kept.raw'), 'raw', 'salvaged');
});

/** A chain with images of different sizes, in both folders the same. */
async function twinChains(caseSeed: number): Promise<{ readonly image: RandomImage; readonly home: (side: string) => string }> {
  const home = (side: string) => join(folder.path, `${side}-${caseSeed}`);
  let image: RandomImage | null = null;
  for (const side of ['theirs', 'ours']) {
    await mkdir(home(side));
    image = await makeImage(caseSeed, home(side), { encrypted: 0, maxSize: 8 * 1024 * 1024, maxDepth: 3 });
  }
  return { image: image!, home };
}

describe('commit', () => {
  test.each(cases(6, 2000))('into the next image or one further down, seed %i', async (caseSeed) => {
    const { image, home } = await twinChains(caseSeed);
    const random = new Random(caseSeed);
    const drop = random.chance(0.5) ? ['-d'] : [];
    const larger = random.chance(0.5) ? 512 * random.below(3000) : 0;
    const [first, second] = [512 * random.below(2000), 512 * random.below(2000)];
    const outcomes: Outcome[] = [];
    for (const side of ['theirs', 'ours']) {
      const over = join(home(side), 'over');
      const before = join(home(side), 'before');
      await makeWithQemuImg([
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        image.path.replace(home('ours'), home(side)),
        '-F',
        image.format,
        over,
        `${image.size + larger}`,
      ]);
      await writeWithQemuIo(['-f', 'qcow2', over], [`write -P 5 ${Math.min(first, image.size - 512)} 512`]);
      await writeWithQemuIo(['-f', 'qcow2', over], [`write -z ${Math.min(second, image.size - 512)} 512`]);
      await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', over, before]);
      const args = ['commit', '-f', 'qcow2', ...drop, over];
      outcomes.push(await (side === 'theirs' ? qemuImg(args) : chainscope(args)));
      if (side === 'ours') {
        await expectSame(before, 'raw', over, 'qcow2', `${image.describe}\n${outcomes[1]!.stderr}`);
        const theirs = over.replace(home('ours'), home('theirs'));
        expect(await allocated(over, 'qcow2'), image.describe).toBe(await allocated(theirs, 'qcow2'));
      }
    }
    expect(outcomes[1]!.code, image.describe).toBe(outcomes[0]!.code);
    const base = (side: string) => image.path.replace(home('ours'), home(side));
    const { code } = await qemuImg(['check', '-f', image.format, base('theirs')]);
    await expectSame(base('theirs'), image.format, base('ours'), image.format, image.describe, code);
  });
});

describe('commit empties', () => {
  test.each(['', 'refcount_bits=1', 'refcount_bits=64', 'extended_l2=on', 'lazy_refcounts=on', 'cluster_size=2M', 'compat=0.10'])(
    'an image as QEMU does (%s)',
    async (options) => {
      const cwd = join(folder.path, `empties-${options}`);
      await mkdir(cwd);
      const create = ['create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options])];
      await makeWithQemuImg(['create', '-q', '-f', 'raw', 'base.raw', '8M'], { cwd });
      const paths: string[] = [];
      for (const name of ['theirs.qcow2', 'ours.qcow2']) {
        await makeWithQemuImg([...create, '-b', 'base.raw', '-F', 'raw', name, '8M'], { cwd });
        await writeWithQemuIo(['-f', 'qcow2', name], ['write -P 3 4M 3M', 'write -P 4 0 1M', 'write -z 2M 128k'], { cwd });
        paths.push(join(cwd, name));
      }
      const [theirs, ours] = paths as [string, string];
      const args = ['commit', '-q', '-f', 'qcow2'];
      await makeWithQemuImg([...args, theirs], { cwd });
      succeeded(await chainscope([...args, ours], { cwd }), options);
      await expectSame(theirs, 'qcow2', ours, 'qcow2', options);
      expect(await allocated(ours, 'qcow2')).toBe(0);
      const [left, right] = [await stat(ours), await stat(theirs)];
      expect(left.blocks).toBeLessThanOrEqual(right.blocks + 8);
      // It can be used as before.
      await writeWithQemuIo(['-f', 'qcow2', ours], ['write -P 9 5M 1M', 'read -P 3 4M 1M', 'read -P 9 5M 1M', 'read -P 3 6M 1M']);
      expect(await qemuImg(['check', '-f', 'qcow2', ours])).toMatchObject({ code: 0 });
    },
  );
});

describe('rebase', () => {
  test.each(cases(6, 3000))('onto another backing file, onto one of the chain, or onto none, seed %i', async (caseSeed) => {
    const home = join(folder.path, `rebase-${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 8 * 1024 * 1024, maxDepth: 3 });
    const other = join(home, 'other');
    await copyAsRaw(image, other);
    await truncate(other, Math.max(512, image.size + 512 * random.between(-2000, 2000)));
    await writeWithQemuIo(
      ['-f', 'raw', other],
      [`write -P 1 ${512 * random.below(Math.max(1, Math.floor((await stat(other)).size / 512) - 1))} 512`],
    );
    const format = random.pick(['qcow2', 'qcow2', 'qed']);
    const over = join(home, 'over');
    const size = Math.ceil((image.size + 512 * random.below(3000)) / 512) * 512;
    await makeWithQemuImg(['create', '-q', '-f', format, '-b', image.path, '-F', image.format, over, `${size}`]);
    await writeWithQemuIo(['-f', format, over], [`write -P 6 ${512 * random.below(Math.floor(image.size / 512))} 512`]);
    const copy = join(home, 'copy');
    await copyFile(over, copy);
    const target = random.pick([
      ['-b', other, '-F', 'raw'],
      ['-b', other, '-F', 'raw'],
      ['-b', ''],
    ]);
    const args = ['rebase', '-f', format, ...target];
    const theirs = await qemuImg([...args, copy]);
    const ours = await chainscope([...args, over]);
    expect(ending(ours), `${args.join(' ')}\n${image.describe}`).toEqual(ending(theirs));
    await expectSame(copy, format, over, format, image.describe);
    expect(await allocated(over, format), image.describe).toBeLessThanOrEqual(await allocated(copy, format));
  });

  test.each(['compat=1.1', 'compat=1.1,extended_l2=on', 'compat=0.10'])(
    'of an image that had none hides the new one (%s)',
    async (options) => {
      const cwd = join(folder.path, `rebase-none-${options}`);
      await mkdir(cwd);
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'new.qcow2', '1M'], { cwd });
      await writeWithQemuIo(['-f', 'qcow2', 'new.qcow2'], ['write -P 1 0 64k', 'write -P 1 128k 64k', 'write -P 1 256k 500k'], { cwd });
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', options, 'theirs.qcow2', '1M'], { cwd });
      await writeWithQemuIo(['-f', 'qcow2', 'theirs.qcow2'], ['write -P 2 0 128k', 'write -P 1 128k 128k'], { cwd });
      for (const name of ['ours', 'before']) {
        await copyFile(join(cwd, 'theirs.qcow2'), join(cwd, `${name}.qcow2`));
      }
      const args = ['rebase', '-f', 'qcow2', '-b', 'new.qcow2', '-F', 'qcow2'];
      await makeWithQemuImg([...args, 'theirs.qcow2'], { cwd });
      succeeded(await chainscope([...args, 'ours.qcow2'], { cwd }), options);
      const [before, theirs, ours] = ['before', 'theirs', 'ours'].map((name) => join(cwd, `${name}.qcow2`)) as [string, string, string];
      await expectSame(before, 'qcow2', ours, 'qcow2', options);
      if (options !== 'compat=0.10') {
        // In version 2 zeroes have to be written out; QEMU leaves them out, and the new file shines through.
        expect(await allocated(ours, 'qcow2')).toBe(await allocated(theirs, 'qcow2'));
      }
    },
  );

  async function copyAsRaw(image: RandomImage, path: string): Promise<void> {
    await makeWithQemuImg(['convert', '-f', image.format, '-O', 'raw', image.path, path]);
  }
});

describe('dd', () => {
  test.each(cases(4, 4000))('a part of a disk, seed %i', async (caseSeed) => {
    const home = join(folder.path, `dd-${caseSeed}`);
    await mkdir(home);
    const random = new Random(caseSeed);
    const image = await makeImage(caseSeed, home, { encrypted: 0, maxSize: 4 * 1024 * 1024, maxDepth: 2 });
    const format = random.pick(['raw', 'qcow2']);
    const bs = random.pick([512, 1000, 4096, 65536, 1_000_000]);
    const skip = random.below(Math.ceil(image.size / bs) + 2);
    const args = ['dd', '-f', image.format, '-O', format, `bs=${bs}`, `if=${image.path}`, ...(random.chance(0.7) ? [`skip=${skip}`] : [])];
    args.push(...(random.chance(0.5) ? [`count=${skip + random.below(Math.ceil(image.size / bs))}`] : []));
    const [theirs, ours] = [join(home, 'theirs'), join(home, 'ours')];
    const outcome = { theirs: await qemuImg([...args, `of=${theirs}`]), ours: await chainscope([...args, `of=${ours}`]) };
    expect(ending(outcome.ours), args.join(' ')).toEqual(ending(outcome.theirs));
    await expectSame(theirs, format, ours, format, args.join(' '));
  });
});

test.each(['qcow2', 'qed'])('only the record of the backing file of a %s image is changed', async (format) => {
  const name = `record.${format}`;
  await twins.both(async (cwd) => {
    await makeWithQemuImg(['create', '-q', '-f', 'raw', 'first.raw', '1M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-f', format, '-b', 'first.raw', '-F', 'raw', name], { cwd });
  });
  for (const backing of [
    ['-b', 'elsewhere.raw', '-F', 'raw'],
    ['-b', ''],
  ]) {
    const { theirs, ours } = await twins.run(['rebase', '-u', '-f', format, ...backing, name]);
    expect(ending(ours)).toEqual(ending(theirs));
    const recorded = async (cwd: string) => {
      const { stdout } = await qemuImg(['info', '--output=json', '-f', format, name], { cwd });
      const info = JSON.parse(stdout) as Readonly<Record<string, unknown>>;
      return [info['backing-filename'], info['backing-filename-format']];
    };
    expect(await recorded(twins.ours)).toEqual(await recorded(twins.theirs));
  }
});

describe('what is refused', () => {
  test('in the same words', async () => {
    await twins.both(async (cwd) => {
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'x.qcow2', '1M'], { cwd });
      await makeWithQemuImg(['create', '-q', '-f', 'raw', 'small.raw', '64k'], { cwd });
    });
    for (const line of [
      'convert',
      'convert x.qcow2',
      'convert -O foo x.qcow2 y',
      'convert -l nope x.qcow2 y',
      'convert -n x.qcow2 missing',
      'convert -S 1 x.qcow2 y',
      'convert -S x x.qcow2 y',
      'convert -m 20 x.qcow2 y',
      'convert -c -O raw x.qcow2 y',
      'convert -c -O qed x.qcow2 y',
      'convert -B x.qcow2 -O raw x.qcow2 y',
      'convert -B x.qcow2 -O qcow2 x.qcow2 y',
      'convert -n -o cluster_size=4k -O qcow2 x.qcow2 y',
      'convert --target-is-zero x.qcow2 y',
      'convert -B x x.qcow2 x.qcow2 y -O qcow2',
      'convert --bitmaps x.qcow2 y',
      'convert --bitmaps x.qcow2 x.qcow2 y',
      'convert --skip-broken-bitmaps x.qcow2 y',
      'convert -T foo x.qcow2 y',
      'convert -t foo x.qcow2 y',
      'convert -C -S 4k x.qcow2 y',
      'convert -c -o preallocation=full -O qcow2 x.qcow2 y',
      'convert -F qcow2 -O qcow2 x.qcow2 y',
      'convert -o nonsense=1 -O qcow2 x.qcow2 y',
      'convert -n -O raw x.qcow2 small.raw',
      'convert -O qcow2 x.qcow2 x.qcow2',
      'convert x.qcow2 /missing/y',
      'convert -r x x.qcow2 y',
      'convert --target-image-opts x.qcow2 y',
      'rebase',
      'rebase x.qcow2',
      'rebase -b missing x.qcow2',
      'rebase -u -b y x.qcow2',
      'rebase -b small.raw -F foo x.qcow2',
      'rebase -f raw -b small.raw -F raw small.raw',
      'commit',
      'commit x.qcow2',
      'commit -b missing x.qcow2',
      'commit -t foo x.qcow2',
      'dd',
      'dd if=x.qcow2',
      'dd if=x.qcow2 of=y bs=0',
      'dd if=x.qcow2 of=y foo=1',
      'dd if=x.qcow2 of=y count=x',
      'dd -O foo if=x.qcow2 of=y',
      'dd if=x.qcow2 of=/missing/y',
    ]) {
      const { theirs, ours } = await twins.run(line.split(' '));
      expect({ line, ...ending(ours) }).toEqual({ line, ...ending(theirs) });
    }
    // Nothing is left over that the other does not leave either.
    expect((await readdir(twins.ours)).sort()).toEqual((await readdir(twins.theirs)).sort());
  });
});
