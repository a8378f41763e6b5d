import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import { exported } from './exported';
import { api, workspaceFolder } from './extension';
import { choosesFile, Person, picks, types, wouldAgree } from './person';
import { ImageFolder } from '../harness/imageFolder';
import { ShownTree, type ShownRow } from './tree';

const run = promisify(execFile);

describe('NBD exports', () => {
  let images: ImageFolder;
  let sockets: string;
  let extensionApi: ChainscopeApi;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'served'));
    mkdirSync(images.path);
    sockets = mkdtempSync(join(tmpdir(), 'chainscope-nbd-'));
    images.create('base.qcow2');
    images.qemuIo('base.qcow2', 'write -P 1 0 1M');
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
    images.qemuImg('bitmap', '--add', 'top.qcow2', 'backup');
    extensionApi = await api();
  });

  after(async () => {
    rmSync(images.path, { recursive: true });
    rmSync(sockets, { recursive: true });
    await vscode.commands.executeCommand('chainscope.refresh');
  });

  it('serve a chain to clients, tell of them, and end', async () => {
    const socket = join(sockets, 'top.sock');
    const person = await Person.runs('startExport', uri('top.qcow2'), picks(/^Read and write$/), picks(/^Unix socket$/), types(socket));
    const told = await person.hears(/top\.qcow2 is served at nbd\+unix/);
    const target = /nbd\+unix\S+/.exec(told)?.[0] ?? '';
    const { stdout } = await run('nbdinfo', ['--json', target]);
    const [offered] = (JSON.parse(stdout) as { exports: { 'export-size': number; is_read_only: boolean; contexts: string[] }[] }).exports;
    assert.equal(offered?.['export-size'], 64 * 1024 ** 2);
    assert.equal(offered.is_read_only, false);
    assert.deepEqual(offered.contexts.toSorted(), ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:backup']);

    await run('qemu-io', ['-f', 'raw', '-c', 'read -P 1 0 1M', '-c', 'write -P 9 2M 64k', '-c', 'flush', target]);
    await exported(({ clients, bytesRead, bytesWritten }) => clients === 0 && bytesRead >= 1024 ** 2 && bytesWritten >= 64 * 1024);
    // Nobody else writes it meanwhile, neither another process nor a command of ours.
    await assert.rejects(run('qemu-io', ['-c', 'write 0 64k', images.of('top.qcow2')]), /lock/);

    await Person.runs('stopExport', undefined);
    assert.deepEqual(extensionApi.exports.exports, []);
    assert.ok(!existsSync(socket));
    images.qemuIo('top.qcow2', 'read -P 9 2M 64k');
    execFileSync('qemu-img', ['check', 'top.qcow2'], { cwd: images.path, stdio: 'pipe' });
  });

  it('warm a cache image, and tell what that spares its base', async () => {
    const quota = 4 * 1024 ** 2;
    const made = await Person.runs(
      'newCacheImage',
      uri('base.qcow2'),
      types('4M'),
      picks(/^4 KiB$/),
      choosesFile(images.of('cache.qcow2')),
    );
    await made.hears(/cache\.qcow2 is created\. .* keep up to 4 MiB/);
    const tree = new ShownTree(extensionApi);
    await tree.until((rows) => rows.some(isCacheRow), 'the row of the cache image');
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', 'cache.qcow2', '-F', 'qcow2', 'guest.qcow2');
    const socket = join(sockets, 'guest.sock');
    await Person.runs('startExport', uri('guest.qcow2'), picks(/^Read$/), picks(/^Unix socket$/), types(socket));
    await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 1 0 512k', '-c', 'read -P 1 0 512k', `nbd+unix:///?socket=${socket}`]);
    const { caches } = await exported(({ clients, bytesRead }) => clients === 0 && bytesRead >= 1024 ** 2);
    const [cache] = caches;
    assert.ok(cache);
    const { state, hits, misses, copied, used } = cache;
    assert.deepEqual(
      { state, quota: cache.quota, hits, misses, copied },
      { state: 'warming', quota, hits: 524_288, misses: 524_288, copied: 524_288 },
    );
    assert.ok(used >= 524_288 && used <= quota, `${used} bytes used`);
    const [item] = extensionApi.exports.getChildren();
    assert.ok(item);
    assert.match(String(extensionApi.exports.getTreeItem(item).description), /cache \d+ % full, 50 % hits, 512 KiB saved/);
    await Person.runs('stopExport', undefined);
    images.qemuImg('check', 'cache.qcow2');
    execFileSync('qemu-img', ['compare', 'guest.qcow2', 'base.qcow2'], { cwd: images.path, stdio: 'pipe' });
  });

  it('keep what they read of a base on a server, whose address was typed', async () => {
    const socket = join(sockets, 'remote.sock');
    const address = `nbd+unix:///?socket=${socket}`;
    const watcher = watch(sockets);
    const server = spawn('qemu-nbd', [
      '-r',
      '-t',
      '-f',
      'qcow2',
      '-k',
      socket,
      '--pid-file',
      join(sockets, 'pid'),
      images.of('base.qcow2'),
    ]);
    try {
      // Its process ID is written when it listens.
      await once(watcher, 'change');
      const answers = [
        picks(/^An address/),
        types(address),
        picks(/^raw$/),
        types('8M'),
        picks(/^64 KiB$/),
        choosesFile(images.of('far.qcow2')),
      ];
      await Person.runs('newCacheImage', undefined, ...answers);
      await new ShownTree(extensionApi).until(
        (rows) => rows.some(({ label, children }) => label === 'far.qcow2' && children.some(({ context }) => context.includes(' open '))),
        'the cache image with its base, open',
      );
    } finally {
      watcher.close();
      server.kill();
      await once(server, 'exit');
    }
  });

  it('copy what is read into the image, switched on and off while somebody is connected', async () => {
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'reader.qcow2');
    const socket = join(sockets, 'reader.sock');
    await Person.runs('startExport', uri('reader.qcow2'), picks(/^Read and write$/), picks(/^Unix socket$/), types(socket));
    const client = spawn('qemu-io', ['-f', 'raw', `nbd+unix:///?socket=${socket}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(client, 'exit');
    const reads = async (range: string) => {
      const answered = once(client.stdout, 'data');
      client.stdin.write(`read -P 1 ${range}\n`);
      await answered;
    };
    try {
      await reads('0 256k');
      await exported(({ bytesRead, copyOnRead }) => bytesRead >= 256 * 1024 && copyOnRead?.on === false);
      await Person.runs('turnOnCopyOnRead', undefined);
      await reads('256k 128k');
      await reads('256k 128k');
      const { copyOnRead } = await exported((info) => info.copyOnRead?.hits === 128 * 1024);
      assert.deepEqual(copyOnRead, { on: true, hits: 131_072, misses: 131_072, problem: null });
      const [item] = extensionApi.exports.getChildren();
      assert.ok(item);
      assert.match(String(extensionApi.exports.getTreeItem(item).description), /copy-on-read, 50 % hits/);
      await Person.runs('turnOffCopyOnRead', undefined);
      await reads('512k 128k');
      await exported(({ bytesRead }) => bytesRead >= 640 * 1024);
    } finally {
      client.stdin.end('quit\n');
      await ended;
    }
    await exported(({ clients }) => clients === 0);
    await Person.runs('stopExport', undefined);
    const { stdout } = await run('qemu-img', ['map', '--output=json', images.of('reader.qcow2')]);
    const map = JSON.parse(stdout) as { start: number; length: number; depth: number }[];
    assert.deepEqual(
      map.filter(({ depth }) => depth === 0).map(({ start, length }) => [start, length]),
      [[256 * 1024, 128 * 1024]],
    );
    const person = await Person.runs('turnOnCopyOnRead', undefined);
    await person.hears(/serves no image/);
  });

  it('are read-only unless something else is said, on a port of this machine', async () => {
    const person = await Person.runs('startExport', uri('base.qcow2'), picks(/^Read$/), picks(/^TCP port on 127\.0\.0\.1$/), types('0'));
    const told = await person.hears(/served at nbd:\/\/127\.0\.0\.1:\d+/);
    const target = /nbd:\S+/.exec(told)?.[0] ?? '';
    const { stdout } = await run('nbdinfo', ['--json', target]);
    assert.match(stdout, /"is_read_only": true/);
    await vscode.commands.executeCommand('chainscope.copyExportUri');
    assert.equal(await vscode.env.clipboard.readText(), target);
    await Person.runs('stopExport', undefined, wouldAgree('Stop'));
    await assert.rejects(run('nbdinfo', [target]));
  });

  it('are encrypted with the certificates that a setting names', async () => {
    const folder = join(images.path, 'certificates');
    mkdirSync(folder);
    const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
    const key = ['-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    openssl('req', '-x509', ...key, '-keyout', 'server-key.pem', '-out', 'server-cert.pem');
    copyFileSync(join(folder, 'server-cert.pem'), join(folder, 'ca-cert.pem'));
    const settings = vscode.workspace.getConfiguration('chainscope.nbd');
    await settings.update('tlsCredentials', folder, vscode.ConfigurationTarget.Global);
    await settings.update('tlsVerifyClients', false, vscode.ConfigurationTarget.Global);
    try {
      const answers = [picks(/^Read$/), picks(/^TCP port/), types('0'), picks(/^TLS$/)];
      const person = await Person.runs('startExport', uri('base.qcow2'), ...answers);
      const told = await person.hears(/served at nbds:\/\/127\.0\.0\.1:\d+/);
      const target = /nbds:\S+/.exec(told)?.[0] ?? '';
      const { stdout } = await run('nbdinfo', ['--size', `${target}?tls-certificates=${folder}`]);
      assert.equal(Number(stdout), 64 * 1024 ** 2);
      await assert.rejects(run('nbdinfo', [target.replace('nbds:', 'nbd:')]), /not supported/);
      await Person.runs('stopExport', undefined, wouldAgree('Stop'));
    } finally {
      await settings.update('tlsCredentials', undefined, vscode.ConfigurationTarget.Global);
      await settings.update('tlsVerifyClients', undefined, vscode.ConfigurationTarget.Global);
    }
  });

  function uri(name: string): vscode.Uri {
    return vscode.Uri.file(images.of(name));
  }
});

function isCacheRow({ label, description }: ShownRow): boolean {
  return label === 'cache.qcow2' && / · cache [\d.]+ KiB of 4 MiB/.test(description);
}
