import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { nbdkit, qemuNbd, type RunningServer } from './nbdServers';
import { spawnKept } from './processes';
import { chainscope, CLI, makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo, type Outcome } from './tools';

/* `chainscope nbd` in qemu-nbd's place. */

const SIZE = 8 * 2 ** 20;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);
beforeAll(async () => {
  folder = await temporaryFolder('cli-nbd');
});
afterAll(() => folder.dispose());

const others: RunningServer[] = [];
function kept(server: RunningServer): RunningServer {
  others.push(server);
  return server;
}

const pids: number[] = [];
afterEach(async () => {
  await Promise.all(others.splice(0).map((server) => server.stop()));
  for (const pid of pids.splice(0)) {
    await endServer(pid);
  }
});

let servers = 0;

interface Server {
  readonly socket: string;
  readonly pid: number;
  readonly uri: (name?: string) => string;
}

/** Starts a server in the background; it listens when this has ended. */
async function serve(...args: readonly string[]): Promise<Server> {
  const [socket, pidFile] = [at(`s${servers}`), at(`p${servers++}`)];
  const started = await nbd('--fork', '--pid-file', pidFile, '-k', socket, ...args);
  expect(started).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
  const pid = Number(await readFile(pidFile, 'utf8'));
  pids.push(pid);
  return { socket, pid, uri: (name = '') => `nbd+unix:///${name}?socket=${socket}` };
}

function nbd(...args: readonly string[]): Promise<Outcome> {
  return chainscope(['nbd', ...args], { env: { CHAINSCOPE_ARGV0: 'qemu-nbd' }, cwd: folder.path });
}

