import { once } from 'node:events';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { HttpFetcher, type HttpOptions } from '../../../../src/engine/io/http/httpFetcher';
import type { Connection } from '../../../../src/engine/io/remote/rangeFetcher';
import { HandClock } from '../../../harness/handClock';

const CONTENT = Buffer.from(Uint8Array.from({ length: 100_000 }, (_, index) => (index * 31 + (index >> 7)) & 0xff));

/** What a server does with a request; `part` is the range that was asked for. */
type Behaviour = (
  answer: { readonly request: http.IncomingMessage; readonly response: http.ServerResponse; readonly first: number; readonly last: number },
  count: number,
) => void;

const running: http.Server[] = [];

afterEach(async () => {
  for (const server of running.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
});

async function serve(behave: Behaviour): Promise<URL> {
  let count = 0;
  const server = http.createServer((request, response) => {
    const [, first = '0', last = String(CONTENT.length - 1)] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    behave({ request, response, first: Number(first), last: Number(last) }, ++count);
  });
  running.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.raw`);
}

const good: Behaviour = ({ response, first, last }) => part(response, first, last);

function part(response: http.ServerResponse, first: number, last: number, headers: http.OutgoingHttpHeaders = {}, content = CONTENT): void {
  response.writeHead(206, { ETag: '"one"', 'Content-Range': `bytes ${first}-${last}/${content.length}`, ...headers });
  response.end(content.subarray(first, last + 1));
}

const open: HttpFetcher[] = [];

afterEach(() => open.splice(0).forEach((fetcher) => fetcher.close()));

async function connect(url: URL, options: HttpOptions = {}): Promise<HttpFetcher> {
  const fetcher = await HttpFetcher.open(url, { clock: new HandClock(), ...options });
  open.push(fetcher);
  return fetcher;
}

const never = new AbortController().signal;

describe('reading a file from a web server', () => {
  it('finds its size and reads its parts', async () => {
    const asked: (string | undefined)[] = [];
    const fetcher = await connect(
      await serve((answer, count) => {
        asked.push(answer.request.headers.range, answer.request.headers['if-range'] as string | undefined);
        good(answer, count);
      }),
    );
    expect(fetcher.size).toBe(CONTENT.length);
    expect(Buffer.from(await fetcher.fetch(4096, 8192, never)).equals(CONTENT.subarray(4096, 12_288))).toBe(true);
    expect(asked).toEqual(['bytes=0-0', undefined, 'bytes=4096-12287', '"one"']);
  });

  it('knows an empty file', async () => {
    const url = await serve(({ response }) => response.writeHead(416, { ETag: '"none"', 'Content-Range': 'bytes */0' }).end());
    expect((await connect(url)).size).toBe(0);
  });

  it.each<[string, Behaviour, string]>([
    ['knows no ranges', ({ response }) => response.writeHead(200, { ETag: '"one"' }).end(CONTENT), "does not support 'range'"],
    ['has no such file', ({ response }) => response.writeHead(404).end(), '404 Not Found'],
    ['wants a password', ({ response }) => response.writeHead(401).end(), '401 Unauthorized'],
    [
      'does not say how long the file is',
      ({ response }) => response.writeHead(206, { ETag: '"one"', 'Content-Range': 'bytes 0-0/*' }).end('x'),
      'how long the file is',
    ],
    [
      'sends nonsense for a range',
      ({ response }) => response.writeHead(206, { ETag: '"one"', 'Content-Range': 'bytes 0-0/99999999999999999999' }).end('x'),
      'how long the file is',
    ],
    [
      'gives nothing to tell a change by',
      ({ response }) => response.writeHead(206, { 'Content-Range': 'bytes 0-0/1000' }).end('x'),
      'neither an ETag nor',
    ],
    [
      'sends the file encoded',
      ({ response }) => response.writeHead(206, { ETag: '"one"', 'Content-Range': 'bytes 0-0/1000', 'Content-Encoding': 'gzip' }).end('x'),
      'encoded (gzip)',
    ],
  ])('refuses, in one sentence and at once, a server that %s', async (_what, behave, message) => {
    const clock = new HandClock();
    const failure = await connect(await serve(behave), { clock }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'network.failed', message: expect.stringContaining(message) as string });
    expect(clock.waits).toEqual([]);
  });

  it.each<[string, http.OutgoingHttpHeaders, typeof CONTENT]>([
    ['another ETag', { ETag: '"two"' }, CONTENT],
    ['no ETag any more', { ETag: [] }, CONTENT],
    ['another length', {}, CONTENT.subarray(0, 90_000)],
    ['another time', { 'Last-Modified': 'Sat, 21 Nov 2026 10:00:01 GMT' }, CONTENT],
  ])('sees that the file changed: %s', async (_what, headers, content) => {
    const before = { 'Last-Modified': 'Sat, 21 Nov 2026 10:00:00 GMT' };
    const fetcher = await connect(
      await serve(({ response, first, last }, count) =>
        count <= 2 ? part(response, first, last, before) : part(response, first, last, { ...before, ...headers }, content),
      ),
    );
    await fetcher.fetch(0, 100, never);
    await expect(fetcher.fetch(200, 100, never)).rejects.toMatchObject({ code: 'network.changed' });
  });

  it.each([200, 412, 416])('sees that the file changed from the answer %i', async (status) => {
    const fetcher = await connect(
      await serve(({ response, first, last }, count) => {
        if (count === 1) {
          part(response, first, last);
        } else {
          response.writeHead(status, { ETag: '"two"', 'Content-Range': 'bytes */50' }).end(CONTENT.subarray(0, 50));
        }
      }),
    );
    await expect(fetcher.fetch(200, 100, never)).rejects.toMatchObject({ code: 'network.changed' });
  });

  it('goes on where a broken connection stopped', async () => {
    const asked: number[] = [];
    const clock = new HandClock();
    const url = await serve(({ response, first, last }, count) => {
      asked.push(first);
      if (count === 2 || count === 3) {
        const end = first + 1000;
        response.writeHead(206, {
          ETag: '"one"',
          'Content-Range': `bytes ${first}-${last}/${CONTENT.length}`,
          'Content-Length': last - first + 1,
        });
        response.write(CONTENT.subarray(first, end), () => response.destroy());
        return;
      }
      part(response, first, last);
    });
    const fetcher = await connect(url, { clock });
    expect(Buffer.from(await fetcher.fetch(10_000, 5000, never)).equals(CONTENT.subarray(10_000, 15_000))).toBe(true);
    expect(asked).toEqual([0, 10_000, 11_000, 12_000]);
    expect(clock.waits).toEqual([250, 500]);
  });

  it('does not let two states of the file into one answer', async () => {
    const url = await serve(({ response, first, last }, count) => {
      if (count === 2) {
        response.writeHead(206, {
          ETag: '"one"',
          'Content-Range': `bytes ${first}-${last}/${CONTENT.length}`,
          'Content-Length': last - first + 1,
        });
        response.write(CONTENT.subarray(first, first + 1000), () => response.destroy());
        return;
      }
      part(response, first, last, count > 2 ? { ETag: '"two"' } : {});
    });
    await expect((await connect(url)).fetch(0, 5000, never)).rejects.toMatchObject({ code: 'network.changed' });
  });

  it('tries again, more and more slowly, and as the server wishes; says when it is out of reach and when it is back', async () => {
    const clock = new HandClock();
    const states: Connection[] = [];
    let down = false;
    const url = await serve(({ response, first, last }, count) => {
      if (down) {
        response.writeHead(503, count === 4 ? { 'Retry-After': '7' } : {}).end();
      } else {
        part(response, first, last);
      }
    });
    const fetcher = await connect(url, { clock, onConnection: (state) => states.push(state) });
    down = true;
    await expect(fetcher.fetch(0, 10, never)).rejects.toMatchObject({
      code: 'network.failed',
      message: expect.stringContaining('503 Service Unavailable. It was tried 5 times.') as string,
    });
    expect(clock.waits).toEqual([250, 500, 7000, 2000]);
    expect(states).toEqual(['retrying', 'offline']);
    down = false;
    expect((await fetcher.fetch(0, 10, never)).length).toBe(10);
    expect(states).toEqual(['retrying', 'offline', 'online']);
  });

  it('says that a server is not there', async () => {
    const url = await serve(good);
    const server = running.pop()!;
    server.close();
    await once(server, 'close');
    await expect(connect(url)).rejects.toMatchObject({
      code: 'network.failed',
      message: expect.stringContaining('ECONNREFUSED') as string,
    });
  });

  it('gives up a server that stays silent, before its answer or within', async () => {
    const url = await serve(({ response, first, last }, count) => {
      // It may be asked for its size more than once, by a machine that does not come to hear the answer in time.
      if (last === 0) {
        part(response, first, last);
      } else if (count % 2 === 0) {
        response.writeHead(206, { ETag: '"one"', 'Content-Range': `bytes ${first}-${last}/${CONTENT.length}` }).write('x');
      }
    });
    const fetcher = await connect(url, { timeoutMs: 200, backOff: { attempts: 3, firstMs: 1, mostMs: 1 } });
    await expect(fetcher.fetch(0, 1000, never)).rejects.toMatchObject({
      code: 'network.failed',
      message: expect.stringContaining('No sign of life') as string,
    });
  });

  it('refuses a part that was not asked for, and more than was', async () => {
    const wrong = await connect(await serve(({ response, first, last }, count) => part(response, first + (count > 1 ? 1 : 0), last)));
    await expect(wrong.fetch(10, 100, never)).rejects.toMatchObject({ code: 'network.failed' });
    const more = await connect(
      await serve(({ response, first, last }, count) => {
        response.writeHead(206, { ETag: '"one"', 'Content-Range': `bytes ${first}-${last}/${CONTENT.length}` });
        response.end(count > 1 ? CONTENT : CONTENT.subarray(0, 1));
      }),
    );
    await expect(more.fetch(10, 100, never)).rejects.toThrow('more than it was asked for');
  });

  it('follows redirects, remembers where they led, and asks anew when that ends', async () => {
    const paths: (string | undefined)[] = [];
    let expired = false;
    const url = await serve(({ request, response, first, last }) => {
      paths.push(request.url);
      if (request.url === '/disk.raw') {
        response.writeHead(302, { Location: expired ? '/second' : '/first' }).end();
      } else if (request.url === '/first' && expired) {
        response.writeHead(403).end();
      } else {
        part(response, first, last);
      }
    });
    const fetcher = await connect(url);
    await fetcher.fetch(0, 10, never);
    expired = true;
    await fetcher.fetch(0, 10, never);
    await fetcher.fetch(0, 10, never);
    expect(paths).toEqual(['/disk.raw', '/first', '/first', '/first', '/disk.raw', '/second', '/second']);
  });

  it('follows no endless redirects, and none to what is no web address', async () => {
    await expect(connect(await serve(({ response }) => response.writeHead(301, { Location: '/disk.raw' }).end()))).rejects.toThrow(
      'more than 10 times',
    );
    await expect(connect(await serve(({ response }) => response.writeHead(301, { Location: 'file:///etc/passwd' }).end()))).rejects.toThrow(
      'no web address',
    );
  });

  it('keeps name and password for the server they were given for, and out of messages', async () => {
    const seen: (string | undefined)[] = [];
    const elsewhere = await serve(({ request, response }) => {
      seen.push(request.headers.authorization);
      response.writeHead(404).end();
    });
    const url = await serve(({ request, response }) => {
      seen.push(request.headers.authorization);
      response.writeHead(302, { Location: elsewhere.href }).end();
    });
    url.username = 'me';
    url.password = 'secret';
    const failure = await connect(url).catch((error: unknown) => error);
    expect(seen).toEqual([`Basic ${Buffer.from('me:secret').toString('base64')}`, undefined]);
    expect(String(failure)).toContain('me:***@');
    expect(String(failure)).not.toContain('secret');
  });

  it('ends when it is cancelled', async () => {
    const url = await serve((answer, count) => (count === 1 ? good(answer, count) : undefined));
    const fetcher = await connect(url);
    const cancel = new AbortController();
    const waiting = fetcher.fetch(0, 10, cancel.signal);
    cancel.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
  });
});
