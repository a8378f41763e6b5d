import { readFileSync } from 'node:fs';
import { copyFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { chainscope, makeWithQemuImg, qemuHolding, qemuImg, runTool, writeWithQemuIo } from './tools';
import { ending, twinFolders, type Twins } from './twins';

/*
 * `snapshot`, `bitmap`, `resize` and `amend` beside qemu-img: each line is a list of commands that are run one after the other by each of
 * the two, on images of their own; what they print, how they end and what is left is the same.
 */

let twins: Twins;
let made: Twins;

beforeAll(async () => {
  made = await twinFolders('manage-made');
  const cwd = made.theirs;
  const create = (...args: readonly string[]) => makeWithQemuImg(['create', '-q', ...args], { cwd });
  await create('-f', 'qcow2', 'a.qcow2', '1M');
  await writeWithQemuIo(['a.qcow2'], ['write -P 1 0 200k', 'write -P 2 700k 64k'], { cwd });
  await create('-f', 'qcow2', 'b.qcow2', '2M');
  await create('-f', 'raw', 'a.raw', '1M');
  await create('-f', 'qed', 'a.qed', '1M');
  await create('-f', 'qcow2', '-o', 'compat=0.10', 'v2.qcow2', '1M');
  await create('-f', 'qcow2', '-o', 'data_file=data.raw', 'data.qcow2', '1M');
  await create('-f', 'qcow2', '-o', 'data_file=always.raw,data_file_raw=on', 'always.qcow2', '1M');
  await create('-f', 'qcow2', '-o', 'refcount_bits=1', 'narrow.qcow2', '1M');
  await writeWithQemuIo(['narrow.qcow2'], ['write -P 1 0 200k'], { cwd });
  await create('-f', 'qcow2', '-b', 'b.qcow2', '-F', 'qcow2', 'overlay.qcow2', '1M');
  await create('-f', 'qcow2', '-o', 'extended_l2=on,lazy_refcounts=on', 'lazy.qcow2', '1M');
  await create('-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', 'orphan.qcow2', '1M');
});

beforeEach(async () => {
  twins = await twinFolders('manage');
  for (const name of await readdir(made.theirs)) {
    await twins.both((cwd) => copyFile(join(made.theirs, name), join(cwd, name)));
  }
  return () => twins.dispose();
});

afterAll(() => made.dispose());

/** Runs the commands, and compares what is said; then every image that is left. */
async function same(commands: readonly (readonly string[])[]): Promise<void> {
  for (const args of commands) {
    const { theirs, ours } = await twins.run(args);
    // Seconds may have gone by between the two.
    const untimed = ({ stdout, ...rest }: typeof ours) => ({
      ...rest,
      stdout: stdout.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'DATE'),
    });
    expect(ending(untimed(ours)), args.join(' ')).toEqual(ending(untimed(theirs)));
  }
  const text = commands.flat().join(' ');
  for (const name of (await readdir(twins.theirs)).filter((candidate) => text.includes(candidate) || candidate.endsWith('.raw'))) {
    const format = name.replace(/.*\./, '');
    if (format !== 'qcow2' && format !== 'qed') {
      expect(readFileSync(join(twins.ours, name)).equals(readFileSync(join(twins.theirs, name))), name).toBe(true);
      continue;
    }
    const info = async (cwd: string) => {
      const { stdout } = await qemuImg(['info', '--output=json', name], { cwd });
      const {
        'actual-size': size,
        snapshots,
        ...rest
      } = JSON.parse(stdout) as { snapshots?: Record<string, unknown>[] } & Record<string, unknown>;
      return { ...rest, size: typeof size, snapshots: snapshots?.map((snapshot) => ({ ...snapshot, 'date-sec': 0, 'date-nsec': 0 })) };
    };
    const [left, right] = await Promise.all([info(twins.ours), info(twins.theirs)]);
    expect(left, name).toEqual(right);
    if (name !== 'orphan.qcow2') {
      expect(await qemuImg(['check', name], { cwd: twins.ours }), name).toMatchObject({ code: 0 });
      const compared = await qemuImg(['compare', '-f', format, '-F', format, join(twins.ours, name), join(twins.theirs, name)], {
        cwd: twins.ours,
      });
      expect(compared.code, `${name} ${compared.stdout}${compared.stderr}`).toBe(0);
    }
  }
}

const words = (line: string): string[] => line.split(' ').map((word) => (word === "''" ? '' : word));