/** Ends a server that is still there, and waits until it has closed its image. */
async function endServer(pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGTERM');
    // One that has ended may stay listed, where nobody asks after processes whose parent has gone.
    while (!readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch {
    // Gone.
  }
}

async function image(name: string, ...options: readonly string[]): Promise<string> {
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', ...options, at(name), `${SIZE}`]);
  return at(name);
}

describe('chainscope nbd', () => {
  test('tells of sectors where the format of a raw image was guessed, and of bytes where it was given', async () => {
    await writeFile(at('odd.raw'), Buffer.alloc(1000, 'd'));
    const shown = async (...args: readonly string[]) => {
      const { socket, uri } = await serve('-r', '-t', ...args, at('odd.raw'));
      const { stdout } = await runTool('nbdinfo', ['--map', uri()]);
      const { stdout: list } = await runTool('qemu-nbd', ['--list', '-k', socket]);
      return {
        map: stdout
          .trim()
          .split('\n')
          .map((line) => line.trim().split(/ +/).join(' ')),
        block: /min block: (\d+)/.exec(list)?.[1],
      };
    };
    expect(await shown()).toEqual({ map: ['0 1024 0 data'], block: '512' });
    expect(await shown('-f', 'raw')).toEqual({ map: ['0 1000 0 data', '1000 24 3 hole,zero'], block: '1' });
  });

  test('serves in the background until the last client has gone', async () => {
    const disk = await image('once.qcow2');
    const server = await serve('-f', 'qcow2', disk);
    await writeWithQemuIo(['-f', 'raw', server.uri()], ['write -P 5 1M 64k']);
    await endServer(server.pid);
    expect(existsSync(server.socket)).toBe(false);
    await writeWithQemuIo(['-f', 'qcow2', disk], ['read -P 5 1M 64k']);
    expect((await qemuImg(['check', '-q', disk])).code).toBe(0);
  });

  test('ends by itself with its last client, and takes its files away', async () => {
    const disk = await image('last.qcow2');
    const [socket, pidFile] = [at('last.sock'), at('last.pid')];
    const child = spawnKept(process.execPath, [CLI, 'nbd', '-f', 'qcow2', '-k', socket, '--pid-file', pidFile, disk], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    // The server says by its PID file that it listens.
    while (!existsSync(pidFile)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await runTool('nbdinfo', ['--size', `nbd+unix:///?socket=${socket}`])).stdout).toBe(`${SIZE}\n`);
    expect(await ended).toEqual([0, null]);
    expect([existsSync(socket), existsSync(pidFile)]).toEqual([false, false]);
  });

  test('serves many clients one after the other with -t, by name and description, read-only', async () => {
    const disk = await image('many.qcow2');
    const { uri } = await serve('-t', '-r', '-f', 'qcow2', '-x', 'disk', '-D', 'a disk to look at', disk);
    for (let client = 0; client < 3; client++) {
      const { stdout } = await runTool('nbdinfo', ['--json', uri('disk')]);
      expect(JSON.parse(stdout)).toMatchObject({
        exports: [{ 'export-name': 'disk', description: 'a disk to look at', is_read_only: true, can_multi_conn: false }],
      });
    }
    const refused = await runTool('qemu-io', ['-f', 'raw', uri('disk'), '-c', 'write 0 512']);
    expect(refused.code).toBe(1);
  });

  test('tells of allocation depth and of a bitmap that records what clients write', async () => {
    await image('base.qcow2');
    await writeWithQemuIo(['-f', 'qcow2', at('base.qcow2')], ['write 0 128k']);
    const disk = await image('overlay.qcow2', '-b', at('base.qcow2'), '-F', 'qcow2');
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write 64k 64k']);
    await makeWithQemuImg(['bitmap', '--add', disk, 'b0']);
    const { uri } = await serve('-t', '-A', '-B', 'b0', '-f', 'qcow2', disk);
    await writeWithQemuIo(['-f', 'raw', uri()], ['write 4M 100k']);
    const map = async (context: string) =>
      (
        JSON.parse((await runTool('nbdinfo', ['--json', `--map=${context}`, uri()])).stdout) as {
          offset: number;
          length: number;
          type: number;
        }[]
      )
        .filter(({ type }) => type !== 0)
        .map(({ offset, length, type }) => [offset, length, type]);
    expect(await map('qemu:allocation-depth')).toEqual([
      [0, 65536, 2],
      [65536, 65536, 1],
      [4 * 2 ** 20, 131072, 1],
    ]);
    expect(await map('qemu:dirty-bitmap:b0')).toEqual([[4 * 2 ** 20, 131072, 1]]);
  });

  test('decrypts an image whose secret it is given', async () => {
    const secret = ['--object', 'secret,id=sec0,data=open sesame'];
    const disk = at('luks.qcow2');
    const luks = 'encrypt.format=luks,encrypt.key-secret=sec0,encrypt.iter-time=10';
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', ...secret, '-o', luks, disk, '1M']);
    const options = `driver=qcow2,encrypt.key-secret=sec0,file.filename=${disk}`;
    const server = await serve('-t', ...secret, '--image-opts', options);
    await writeWithQemuIo(['-f', 'raw', server.uri()], ['write -P 9 4k 8k', 'read -P 9 5k 1k']);
    await endServer(server.pid);
    await writeWithQemuIo([...secret, '--image-opts', options], ['read -P 9 4k 8k', 'read -P 0 0 4k']);
    const wrong = await nbd('-k', at('never'), '--object', 'secret,id=sec0,data=wrong', '--image-opts', options);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('Invalid password');
  });

  test('serves clients with TLS, and no others', async () => {
    const certificates = await makeCertificates();
    const disk = await image('tls.qcow2');
    const object = `tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir=${certificates.server}`;
    const { socket } = await serve('-t', '-f', 'qcow2', '--object', object, '--tls-creds', 'tls0', disk);
    const plain = await runTool('nbdinfo', ['--size', `nbd+unix:///?socket=${socket}`]);
    expect(plain.code).toBe(1);
    const secured = `nbds+unix:///?socket=${socket}&tls-hostname=localhost&tls-certificates=${certificates.client}`;
    expect(await runTool('nbdinfo', ['--size', secured])).toMatchObject({ code: 0, stdout: `${SIZE}\n` });
  });

  test('lists what a server offers as qemu-nbd does', async () => {
    const disk = await image('listed.qcow2');
    await makeWithQemuImg(['bitmap', '--add', disk, 'b0']);
    const options = ['-t', '-r', '-f', 'qcow2', '-x', 'a name', '-D', 'what it is', '-A', '-B', 'b0'];
    const { socket } = await serve(...options, '-e', '0', disk);
    const theirs = await runTool('qemu-nbd', ['--list', '-k', socket]);
    expect(theirs.stdout).toContain("export: 'a name'\n  description: what it is\n");
    expect(await nbd('--list', '-k', socket)).toMatchObject({ code: 0, stdout: theirs.stdout, stderr: '' });
  });

  test('serves an internal snapshot, and leaves the disk to others as it is', async () => {
    const disk = await image('snapshots.qcow2');
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write -P 1 0 64k']);
    await makeWithQemuImg(['snapshot', '-c', 'before', disk]);
    await writeWithQemuIo(['-f', 'qcow2', disk], ['write -P 2 0 64k']);
    for (const name of ['before', 'snapshot.name=before', 'snapshot.id=1']) {
      const { uri, pid } = await serve('-t', '-f', 'qcow2', '-l', name, disk);
      await writeWithQemuIo(['-r', '-f', 'raw', uri()], ['read -P 1 0 64k']);
      expect((await runTool('qemu-io', ['-f', 'raw', uri(), '-c', 'write 0 512'])).code).toBe(1);
      await endServer(pid);
    }
    await writeWithQemuIo(['-r', '-f', 'qcow2', disk], ['read -P 2 0 64k']);
    const args = ['-l', 'after', '-k', at('never'), disk];
    expect((await nbd(...args)).stderr).toBe((await runTool('qemu-nbd', args)).stderr);
  });

  test('is a client with TLS, by certificates or by a key', async () => {
    const certificates = await makeCertificates('client-of');
    const disk = await image('behind-tls.qcow2');
    const qemu = ['--object', `tls-creds-x509,id=s,endpoint=server,verify-peer=on,dir=${certificates.server}`, '--tls-creds', 's'];
    const server = kept(await qemuNbd(folder.path, [...qemu, '-f', 'qcow2', disk]));
    const object = ['--object', `tls-creds-x509,id=c,endpoint=client,dir=${certificates.client}`];
    const named = `driver=nbd,path=${server.socket},tls-creds=c,tls-hostname=localhost`;
    for (const args of [
      ['info', ...object, '--image-opts', named],
      ['info', '--output=json', ...object, '--image-opts', named],
      ['map', '--output=json', ...object, '--image-opts', `driver=raw,${named.replaceAll(/(^|,)/g, '$1file.')}`],
    ]) {
      const theirs = await qemuImg(args);
      expect(theirs.code, theirs.stderr).toBe(0);
      expect(await chainscope(args, { cwd: folder.path }), args.join(' ')).toMatchObject({ code: 0, stdout: theirs.stdout });
    }
    const listing = ['--list', '-k', server.socket, ...object, '--tls-creds', 'c', '--tls-hostname', 'localhost'];
    const listed = await nbd(...listing);
    expect(listed).toMatchObject({ code: 0, stdout: (await runTool('qemu-nbd', listing)).stdout });
    for (const wrong of [
      named.replace('tls-creds=c,', ''),
      named.replace('localhost', 'another.example'),
      named.replace(',tls-hostname=localhost', ''),
    ]) {
      expect((await chainscope(['info', ...object, '--image-opts', wrong], { cwd: folder.path })).code, wrong).toBe(1);
    }
    await writeFile(join(certificates.client, 'keys.psk'), 'alice:00112233445566778899aabbccddeeff\n', { mode: 0o600 });
    const byKey = kept(await nbdkit(folder.path, ['--tls=require', `--tls-psk=${join(certificates.client, 'keys.psk')}`, 'memory', '1M']));
    const psk = ['--object', `tls-creds-psk,id=p,endpoint=client,username=alice,dir=${certificates.client}`];
    const { stdout } = await chainscope(['info', ...psk, '--image-opts', `driver=nbd,path=${byKey.socket},tls-creds=p`], {
      cwd: folder.path,
    });
    expect(stdout).toContain('virtual size: 1 MiB');
  });

  test('says what is wrong as qemu-nbd does', async () => {
    await writeFile(at('guessed.raw'), Buffer.alloc(4096));
    for (const args of [
      ['-k', at('x'), at('gone.qcow2')],
      ['-k', 'relative', at('gone.qcow2')],
      ['-k', at('x'), '-p', '10809', at('gone.qcow2')],
      ['-e', 'many', at('guessed.raw')],
    ]) {
      const [ours, theirs] = [await nbd(...args), await runTool('qemu-nbd', args, { cwd: folder.path })];
      expect(ours.code, args.join(' ')).toBe(theirs.code);
      expect(ours.stderr.split('\n')[0], args.join(' ')).toBe(theirs.stderr.split('\n')[0]);
    }
  });
});

/** A CA, and a server and a client that it vouches for, in the folders that GnuTLS's names are looked up in. */
async function makeCertificates(prefix = 'tls'): Promise<{ server: string; client: string }> {
  const [server, client] = [at(`${prefix}-server`), at(`${prefix}-client`)];
  const openssl = async (...args: readonly string[]) => {
    const { code, stderr } = await runTool('openssl', args, { cwd: folder.path });
    expect(code, stderr).toBe(0);
  };
  const newKey = ['-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  await openssl('req', '-x509', ...newKey, '-subj', '/CN=test CA', '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem');
  for (const [who, home] of [
    ['server', server],
    ['client', client],
  ] as const) {
    await mkdir(home);
    await writeFile(join(home, 'ca-cert.pem'), await readFile(at('ca-cert.pem')));
    const key = join(home, `${who}-key.pem`);
    await openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-keyout', key, '-out', `${who}.csr`);
    await writeFile(at('extensions'), 'subjectAltName=DNS:localhost\n');
    const signed = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2', '-extfile', 'extensions'];
    await openssl('x509', '-req', '-in', `${who}.csr`, ...signed, '-out', join(home, `${who}-cert.pem`));
  }
  return { server, client };
}
