import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serveCounted } from '../interop/countedBase';
import { chainscopeNbd } from '../interop/nbdServers';
import { chainscope, makeWithQemuImg, qemuImg, runTool, temporaryFolder } from '../interop/tools';
import { runMachine } from './machine';

/* A real Linux reads its disk through overlay, cache image and base: the second one takes nothing from the base. */

const READ = `
mount -o ro,noload /dev/vda /mnt
find /mnt -type f | xargs md5sum > /sums
echo "sums: $(md5sum < /sums)"
umount /mnt
`;

interface Base {
  readonly uri: string;
  bytesRead(): Promise<number>;
  stop(): Promise<void>;
}

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let raw: string;

beforeAll(async () => {
  folder = await temporaryFolder('guest-cache');
  raw = join(folder.path, 'base.raw');
  await must('sh', [
    '-c',
    `mkdir '${folder.path}/tree' && for i in 1 2 3 4 5 6; do head -c 2000000 /dev/urandom > '${folder.path}/tree/'$i; done`,
  ]);
  await must('truncate', ['-s', '64M', raw]);
  await must('mkfs.ext4', ['-q', '-d', join(folder.path, 'tree'), raw]);
});
afterAll(() => folder.dispose());

describe('a guest on an overlay of a cache image', () => {
  test.each([
    ['NBD', 0, () => serveCounted(folder.path, raw)],
    // To learn how long the file is, one byte is asked for when it is opened.
    ['HTTP', 1, () => serveOverHttp(raw)],
  ] as const)('reads nothing of a base behind %s when it is started again', async (protocol, opening, serve) => {
    const base: Base = await serve();
    try {
      const cache = join(folder.path, `cache-${protocol}.qcow2`);
      const options = `cache_img_quota=104857600,backing_file=${base.uri},backing_fmt=raw`;
      expect(await chainscope(['create', '-q', '-f', 'qcow2', '-o', options, cache])).toMatchObject({ code: 0, stderr: '' });
      const boots: { bytes: number; sums: string | undefined }[] = [];
      for (const overlay of ['first', 'second']) {
        const disk = join(folder.path, `${overlay}-${protocol}.qcow2`);
        await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', cache, '-F', 'qcow2', disk, '64M']);
        const before = await base.bytesRead();
        const server = await chainscopeNbd(folder.path, ['-f', 'qcow2', disk]);
        const drive = `file=${server.uri},format=raw,cache=none`;
        const printed = await runMachine({ drives: [drive], script: READ, folder: folder.path }).finally(() => server.stop());
        boots.push({ bytes: (await base.bytesRead()) - before, sums: /sums: (\w+)/.exec(printed)?.[1] });
      }
      process.stdout.write(`${protocol}: ${boots[0]!.bytes} bytes of the base for the first boot, ${boots[1]!.bytes} for the second\n`);
      expect(boots[0]!.bytes).toBeGreaterThan(12_000_000);
      expect(boots[1]).toEqual({ bytes: opening, sums: boots[0]!.sums });
      expect((await qemuImg(['check', '-q', cache])).code).toBe(0);
    } finally {
      await base.stop();
    }
  });
});

/** A web server for one file that counts the bytes it sends. */
async function serveOverHttp(file: string): Promise<Base> {
  const handle = await open(file);
  const { size } = await handle.stat();
  let sent = 0;
  const server: Server = createServer((request, response) => {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const from = range ? Number(range[1]) : 0;
    const to = range?.[2] ? Math.min(size - 1, Number(range[2])) : size - 1;
    const headers = { etag: '"one"', 'accept-ranges': 'bytes', 'content-length': to - from + 1 };
    response.writeHead(range ? 206 : 200, range ? { ...headers, 'content-range': `bytes ${from}-${to}/${size}` } : headers);
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    const bytes = Buffer.alloc(to - from + 1);
    handle.read(bytes, 0, bytes.length, from).then(
      () => {
        sent += bytes.length;
        response.end(bytes);
      },
      (error: unknown) => response.destroy(error instanceof Error ? error : new Error(String(error))),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}/base.raw`,
    bytesRead: () => Promise.resolve(sent),
    async stop() {
      server.closeAllConnections();
      server.close();
      await handle.close();
    },
  };
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runTool(program, args);
  expect(code, `${program} ${args.join(' ')}: ${stderr}`).toBe(0);
}
