import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { spawnKept } from './processes';
import { CLI, chainscope, makeWithQemuImg, qemuImg, runTool, sideBySide, temporaryFolder, writeWithQemuIo } from './tools';

/* How the command line is called, and how it ends, beside qemu-img. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let cwd: string;

beforeAll(async () => {
  folder = await temporaryFolder('cli');
  cwd = folder.path;
  await makeWithQemuImg(['create', '-q', '-f', 'raw', 'base.raw', '1M'], { cwd });
  await writeWithQemuIo(['-f', 'raw', 'base.raw'], ['write -P 1 64k 64k'], { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'mid.qcow2', '2M'], { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd });
  await writeWithQemuIo(['top.qcow2'], ['write -P 2 256k 128k', 'write -z 512k 64k'], { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qed', '-b', 'base.raw', '-F', 'raw', 'top.qed'], { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'data_file=outside.data', 'outside.qcow2', '1M'], { cwd });
  await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', 'orphan.qcow2', '1M'], { cwd });
  await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'loop-b.qcow2', '-F', 'qcow2', 'loop-a.qcow2', '1M'], { cwd });
  await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', 'loop-a.qcow2', '-F', 'qcow2', 'loop-b.qcow2', '1M'], { cwd });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'compressed.qcow2', '1M'], { cwd });
  await writeWithQemuIo(['compressed.qcow2'], ['write -c -P 3 0 64k', 'write -P 4 64k 64k'], { cwd });
  await writeFile(join(cwd, 'empty'), '');
  await writeFile(join(cwd, 'odd.raw'), 'x'.repeat(1000));
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'cut.qcow2', '1M'], { cwd });
  await truncate(join(cwd, 'cut.qcow2'), 100);
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'future.qcow2', '1M'], { cwd });
  await patch('future.qcow2', 72, [0x80, 0, 0, 0, 0, 0, 0, 0]);
});

afterAll(() => folder.dispose());

async function patch(name: string, offset: number, bytes: readonly number[]): Promise<void> {
  const file = await open(join(cwd, name), 'r+');
  await file.write(Uint8Array.from(bytes), 0, bytes.length, offset);
  await file.close();
}

describe('the same arguments, the same exit code and the same standard output', () => {
  test.each<readonly string[]>([
    // Options in all their spellings.
    ['map', 'top.qcow2'],
    ['map', '--output=json', 'top.qcow2'],
    ['map', '--outp', 'json', '-f', 'qcow2', 'top.qcow2'],
    ['map', 'top.qcow2', '-U', '--output=human'],
    ['map', '-s', '300k', '-l', '64k', '--output=json', 'top.qcow2'],
    ['map', '--start-offset=0x40000', '--max-length=1.5k', 'top.qcow2'],
    ['map', '-s', '3', '-l', '100', '--output=json', 'base.raw'],
    ['map', '-s', '10M', '--output=json', 'top.qcow2'],
    ['map', '-l', '0', '--output=json', 'top.qcow2'],
    ['map', '-s', 'x', 'top.qcow2'],
    ['map', '-s', '8E', 'top.qcow2'],
    ['map', '--max-length=-1', 'top.qcow2'],
    ['map', '-T', 'none', 'top.qcow2'],
    ['map', '-q', 'top.qcow2'],
    ['map', '-f', 'raw', 'top.qcow2'],
    ['map', '--output=json', 'odd.raw'],
    ['map', 'empty'],
    ['map', '--output=json', 'empty'],
    ['map', 'outside.qcow2'],
    ['map', '--output=json', '--image-opts', 'driver=qcow2,file.filename=top.qcow2'],
    ['map', '--output=json', 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}'],
    ['map', 'compressed.qcow2'],
    ['map', '--output=json', 'compressed.qcow2'],
    ['map', 'top.qed'],
    ['map', 'top.qcow2', 'mid.qcow2'],
    ['map'],
    ['check', 'top.qcow2'],
    ['check', '--output=json', 'top.qcow2'],
    ['check', '--output=json', '-q', 'top.qcow2'],
    ['check', '-q', 'top.qcow2'],
    ['check', '-qUT', 'none', 'top.qcow2'],
    ['check', '-T', 'nonsense', 'top.qcow2'],
    ['check', '-r', 'nonsense', 'top.qcow2'],
    ['check', '--output=xml', 'top.qcow2'],
    ['check', 'top.qed'],
    ['check', '--output=json', 'top.qed'],
    ['check', 'outside.qcow2'],
    ['check', 'compressed.qcow2'],
    ['check', '--output=json', '--image-opts', 'driver=qcow2,file.filename=top.qcow2'],
    ['check', '--object', 'secret,id=s,data=x', 'top.qcow2'],
    ['check', '--object', 'nonsense,id=s', 'top.qcow2'],
    ['check', 'base.raw'],
    ['check', '--output=json', 'base.raw'],
    ['check', '-f', 'qcow2', 'base.raw'],
    ['check', 'empty'],
    ['check', 'missing'],
    ['check', '.'],
    ['check', 'cut.qcow2'],
    ['check', 'future.qcow2'],
    ['check'],
    ['compare', 'top.qcow2', 'top.qcow2'],
    ['compare', '-s', 'top.qcow2', 'top.qcow2'],
    ['compare', 'base.raw', 'mid.qcow2'],
    ['compare', '-s', 'base.raw', 'mid.qcow2'],
    ['compare', 'top.qcow2', 'mid.qcow2'],
    ['compare', '-q', 'top.qcow2', 'mid.qcow2'],
    ['compare', '-qp', 'base.raw', 'mid.qcow2'],
    ['compare', '-f', 'raw', '-F', 'qcow2', 'base.raw', 'mid.qcow2'],
    ['compare', '-fraw', '-Fraw', 'base.raw', 'mid.qcow2'],
    ['compare', '-f', 'qcow2', 'base.raw', 'mid.qcow2'],
    ['compare', '-F', 'qcow2', 'mid.qcow2', 'base.raw'],
    ['compare', '--image-opts', 'file.filename=mid.qcow2', 'driver=raw,file.filename=base.raw'],
    ['compare', '--image-opts', '-f', 'raw', 'x', 'y'],
    ['compare', '-T', 'writeback', 'base.raw', 'mid.qcow2'],
    ['compare', '-T', 'nonsense', 'base.raw', 'mid.qcow2'],
    ['compare', '--object', 'nonsense', 'base.raw', 'mid.qcow2'],
    ['compare', '--strict', 'base.raw', 'mid.qcow2'],
    ['compare', '--format', 'raw', 'base.raw', 'mid.qcow2'],
    ['compare', '--fo', 'base.raw', 'mid.qcow2'],
    ['compare', 'missing', 'base.raw'],
    ['compare', 'base.raw', 'missing'],
    ['compare', 'base.raw', 'orphan.qcow2'],
    ['compare', 'base.raw', 'cut.qcow2'],
    ['compare', 'base.raw', 'future.qcow2'],
    ['compare', 'base.raw'],
    ['compare', 'a', 'b', 'c'],
    ['info', 'future.qcow2'],
    ['map', 'future.qcow2'],
    ['map', 'cut.qcow2'],
    ['map', 'missing'],
    ['map', '.'],
    ['map', 'orphan.qcow2'],
    ['map', '--output=json', 'orphan.qcow2'],
    // Before the command, and instead of one.
    ['-T', 'nothing', 'map', 'empty'],
    ['nonsense'],
    ['-z'],
    ['--nonsense', 'info', 'empty'],
    ['-U', 'info', 'empty'],
    [],
  ])('%j', async (...args) => {
    const { theirs, ours } = await sideBySide(args, { cwd });
    expect({ code: ours.code, stdout: ours.stdout }).toEqual({ code: theirs.code, stdout: theirs.stdout });
    expect(ours.stderr === '').toBe(theirs.stderr === '' || theirs.stderr.includes('trace event'));
    if (ours.stderr !== '') {
      expect(ours.stderr).toMatch(/^qemu-img: /);
      expect(ours.stderr).not.toContain('error in');
    }
  });
});

describe('where qemu-img does not finish, or has nothing to compare with', () => {
  test('check works without the backing file', async () => {
    const theirs = await qemuImg(['check', 'orphan.qcow2'], { cwd });
    const ours = await chainscope(['check', 'orphan.qcow2'], { cwd });
    expect([theirs.code, ours.code, ours.stderr]).toEqual([1, 0, '']);
  });

  test('a chain that loops is an error of map and compare, and a finding of check', async () => {
    const map = await chainscope(['map', 'loop-a.qcow2'], { cwd });
    const compare = await chainscope(['compare', 'loop-a.qcow2', 'base.raw'], { cwd });
    const check = await chainscope(['check', '--output=json', 'loop-a.qcow2'], { cwd });
    const strict = await chainscope(['check', '--strict', 'loop-a.qcow2'], { cwd });
    expect([map.code, compare.code, check.code, strict.code]).toEqual([1, 2, 0, 2]);
    expect(JSON.parse(check.stdout)).toMatchObject({ 'check-errors': 0, 'extra-findings': [{ kind: 'chainLoop', count: 1 }] });
  });

  test('--follow=none reads the image alone and says so', async () => {
    const { code, stdout, stderr } = await chainscope(['map', '--follow=none', '--output=json', 'top.qcow2'], { cwd });
    expect(code).toBe(0);
    expect(stderr).toContain('mid.qcow2');
    expect((JSON.parse(stdout) as { depth: number }[]).every(({ depth }) => depth <= 1)).toBe(true);
    expect((await chainscope(['map', '--follow=sometimes', 'top.qcow2'], { cwd })).code).toBe(1);
  });

  test('progress looks like qemu-img’s', async () => {
    for (const args of [
      ['compare', '-p', 'base.raw', 'base.raw'],
      ['check', '-p', 'top.qcow2'],
    ]) {
      const { code, stdout } = await chainscope(args, { cwd });
      expect(code).toBe(0);
      expect(stdout).toMatch(/^ {4}\(0\.00\/100%\)\r/);
      expect(stdout).toMatch(/ {4}\(100\.00\/100%\)\r/);
    }
    const json = await chainscope(['check', '-p', '--output=json', 'top.qcow2'], { cwd });
    expect(JSON.parse(json.stdout)).toMatchObject({ format: 'qcow2' });
    expect(json.stderr).toContain('(100.00/100%)');
  });
});

describe('findings beyond qemu-img’s', () => {
  /** Two guest clusters on one host cluster with refcount 2, which qemu-img finds nothing wrong with. */
  async function makeDoublyUsed(name: string): Promise<void> {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', name, '1M'], { cwd });
    await writeWithQemuIo([name], ['write -P 1 0 128k'], { cwd });
    const mapped = JSON.parse((await qemuImg(['map', '--output=json', name], { cwd })).stdout) as [{ offset: number }];
    const cluster = mapped[0].offset / 65536;
    const file = await open(join(cwd, name), 'r');
    const word = Buffer.alloc(8);
    const read = async (offset: number) => (await file.read(word, 0, 8, offset)).buffer.readBigUInt64BE() & 0x00ffffffffffff00n;
    const l2 = Number(await read(Number(await read(40))));
    const block = Number(await read(Number(await read(48))));
    await file.close();
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(BigInt(cluster * 65536));
    await patch(name, l2, [...entry, ...entry]);
    await patch(name, block + cluster * 2, [0, 2, 0, 0]);
  }

  test('stand apart, and count when told to', async () => {
    await makeDoublyUsed('doubly.qcow2');
    const theirs = await qemuImg(['check', '--output=json', 'doubly.qcow2'], { cwd });
    const ours = await chainscope(['check', '--output=json', 'doubly.qcow2'], { cwd });
    const { 'extra-findings': extra, ...comparable } = JSON.parse(ours.stdout) as Record<string, unknown>;
    expect({ code: ours.code, comparable }).toEqual({ code: theirs.code, comparable: JSON.parse(theirs.stdout) as unknown });
    expect(theirs.code).toBe(0);
    expect(extra).toMatchObject([{ kind: 'doublyUsedData' }]);
    const strict = await chainscope(['check', '--strict', 'doubly.qcow2'], { cwd });
    expect(strict.code).toBe(2);
    expect(strict.stdout).toContain('No errors were found on the image.\n');
    expect(strict.stdout).toContain('\nBeyond what qemu-img check looks for:\n');
  });

  test('a compressed cluster that does not decompress is found by the deep pass', async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'packed.qcow2', '1M'], { cwd });
    await writeWithQemuIo(['packed.qcow2'], ['write -c -P 3 0 64k'], { cwd });
    await patch(
      'packed.qcow2',
      5 * 65536,
      Array.from({ length: 16 }, () => 0xff),
    );
    const plain = await chainscope(['check', '--output=json', 'packed.qcow2'], { cwd });
    const deep = await chainscope(['check', '--deep', '--output=json', 'packed.qcow2'], { cwd });
    expect(JSON.parse(plain.stdout)).not.toHaveProperty('extra-findings');
    expect(JSON.parse(deep.stdout)).toMatchObject({ 'extra-findings': [{ kind: 'undecodableCompressed', count: 1 }] });
    expect([plain.code, deep.code]).toEqual([0, 0]);
  });
});

