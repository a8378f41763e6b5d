import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random, testCases, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, writeWithQemuIo } from './tools';
import { ending, twinFolders, type Twins } from './twins';

/* `create` beside qemu-img: what it prints, how it ends, and the image that it leaves. */

let twins: Twins;

beforeAll(async () => {
  twins = await twinFolders('create');
  await twins.both(async (cwd) => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'base.qcow2', '10M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-f', 'raw', 'base.raw', '3M'], { cwd });
    await makeWithQemuImg(['create', '-q', '-f', 'raw', 'sub', '1k'], { cwd });
  });
});

afterAll(() => twins.dispose());

const SECRET = ['--object', 'secret,id=s,data=pw'];

describe('the same arguments give the same messages, exit code and file', () => {
  test.each<readonly string[]>([
    ['-f', 'qcow2', 'x', '10M'],
    ['-f', 'raw', 'x', '10M'],
    ['-f', 'qed', 'x', '10M'],
    ['x', '10M'],
    ['-q', '-f', 'qcow2', 'x', '10M'],
    ['-f', 'qcow2', 'x', '1.5M'],
    ['-f', 'qcow2', 'x', '0x100000'],
    ['-f', 'qcow2', 'x', '1000'],
    ['-f', 'raw', 'x', '1000'],
    ['-f', 'qed', 'x', '1000'],
    ['-f', 'qcow2', 'x', '0'],
    ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'x'],
    ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'x', '5M'],
    ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'raw', 'x'],
    ['-f', 'qcow2', '-b', 'base.qcow2', 'x'],
    ['-f', 'qcow2', '-b', 'base.raw', 'x'],
    ['-f', 'qcow2', '-b', 'gone', '-F', 'qcow2', 'x'],
    ['-f', 'qcow2', '-b', 'gone', '-F', 'qcow2', 'x', '10M'],
    ['-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', 'x', '10M'],
    ['-f', 'qcow2', '-u', '-b', 'gone', 'x', '10M'],
    ['-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', 'x'],
    ['-f', 'qcow2', '-o', 'backing_file=base.qcow2,backing_fmt=qcow2', 'x'],
    ['-f', 'qcow2', '-o', 'backing_file=base.qcow2', '-b', 'base.raw', '-F', 'raw', 'x'],
    ['-f', 'qcow2', '-b', 'x', '-F', 'qcow2', 'x'],
    ['-f', 'qcow2', '-b', '', '-F', 'raw', 'x', '1M'],
    ['-f', 'qcow2', '-F', 'qcow2', 'x', '1M'],
    ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'nope', 'x', '1M'],
    ['-f', 'raw', '-b', 'base.qcow2', 'x', '1M'],
    ['-f', 'raw', '-F', 'qcow2', 'x', '1M'],
    ['-f', 'qed', '-b', 'base.raw', '-F', 'raw', 'x'],
    ['-f', 'qed', '-b', 'base.qcow2', '-F', 'qcow2', 'x'],
    ['-f', 'qed', '-o', 'backing_fmt=raw', 'x', '1M'],
    ['-f', 'qed', '-o', 'cluster_size=4k,table_size=2', 'x', '1M'],
    ['-f', 'qed', '-o', 'cluster_size=77', 'x', '1M'],
    ['-f', 'qed', '-o', 'table_size=77', 'x', '1M'],
    ['-f', 'qcow2', '-o', 'size=5M', 'x'],
    ['-f', 'qcow2', '-o', 'size=5M', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'size=xx', 'x'],
    ['-f', 'qcow2', '-o', 'foo', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=77,compat=0.10,foo=bar', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'lazy_refcounts', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'nolazy_refcounts', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'lazy_refcounts=maybe', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=abc', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=77', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=4M', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'refcount_bits=3', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'refcount_bits=x', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'preallocation=x', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'compression_type=foo', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'compat=0.12', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'compat=0.10', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'compat=0.10,lazy_refcounts=on', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'compat=v2,refcount_bits=8', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=4k', '-o', 'refcount_bits=8', '-o', 'cluster_size=8k', 'x', '1M'],
    ['-f', 'qcow2', '-o', ',cluster_size=4k', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'cluster_size=4k,', 'x', '7M'],
    ['-f', 'qcow2', '-o', '', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'data_file=d.raw,data_file_raw=on', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'data_file=a,,b', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'data_file_raw=on', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'preallocation=metadata', '-b', 'base.qcow2', '-F', 'qcow2', 'x'],
    ['-f', 'qcow2', '-o', 'preallocation=metadata,extended_l2=on,cluster_size=4k', 'x', '1M'],
    ['-f', 'qcow2', '-o', 'preallocation=full,extended_l2=on,compression_type=zstd,lazy_refcounts=on,refcount_bits=64', 'x', '7M'],
    ['-f', 'qcow2', '-o', 'nocow=on,extent_size_hint=1M', 'x', '1M'],
    ['-f', 'raw', '-o', 'nocow=on', 'x', '1M'],
    ['-f', 'raw', '-o', 'preallocation=full', 'x', '1M'],
    ['-f', 'raw', '-o', 'preallocation=falloc', 'x', '1M'],
    ['-f', 'raw', '-o', 'preallocation=metadata', 'x', '1M'],
    ['-f', 'raw', '-o', 'preallocation=x', 'x', '1M'],
    ['-f', 'raw', '-o', 'cluster_size=4k', 'x', '1M'],
    ['-f', 'qcow2', 'x'],
    ['-f', 'qcow2', 'x', '10X'],
    ['-f', 'qcow2', 'x', ''],
    ['-f', 'qcow2', 'x', '10M', 'extra'],
    ['-f', 'qcow2', 'x', '--', '-10M'],
    ['-f', 'qcow2', 'x', '8E'],
    ['-f', 'qcow2', 'x', '7E'],
    ['-f', 'nope', 'x', '10M'],
    [],
    ['-f', 'qcow2'],
    ['-f', 'qcow2', '/nodir/x', '1M'],
    ['-f', 'qcow2', 'sub/x', '1M'],
    ['-f', 'qcow2', '.', '1M'],
    ['--image-opts', 'x', '1M'],
    ['-U', 'x', '1M'],
    ['-f', 'qcow2', '-o', 'help'],
    ['-f', 'qcow2', '-o', 'cluster_size=4k,help', 'x'],
    ['-f', 'qed', '-o', '?'],
    ['-f', 'qed', '-o', 'help', 'x'],
    ['-f', 'raw', '-o', 'help'],
    ['-f', 'raw', '-o', 'help', 'x'],
    ['-f', 'nope', '-o', 'help'],
    // Without a passphrase, or a wrong cipher.
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encryption=on,encrypt.key-secret=s', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encryption=off', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=nope,encrypt.key-secret=s', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=luks', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=t', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=foo', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.hash-alg=foo', 'x', '1M'],
    [...SECRET, '-f', 'qcow2', '-o', 'encrypt.key-secret=s', 'x', '1M'],
  ])('%j', async (...args) => {
    const { theirs, ours } = await twins.run(['create', ...args]);
    expect(ending(ours)).toEqual(ending(theirs));
    if (theirs.code === 0) {
      for (const name of ['x', 'd.raw', 'a,b'].filter((candidate) => existsSync(join(twins.theirs, candidate)))) {
        const left = readFileSync(join(twins.theirs, name));
        const right = readFileSync(join(twins.ours, name));
        // What preallocation leaves is laid out differently; qemu-img check judges it.
        expect(right.equals(left) || args.join().includes('preallocation'), name).toBe(true);
        expect(statSync(join(twins.ours, name)).mode).toBe(statSync(join(twins.theirs, name)).mode);
      }
    }
  });
});