describe('snapshot', () => {
  test.each([
    'snapshot a.qcow2;snapshot -l a.qcow2;snapshot -c one a.qcow2;snapshot -c one a.qcow2;snapshot -l a.qcow2;snapshot -q -l a.qcow2;snapshot -U -l a.qcow2',
    'snapshot -c one a.qcow2;snapshot -U -c x a.qcow2;snapshot -a one a.qcow2;snapshot -a 1 a.qcow2;snapshot -a no a.qcow2;snapshot -d no a.qcow2;snapshot -d 1 a.qcow2;snapshot -d one a.qcow2',
    'snapshot -c one a.qcow2;snapshot -c one a.qcow2;snapshot -d one a.qcow2;snapshot -l a.qcow2',
    'snapshot -l -c x a.qcow2;snapshot -c x -d y a.qcow2;snapshot;snapshot -f qcow2 -l a.qcow2;snapshot -l a.qcow2 a.qcow2;snapshot -l missing',
    "snapshot -c '' a.qcow2;snapshot -l a.qcow2;snapshot --image-opts -l driver=qcow2,file.filename=a.qcow2",
    'snapshot -l a.raw;snapshot -c x a.raw;snapshot -d x a.raw',
    'snapshot -l a.qed;snapshot -c x a.qed;snapshot -a x a.qed;snapshot -d x a.qed',
    'snapshot -d x data.qcow2;snapshot -l data.qcow2',
    'snapshot -c x v2.qcow2;snapshot -l v2.qcow2;snapshot -a x v2.qcow2;snapshot -d x v2.qcow2',
    'snapshot -c x overlay.qcow2;snapshot -a x overlay.qcow2;snapshot -c x lazy.qcow2;snapshot -a x lazy.qcow2;snapshot -d x lazy.qcow2',
    'snapshot -q -c x a.qcow2;snapshot -q -a x a.qcow2',
  ])('%s', async (commands) => {
    await same(commands.split(';').map(words));
  });

  test('what cannot be done ends alike', async () => {
    for (const line of [
      'snapshot -c x narrow.qcow2',
      'snapshot -a x a.raw',
      'snapshot -c x orphan.qcow2',
      'snapshot -a x data.qcow2',
      'snapshot -c x data.qcow2',
      'resize orphan.qcow2 3M',
    ]) {
      const { theirs, ours } = await twins.run(words(line));
      expect(
        { code: ours.code, first: ours.stderr.split('\n').findLast((text) => text.startsWith('qemu-img: ')) === undefined },
        line,
      ).toEqual({
        code: theirs.code,
        first: false,
      });
    }
    expect(await qemuImg(['check', 'narrow.qcow2'], { cwd: twins.ours })).toMatchObject({ code: 0 });
  });
});

describe('bitmap', () => {
  test.each([
    'bitmap --add a.qcow2 a;bitmap --add a.qcow2 a;bitmap --add -g 1k a.qcow2 b;bitmap --add -g 100 a.qcow2 c;bitmap --add -g x a.qcow2 c;bitmap --add -g 0 a.qcow2 c;bitmap --add -g 4G a.qcow2 d',
    'bitmap --add --disable a.qcow2 c;bitmap --enable a.qcow2 c;bitmap --clear a.qcow2 c;bitmap --add a.qcow2 a;bitmap --merge a a.qcow2 c;bitmap --merge no a.qcow2 c;bitmap --merge a --disable --clear a.qcow2 c',
    'bitmap --remove a.qcow2 no;bitmap --enable a.qcow2 no;bitmap --clear a.qcow2 no;bitmap a.qcow2 c;bitmap --add a.qcow2;bitmap --add;bitmap --add a.qcow2 a b',
    'bitmap --add a.qcow2 c;bitmap -g 64k --clear a.qcow2 c;bitmap -b b.qcow2 --clear a.qcow2 c;bitmap -F qcow2 --merge a a.qcow2 c',
    'bitmap --add b.qcow2 x;bitmap --add a.qcow2 c;bitmap -F qcow2 -b b.qcow2 --merge x a.qcow2 c;bitmap -b b.qcow2 --merge no a.qcow2 c;bitmap -b missing --merge no a.qcow2 c',
    'bitmap --add a.raw a;bitmap --remove a.raw a;bitmap --enable --clear a.raw a;bitmap --add a.qed a;bitmap --add -f raw a.raw a',
    'bitmap --remove v2.qcow2 a;bitmap --add missing a;bitmap --add -f nope a.qcow2 a',
    "bitmap --add --image-opts driver=qcow2,file.filename=a.qcow2 z;bitmap --add a.qcow2 '';bitmap -q --add a.qcow2 zz;bitmap -U --add a.qcow2 zz",
    'bitmap --enable --add a.qcow2 q;bitmap --add --remove a.qcow2 q2;bitmap --add --enable --disable a.qcow2 q3;bitmap --remove a.qcow2 q3',
    'bitmap --add overlay.qcow2 a;bitmap --add data.qcow2 a;bitmap --add always.qcow2 a;bitmap --add lazy.qcow2 a',
  ])('%s', async (commands) => {
    await same(commands.split(';').map(words));
  });

  test('of another image is merged', async () => {
    await twins.both(async (cwd) => {
      await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'from.qcow2', '1M'], { cwd });
      await makeWithQemuImg(['bitmap', '--add', '-g', '4k', 'from.qcow2', 'x'], { cwd });
      await writeWithQemuIo(['from.qcow2'], ['write 100k 3k', 'write 900k 124k'], { cwd });
    });
    await same([words('bitmap --add a.qcow2 y'), words('bitmap -b from.qcow2 --merge x a.qcow2 y')]);
    const map = async (cwd: string) => {
      const server = ['[', 'qemu-nbd', '-r', '-f', 'qcow2', '-B', 'y', join(cwd, 'a.qcow2'), ']'];
      return (await runTool('nbdinfo', ['--json', '--map=qemu:dirty-bitmap:y', '--', ...server])).stdout;
    };
    expect(await map(twins.ours)).toBe(await map(twins.theirs));
  });
});