describe('an image that another process writes', () => {
  let writer: ChildProcessWithoutNullStreams;
  beforeAll(async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'busy.qcow2', '1M'], { cwd });
    writer = spawnKept('qemu-io', ['busy.qcow2'], { cwd });
    // The prompt: the image is open and locked.
    await once(writer.stdout, 'data');
  });
  afterAll(async () => {
    const gone = once(writer, 'close');
    writer.stdin.end('quit\n');
    await gone;
  });

  test.each<readonly string[]>([
    ['info', 'busy.qcow2'],
    ['info', '-U', 'busy.qcow2'],
    ['info', '--image-opts', 'file.filename=busy.qcow2,force-share=on'],
    ['check', 'busy.qcow2'],
    ['check', '-U', 'busy.qcow2'],
    ['map', 'busy.qcow2'],
    ['map', '--force-share', 'busy.qcow2'],
    ['compare', 'busy.qcow2', 'empty'],
    ['compare', '-U', 'busy.qcow2', 'empty'],
    ['info', '-f', 'raw', 'busy.qcow2'],
  ])('%j', async (...args) => {
    const { theirs, ours } = await sideBySide(args, { cwd });
    expect({ code: ours.code, stdout: ours.stdout }).toEqual({ code: theirs.code, stdout: theirs.stdout });
    if (ours.code !== 0 && theirs.stderr.includes('lock')) {
      expect(ours.stderr).toContain('Failed to get shared "write" lock');
    }
  });
});