test('no image is left where none could be made', async () => {
  const { ours } = await twins.run(['create', '-f', 'qcow2', '-o', 'cluster_size=77', 'none', '1M']);
  expect(ours.code).toBe(1);
  expect(existsSync(join(twins.ours, 'none'))).toBe(false);
});

test('an image that somebody uses, or that the new one is built on, is not overwritten', async () => {
  const cwd = twins.ours;
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'mid', '10M'], { cwd });
  const before = readFileSync(join(cwd, 'base.qcow2'));
  const { code, stderr } = await chainscope(['create', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2', 'base.qcow2'], { cwd });
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('part of its own backing chain') as unknown });
  expect(readFileSync(join(cwd, 'base.qcow2')).equals(before)).toBe(true);
});

test('LUKS images open in QEMU with the passphrase', async () => {
  const cwd = twins.ours;
  const made = await chainscope(
    ['create', ...SECRET, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', 'luks', '1M'],
    { cwd },
  );
  expect(made).toMatchObject({ code: 0, stderr: '' });
  const image = ['--object', 'secret,id=s,data=pw', '--image-opts', 'driver=qcow2,file.filename=luks,encrypt.key-secret=s'];
  await writeWithQemuIo(image, ['write -P 5 0 64k', 'read -P 5 0 64k', 'read -P 0 64k 64k'], { cwd });
  expect(await qemuImg(['check', ...image], { cwd })).toMatchObject({ code: 0 });
});

describe('images of random options', () => {
  const seed = testSeed();
  test(`are those of qemu-img (CHAINSCOPE_SEED=${seed})`, async () => {
    const random = new Random(seed);
    for (let index = 0; index < testCases(15); index++) {
      const options = [
        `cluster_size=${2 ** random.between(9, 21)}`,
        ...(random.chance(0.3) ? [`compat=${random.pick(['0.10', '1.1', 'v3'])}`] : []),
        ...(random.chance(0.4) ? [`refcount_bits=${2 ** random.between(0, 6)}`] : []),
        ...(random.chance(0.3) ? ['extended_l2=on'] : []),
        ...(random.chance(0.3) ? ['lazy_refcounts=on'] : []),
        ...(random.chance(0.3) ? ['compression_type=zstd'] : []),
        ...(random.chance(0.5) ? [`preallocation=${random.pick(['off', 'metadata', 'falloc', 'full'])}`] : []),
      ];
      const base = random.chance(0.3) ? ['-b', 'base.qcow2', '-F', 'qcow2'] : [];
      const args = ['create', '-f', 'qcow2', ...base, '-o', options.join(), 'random', String(random.below(20 * 1024 * 1024))];
      const { theirs, ours } = await twins.run(args);
      const what = `CHAINSCOPE_SEED=${seed} ${args.join(' ')}`;
      expect(ending(ours), what).toEqual(ending(theirs));
      if (ours.code === 0) {
        expect(await qemuImg(['check', 'random'], { cwd: twins.ours }), what).toMatchObject({ code: 0 });
        const info = async (cwd: string) => {
          const { 'actual-size': ignored, ...rest } = JSON.parse(
            (await qemuImg(['info', '--output=json', 'random'], { cwd })).stdout,
          ) as Record<string, unknown>;
          return { ...rest, ignored: ignored !== undefined };
        };
        expect(await info(twins.ours), what).toEqual(await info(twins.theirs));
      }
    }
  });
});

test.each(['1000', '4096', '10M', '0'])('a raw file of %s begins with as many blocks as with qemu-img', async (size) => {
  const [theirs, ours] = [join(twins.theirs, 'first'), join(twins.ours, 'first')];
  await makeWithQemuImg(['create', '-q', '-f', 'raw', theirs, size]);
  expect((await chainscope(['create', '-q', '-f', 'raw', ours, size])).code).toBe(0);
  expect(statSync(ours)).toMatchObject({ size: statSync(theirs).size, blocks: statSync(theirs).blocks });
});