describe('resize', () => {
  test.each([
    'resize a.qcow2 2M;resize a.qcow2 +1M;resize a.qcow2 -1M;resize --shrink a.qcow2 -1M;resize --shrink a.qcow2 -10M;resize --shrink a.qcow2 1M;resize a.qcow2 1M;resize -q a.qcow2 2M',
    'resize a.qcow2 2000000;resize a.qcow2 3000001;resize a.qcow2 x;resize a.qcow2 +;resize a.qcow2;resize;resize a.qcow2 1 2;resize a.qcow2 9E;resize a.qcow2 7E;resize a.qcow2 +7E',
    'resize --preallocation=metadata a.qcow2 8M;resize --preallocation=falloc a.qcow2 9M;resize --preallocation=full a.qcow2 10M;resize --preallocation=foo a.qcow2 10M;resize --shrink --preallocation=full a.qcow2 5M',
    'resize -f raw a.raw 2M;resize a.raw 3M;resize a.raw 1M;resize -f raw --shrink a.raw 1M;resize -f raw a.raw 2000001',
    'resize -f raw --preallocation=metadata a.raw 8M;resize -f raw --preallocation=falloc a.raw 8M;resize -f raw --preallocation=full a.raw 9M;resize -f raw --shrink --preallocation=full a.raw 3M',
    'resize a.qed 2M;resize a.qed 1M;resize --shrink a.qed 1M;resize --preallocation=full a.qed 4M;resize a.qed 3000001',
    'snapshot -c x a.qcow2;resize a.qcow2 20M;resize --shrink a.qcow2 10M;snapshot -a x a.qcow2',
    'resize v2.qcow2 2M;snapshot -c x v2.qcow2;resize v2.qcow2 20M',
    'resize overlay.qcow2 3M;resize --preallocation=full overlay.qcow2 5M;resize missing 3M',
    'resize --image-opts driver=qcow2,file.filename=a.qcow2 30M;resize --shrink a.qcow2 0;resize a.qcow2 1M -q;resize a.qcow2 -f qcow2 50M;resize a.qcow2 -- +5M;resize a.qcow2 --shrink -5M;resize -U a.qcow2 30M',
    'bitmap --add a.qcow2 q;resize a.qcow2 2M;resize --shrink a.qcow2 1M',
    'resize data.qcow2 2M;resize always.qcow2 2M;resize --shrink always.qcow2 512k;resize --shrink data.qcow2 512k',
    'resize lazy.qcow2 2M;resize --preallocation=metadata lazy.qcow2 3M;resize narrow.qcow2 20M',
  ])('%s', async (commands) => {
    await same(commands.split(';').map(words));
  });
});