describe('dump and locate', () => {
  test('every structure in both forms', async () => {
    for (const structure of [[], ['header'], ['extensions'], ['l1'], ['l2'], ['l2:0'], ['refcount-table'], ['refcounts']]) {
      const text = await chainscope(['dump', 'top.qcow2', ...structure], { cwd });
      const json = await chainscope(['dump', '--output=json', 'top.qcow2', ...structure], { cwd });
      expect([structure, text.code, json.code]).toEqual([structure, 0, 0]);
      expect(text.stdout).not.toBe('');
      expect(JSON.parse(json.stdout)).toBeTruthy();
    }
  });

  test('a damaged image too', async () => {
    const { code, stdout } = await chainscope(['dump', 'cut.qcow2'], { cwd });
    expect(code).toBe(0);
    expect(stdout).toContain('qcow2 header');
    expect(stdout).toContain('!');
  });

  test('an address is found where qemu-img map finds it', async () => {
    const mapped = JSON.parse((await qemuImg(['map', '--output=json', 'top.qcow2'], { cwd })).stdout) as {
      start: number;
      depth: number;
      data: boolean;
      offset?: number;
    }[];
    const data = mapped.filter((extent) => extent.data);
    expect(data.length).toBeGreaterThan(1);
    for (const { start, depth, offset } of data) {
      const { stdout } = await chainscope(['locate', '--output=json', 'top.qcow2', `0x${start.toString(16)}`], { cwd });
      const location = JSON.parse(stdout) as { layers: { depth: number; supplies: boolean; 'host-offset'?: number }[] };
      expect(location.layers.find(({ supplies }) => supplies)).toMatchObject({ depth, 'host-offset': offset });
    }
    const own = data.find(({ depth }) => depth === 0);
    const host = await chainscope(['locate', '--output=json', 'top.qcow2', `h:${own?.offset ?? 0}`], { cwd });
    expect(JSON.parse(host.stdout)).toMatchObject({ space: 'host', 'guest-offsets': [own?.start] });
  });

  test.each<readonly string[]>([
    ['dump', 'top.qcow2', 'nonsense'],
    ['dump', 'base.raw'],
    ['dump', '-l', 'nonsense', 'top.qcow2', 'l1'],
    ['locate', 'top.qcow2', 'nonsense'],
    ['locate', 'top.qcow2', '1T'],
    ['locate', 'top.qcow2'],
  ])('%j is refused', async (...args) => {
    const { code, stdout, stderr } = await chainscope(args, { cwd });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^qemu-img: ./);
  });
});

