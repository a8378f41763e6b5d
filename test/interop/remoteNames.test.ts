import { once } from 'node:events';
import { closeSync, copyFileSync, openSync, readSync, statSync } from 'node:fs';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openChain } from '../../src/engine/chain/openChain';
import { openReader } from '../../src/engine/chain/chainReader';
import { followGate } from '../../src/engine/gate/policies';
import { loading } from '../../src/engine/io/loading';
import { qemuNbd, type RunningServer } from './nbdServers';
import { Random, testSeed } from './random';
import { chainscope, makeWithQemuImg, qemuImg, sideBySide, temporaryFolder, writeWithQemuIo } from './tools';

/* Images on servers, named as QEMU names them, beside qemu-img. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let web: http.Server;
let address: string;
let served: { readonly base: RunningServer; readonly raw: RunningServer };
const at = (name: string): string => join(folder.path, name);

/** Serves the folder's files by ranges. `changing` files get another ETag with each answer. */
function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  const file = at(basename(request.url ?? ''));
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found) {
    response.writeHead(404).end();
    return;
  }
  const headers = { ETag: file.includes('changing') ? `"${Math.random()}"` : '"same"', 'Accept-Ranges': 'bytes' };
  const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const from = Number(first);
  const length = (last === '' ? found.size : Math.min(found.size, Number(last) + 1)) - from;
  if (request.method === 'HEAD' || request.headers.range === undefined) {
    response.writeHead(200, { ...headers, 'Content-Length': found.size }).end();
    return;
  }
  const bytes = Buffer.alloc(length);
  const fd = openSync(file, 'r');
  readSync(fd, bytes, 0, length, from);
  closeSync(fd);
  response.writeHead(206, { ...headers, 'Content-Length': length, 'Content-Range': `bytes ${from}-${from + length - 1}/${found.size}` });
  response.end(bytes);
}

beforeAll(async () => {
  folder = await temporaryFolder('remote');
  web = http.createServer(answer);
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  address = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', at('base.qcow2'), '32M']);
  const random = new Random(7);
  const writes = Array.from(
    { length: 60 },
    () => `write -P ${random.between(1, 255)} ${random.below(31 * 1024)}k ${random.between(1, 200)}k`,
  );
  await writeWithQemuIo([at('base.qcow2')], [...writes, 'write -z 5M 1M', 'discard 20M 1M']);
  await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', at('base.qcow2'), at('base.raw')]);
  await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'qcow2', '-c', at('base.qcow2'), at('compressed.qcow2')]);
  await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'qcow2', at('base.qcow2'), at('changing.qcow2')]);
  served = {
    base: await qemuNbd(folder.path, ['-r', '-f', 'raw', '-x', 'base', at('base.qcow2')]),
    raw: await qemuNbd(folder.path, ['-r', '-f', 'raw', at('base.raw')]),
  };
  const names = [
    `nbd+unix:///base?socket=${served.base.socket}`,
    `${address}/base.qcow2`,
    `json:{"driver":"qcow2","file":{"driver":"http","url":"${address}/base.qcow2"}}`,
  ];
  for (const [index, name] of names.entries()) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', name, '-F', 'qcow2', at(`top${index}.qcow2`)]);
    await writeWithQemuIo([at(`top${index}.qcow2`)], ['write -P 9 1M 3M', 'write -z 8M 64k']);
  }
});

afterAll(async () => {
  web.closeAllConnections();
  web.close();
  await Promise.all(Object.values(served).map((server) => server.stop()));
  await folder.dispose();
});

const names = (): readonly string[] => [
  `nbd+unix:///base?socket=${served.base.socket}`,
  `nbd:unix:${served.base.socket}:exportname=base`,
  `${address}/base.qcow2`,
  `json:{"driver":"qcow2","file":{"driver":"http","url":"${address}/base.qcow2"}}`,
  `json:{"file.driver":"nbd","file.server.type":"unix","file.server.path":"${served.base.socket}","file.export":"base","driver":"qcow2"}`,
  at('top0.qcow2'),
  at('top1.qcow2'),
  at('top2.qcow2'),
];

describe('what we say of images on servers is what qemu-img says', () => {
  it.each([['info', '--backing-chain'], ['info', '--output=json', '--backing-chain'], ['map', '--output=json'], ['map'], ['check']])(
    '%s %s %s',
    async (...command) => {
      for (const name of names()) {
        const { theirs, ours } = await sideBySide([...command, name], { cwd: folder.path });
        expect({ name, code: ours.code, stdout: ours.stdout, stderr: ours.stderr }).toEqual({
          name,
          code: 0,
          stdout: theirs.stdout,
          stderr: '',
        });
        expect(theirs.code).toBe(0);
      }
    },
  );

  it('raw, and compressed', async () => {
    for (const name of [`nbd+unix:///?socket=${served.raw.socket}`, `${address}/base.raw`]) {
      const { theirs, ours } = await sideBySide(['map', '--output=json', '-f', 'raw', name]);
      expect(ours).toEqual(theirs);
    }
    for (const [one, other] of [
      [`${address}/compressed.qcow2`, `nbd+unix:///?socket=${served.raw.socket}`],
      [`${address}/base.raw`, `nbd+unix:///base?socket=${served.base.socket}`],
      [at('top0.qcow2'), at('top2.qcow2')],
      [at('top0.qcow2'), `${address}/base.raw`],
    ] as const) {
      const { theirs, ours } = await sideBySide(['compare', one, other]);
      expect(ours).toMatchObject({ code: theirs.code, stdout: theirs.stdout });
    }
    const { theirs, ours } = await sideBySide(['info', '--image-opts', `driver=qcow2,file.driver=http,file.url=${address}/base.qcow2`]);
    expect(ours).toEqual(theirs);
  });

  it('the same codes where there is nothing', async () => {
    for (const name of [
      `${address}/none`,
      'http://127.0.0.1:1/x',
      `nbd+unix:///none?socket=${served.base.socket}`,
      `nbd+unix:///?socket=${at('none')}`,
      'nbd://host:x/',
      'nbd:unix:',
    ]) {
      for (const command of ['info', 'map']) {
        const { theirs, ours } = await sideBySide([command, name]);
        expect({ name, command, code: ours.code }).toEqual({ name, command, code: theirs.code });
        expect(ours.stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(2);
      }
    }
  });

  it('one sentence when the file changes meanwhile, or the server says another thing each time', async () => {
    const { code, stderr, stdout } = await chainscope(['map', `${address}/changing.qcow2`]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/changing\.qcow2: The remote file has changed since it was opened/);
  });

  it('names in images are followed to servers only where that is wished', async () => {
    const { code, stderr } = await chainscope(['map', '--follow', 'local', at('top1.qcow2')]);
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('was not followed (--follow local)') as string });
  });
});