describe('amend', () => {
  test.each([
    'amend -o compat=0.10 a.qcow2;amend -o compat=1.1 a.qcow2;amend -q -o compat=v2 a.qcow2;amend a.qcow2;amend -o compat=1.1;amend -o help a.qcow2;amend -o help -f qcow2;amend -o help;amend -o help -f raw;amend -o help -f qed;amend -o help -f nope',
    'amend -o size=2M a.raw;amend -o size=2M a.qed;amend -o size=2M a.qcow2;amend -o size=1M a.qcow2;amend -o cluster_size=4k a.qcow2;amend -o foo=1 a.qcow2;amend -o compat=3 a.qcow2;amend -o refcount_bits=3 a.qcow2',
    'amend -o lazy_refcounts=on v2.qcow2;amend -o encrypt.state=active,encrypt.keyslot=1 a.qcow2;amend -o compat=1.1 a.qcow2 x;amend -o compat=1.1 missing;amend -o compat=1.1 -t nope a.qcow2;amend -o ,x a.qcow2',
    'amend -o backing_file=x a.qcow2;amend -o backing_fmt=x a.qcow2;amend -o size=xx a.qcow2;amend -o backing_file=b.qcow2,backing_fmt=qcow2 overlay.qcow2;amend -o backing_file=b.qcow2 overlay.qcow2',
    'amend -o lazy_refcounts=on,refcount_bits=64 a.qcow2;amend -o refcount_bits=8 narrow.qcow2;amend -o lazy_refcounts=off lazy.qcow2;amend -o compat=0.10 lazy.qcow2',
    'amend -o data_file_raw=on data.qcow2;amend -o data_file_raw=off always.qcow2;amend -o data_file=x a.qcow2;amend -o compat=0.10 data.qcow2',
    'snapshot -c x a.qcow2;amend -o refcount_bits=1 a.qcow2;amend -o compat=0.10 a.qcow2;amend -o compat=1.1,size=3M a.qcow2',
    'amend -o compat=1.1,size=3M v2.qcow2;amend -U -o compat=1.1 a.qcow2;amend --image-opts -o lazy_refcounts=on driver=qcow2,file.filename=a.qcow2',
  ])('%s', async (commands) => {
    await same(commands.split(';').map(words));
  });

  test('gives passphrases and takes them away', async () => {
    const secrets = ['s=pw', 't=pw2', 'u=pw3'].flatMap((pair) => {
      const [id = '', data = ''] = pair.split('=');
      return ['--object', `secret,id=${id},data=${data}`];
    });
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    expect(await chainscope(['create', '-q', ...secrets, '-f', 'qcow2', '-o', options, 'luks', '1M'], { cwd: twins.ours })).toMatchObject({
      code: 0,
    });
    await copyFile(join(twins.ours, 'luks'), join(twins.theirs, 'luks'));
    const image = ['--image-opts', 'driver=qcow2,file.filename=luks,encrypt.key-secret=s'];
    for (const change of [
      'encrypt.state=active,encrypt.new-secret=t,encrypt.iter-time=10',
      'encrypt.state=active,encrypt.new-secret=u,encrypt.iter-time=10,encrypt.keyslot=1',
      '--force encrypt.state=active,encrypt.new-secret=u,encrypt.iter-time=10,encrypt.keyslot=1',
      'encrypt.state=inactive,encrypt.keyslot=3',
      'encrypt.state=inactive,encrypt.keyslot=9',
      'encrypt.state=active,encrypt.new-secret=t,encrypt.keyslot=9',
      'encrypt.state=inactive,encrypt.old-secret=t,encrypt.keyslot=1',
      'encrypt.state=inactive,encrypt.keyslot=1',
      'encrypt.state=inactive,encrypt.old-secret=t',
      'encrypt.state=inactive',
      'encrypt.state=foo',
      'encrypt.keyslot=3',
      'encrypt.state=active',
      'encrypt.state=active,encrypt.new-secret=zz',
      'encrypt.state=inactive,encrypt.old-secret=s',
      'encrypt.state=inactive,encrypt.keyslot=0',
      'encrypt.state=inactive,encrypt.old-secret=s,encrypt.iter-time=3',
      'encrypt.state=inactive,encrypt.old-secret=s,encrypt.new-secret=t',
      'encrypt.state=active,encrypt.old-secret=s,encrypt.new-secret=t',
      'lazy_refcounts=on',
      '--force encrypt.state=inactive,encrypt.keyslot=0',
      'lazy_refcounts=off',
    ]) {
      const force = change.startsWith('--force ') ? ['--force'] : [];
      const args = ['amend', ...secrets, ...force, '-o', change.replace('--force ', ''), ...image];
      const { theirs, ours } = await twins.run(args);
      // Our program says which file does not open, qemu-img which argument.
      const told = (outcome: typeof ours) => ({ ...outcome, stderr: outcome.stderr.replace(/Could not open '[^']*'/, 'Could not open') });
      const { code, stderr } = told(ours);
      expect({ code, stderr: stderr.split('\n')[0] }, change).toEqual({ code: theirs.code, stderr: told(theirs).stderr.split('\n')[0] });
    }
  });
});

describe('images that are in use', () => {
  test('are not changed, and those that we change are locked', async () => {
    const holder = await qemuHolding(join(twins.ours, 'a.qcow2'));
    for (const line of [
      'resize a.qcow2 2M',
      'snapshot -c x a.qcow2',
      'bitmap --add a.qcow2 x',
      'amend -o lazy_refcounts=on a.qcow2',
      'create -f qcow2 a.qcow2 1M',
    ]) {
      const { code, stderr } = await chainscope(words(line), { cwd: twins.ours });
      expect({ code, stderr }, line).toMatchObject({ code: 1, stderr: expect.stringContaining('lock') as unknown });
    }
    await holder.end();
    await rm(join(twins.ours, 'a.qcow2'));
  });
});