describe('help and name', () => {
  test('help goes to standard output, for the program and for each command', async () => {
    for (const args of [['--help'], ['-h'], ['help'], ['help', 'map'], ['map', '--help'], ['map', '-h', '-z'], ['check', 'x', 'y', '-h']]) {
      const { code, stdout, stderr } = await chainscope(args);
      expect([args, code, stderr]).toEqual([args, 0, '']);
      expect(stdout).toMatch(/^usage: qemu-img /);
    }
    expect((await chainscope(['map', '-z', '-h'])).code).toBe(1);
    expect((await chainscope(['help', 'nonsense'])).code).toBe(1);
  });

  test('the version is the package’s', async () => {
    const { stdout } = await chainscope(['--version']);
    const { version } = JSON.parse((await runTool('cat', [join(CLI, '../../package.json')])).stdout) as { version: string };
    expect(stdout).toBe(`qemu-img version ${version}\n`);
  });

  test('messages begin with the program’s own name unless it is called by another', async () => {
    expect((await chainscope(['nonsense'], { env: { CHAINSCOPE_ARGV0: '' } })).stderr).toMatch(
      /^chainscope: Command not found: nonsense\n/,
    );
    expect((await chainscope(['nonsense'], { env: { CHAINSCOPE_ARGV0: '/usr/local/bin/qemu-img-wrapped' } })).stderr).toMatch(
      /^qemu-img-wrapped: /,
    );
  });
});