describe('what is copied from servers is what is there', () => {
  const same = async (format: string, name: string, as: string): Promise<void> => {
    const compared = await qemuImg(['compare', '-f', 'raw', '-F', format, at(as), at(name)]);
    expect(compared.stdout + compared.stderr, name).toMatch(/Images are identical/);
  };
  const runs = async (...args: readonly string[]): Promise<void> => {
    const { code, stderr } = await chainscope(args, { cwd: folder.path });
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: '' });
  };

  it('by convert and dd', async () => {
    const sources = [
      ['qcow2', `nbd+unix:///base?socket=${served.base.socket}`],
      ['raw', `nbd+unix:///?socket=${served.raw.socket}`],
      ['qcow2', `${address}/base.qcow2`],
      ['qcow2', `${address}/compressed.qcow2`],
      ['raw', `${address}/base.raw`],
    ] as const;
    for (const [format, source] of sources) {
      for (const [target, ...options] of [
        ['raw'],
        ['qcow2'],
        ['qcow2', '-c', '-m', '16', '-W'],
        ['qcow2', '--salvage', '-m', '1'],
        ['raw', '-S', '0'],
      ] as const) {
        await runs('convert', '-f', format, '-O', target, ...options, source, 'copy');
        await same(target, 'copy', 'base.raw');
      }
      await runs('dd', '-f', format, '-O', 'raw', 'bs=64k', `if=${source}`, 'of=copy');
      await same('raw', 'copy', 'base.raw');
    }
  });

  it('below an overlay, by convert, commit, rebase and stream', async () => {
    copyFileSync(at('top0.qcow2'), at('local.qcow2'));
    await makeWithQemuImg(['rebase', '-q', '-u', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('local.qcow2')]);
    await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', at('local.qcow2'), at('expected.raw')]);
    for (const top of ['top0.qcow2', 'top1.qcow2']) {
      const overlay = async (): Promise<void> => {
        await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', top, '-F', 'qcow2', at('over.qcow2'), '32M']);
      };
      await runs('convert', '-f', 'qcow2', '-O', 'qcow2', top, 'copy');
      await same('qcow2', 'copy', 'expected.raw');
      await overlay();
      await runs('commit', '-q', '-f', 'qcow2', 'over.qcow2');
      await runs('rebase', '-f', 'qcow2', '-b', '', 'over.qcow2');
      await same('qcow2', 'over.qcow2', 'expected.raw');
      await overlay();
      await runs('stream', '-f', 'qcow2', 'over.qcow2');
      await same('qcow2', 'over.qcow2', 'expected.raw');
    }
  });

  it('or nothing, where the server says another thing each time', async () => {
    const { code, stderr } = await chainscope(['convert', '-f', 'qcow2', '-O', 'raw', `${address}/changing.qcow2`, at('none.raw')]);
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringMatching(/The remote file has changed/) as string });
  });
});

describe('without waiting in the thread', () => {
  it('a chain on a server opens and reads what qemu-io reads', async () => {
    const seed = testSeed();
    const random = new Random(seed);
    const expected = at('expected.raw');
    for (const top of ['top0.qcow2', 'top1.qcow2']) {
      // Over the local base: QEMU 7.2 now and then waits for ever for its HTTP client when it copies much.
      copyFileSync(at(top), at('local.qcow2'));
      await makeWithQemuImg(['rebase', '-q', '-u', '-f', 'qcow2', '-b', at('base.qcow2'), '-F', 'qcow2', at('local.qcow2')]);
      await makeWithQemuImg(['convert', '-f', 'qcow2', '-O', 'raw', at('local.qcow2'), expected]);
      const chain = await openChain(at(top), { gate: followGate('all') });
      try {
        expect(chain.links.map(({ state }) => state.kind)).toEqual(['open', 'open']);
        expect(chain.links[1]).toMatchObject({ path: null, image: { readOnly: true, usage: { known: false } } });
        const reader = openReader(chain);
        const fd = openSync(expected, 'r');
        for (let step = 0; step < 60; step++) {
          const offset = random.below(reader.size - 1);
          const length = Math.min(reader.size - offset, random.between(1, 300_000));
          const [ours, theirs] = [Buffer.alloc(length), Buffer.alloc(length)];
          await loading(() => reader.read(offset, ours));
          readSync(fd, theirs, 0, length, offset);
          expect(ours.equals(theirs), `seed ${seed}: ${length} bytes at ${offset} of ${top}`).toBe(true);
        }
        closeSync(fd);
      } finally {
        chain.close();
      }
    }
  });
});