describe('readers that leave and people that interrupt', () => {
  beforeAll(async () => {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'scattered.qcow2', '8M'], { cwd });
    const writes = Array.from({ length: 4000 }, (_, index) => `write -q ${index * 1024} 512`);
    await writeWithQemuIo(['scattered.qcow2'], writes, { cwd });
  });

  test('a reader that has seen enough changes no exit code', async () => {
    const script = '"$0" "$1" map --output=json scattered.qcow2 | head -c 10; echo " ${PIPESTATUS[0]}"';
    const { stdout, stderr } = await runTool('bash', ['-c', script, process.execPath, CLI], { cwd });
    expect([stdout, stderr]).toEqual(['[{ "start" 0\n', '']);
  });

  test('a closed standard output is not an error', async () => {
    const { code, stderr } = await runTool('bash', ['-c', '"$0" "$1" info empty >&-', process.execPath, CLI], { cwd });
    expect([code, stderr]).toEqual([0, '']);
  });

  test('an interrupt ends it as it ends qemu-img: by the signal', async () => {
    const child = spawnKept(process.execPath, [CLI, 'map', '--output=json', 'scattered.qcow2'], {
      cwd,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const closed = once(child, 'exit');
    // The first piece has come and nobody takes the rest: it waits in the middle of its work.
    await once(child.stdout, 'readable');
    child.kill('SIGINT');
    expect(await closed).toEqual([null, 'SIGINT']);
  });
});
