import { describe, expect, it } from 'vitest';
import { EngineError, networkChanged } from '../../../../src/engine/errors';
import { loading } from '../../../../src/engine/io/loading';
import { BlockCache, type Change } from '../../../../src/engine/io/remote/blockCache';
import type { RangeFetcher } from '../../../../src/engine/io/remote/rangeFetcher';
import { RemoteSource } from '../../../../src/engine/io/remote/remoteSource';
import { Random, testCases, testSeed } from '../../../interop/random';

const KiB = 1024;

/** A server in memory; each answer is what the bytes were at a moment of the fetch that the test chooses. */
class Server implements RangeFetcher {
  readonly name = 'memory';
  readonly bytes: Uint8Array;
  readonly fetches: { readonly offset: number; readonly length: number }[] = [];
  fail: EngineError | null = null;
  private readonly turns: () => number;

  constructor(size: number, turns: () => number = () => 1) {
    this.bytes = Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
    this.turns = turns;
  }

  get size(): number {
    return this.bytes.length;
  }

  async fetch(offset: number, length: number): Promise<Uint8Array> {
    this.fetches.push({ offset, length });
    await turns(this.turns());
    if (this.fail) {
      throw this.fail;
    }
    const found = this.bytes.slice(offset, offset + length);
    await turns(this.turns());
    return found;
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

async function read(cache: BlockCache, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length);
  const count = await loading(() => cache.read(target, offset));
  return target.subarray(0, count);
}

describe('the block cache', () => {
  it('fetches what is asked for once, whoever asks, and reads it without waiting then', async () => {
    const server = new Server(300 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB, readAhead: 0 });
    const parts = await Promise.all([read(cache, 5000, 20_000), read(cache, 5000, 20_000), read(cache, 6000, 100)]);
    expect(parts.map((part) => Buffer.compare(part, server.bytes.subarray(5000, 25_000)))).toEqual([0, 0, expect.any(Number)]);
    expect(Buffer.from(parts[2]).equals(server.bytes.subarray(6000, 6100))).toBe(true);
    expect(server.fetches).toEqual([{ offset: 4096, length: 24 * KiB }]);
    expect(cache.read(new Uint8Array(100), 24_000)).toBe(100);
  });

  it('reads less at the end, and nothing behind it', async () => {
    const server = new Server(10_000);
    const cache = new BlockCache(server, { blockSize: 4 * KiB });
    expect((await read(cache, 9000, 4000)).length).toBe(1000);
    expect((await read(cache, 10_000, 10)).length).toBe(0);
    expect((await read(cache, 2 ** 52, 10)).length).toBe(0);
  });

  it('splits large fetches and runs them in parallel', async () => {
    const server = new Server(64 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB, maxFetch: 16 * KiB });
    expect(Buffer.from(await read(cache, 0, 64 * KiB)).equals(server.bytes)).toBe(true);
    expect(server.fetches.map(({ offset }) => offset)).toEqual([0, 16 * KiB, 32 * KiB, 48 * KiB]);
  });

  it('fetches ahead of a sequential reader, who then rarely waits, and not for one who jumps about', async () => {
    const server = new Server(4096 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB, capacity: 1024 * KiB, readAhead: 128 * KiB });
    let waits = 0;
    for (let offset = 0; offset < server.size; offset += 4 * KiB) {
      const before = server.fetches.length;
      const target = new Uint8Array(4 * KiB);
      const count = loading(() => cache.read(target, offset));
      waits += count instanceof Promise ? 1 : 0;
      await count;
      expect(Buffer.from(target).equals(server.bytes.subarray(offset, offset + 4 * KiB))).toBe(true);
      expect(server.fetches.length - before).toBeLessThan(8);
      await turns(4);
    }
    expect(waits).toBeLessThan(8);
    expect(server.fetches.length).toBeLessThan(150);

    const jumping = new Server(4096 * KiB);
    const scattered = new BlockCache(jumping, { blockSize: 4 * KiB, capacity: 1024 * KiB });
    for (let index = 0; index < 100; index++) {
      await read(scattered, ((index * 619) % 1024) * 4 * KiB, 512);
    }
    expect(jumping.fetches.every(({ length }) => length === 4 * KiB)).toBe(true);
  });

  it('keeps no more than its bound', async () => {
    const server = new Server(2048 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB, capacity: 64 * KiB, readAhead: 0 });
    for (let index = 0; index < 400; index++) {
      await read(cache, ((index * 37) % 512) * 4 * KiB, 4 * KiB);
      await turns(1);
      expect(cache.bytes).toBeLessThanOrEqual(64 * KiB);
    }
  });

  it('ends an operation that needs more than the bound, be it in one read or in many', async () => {
    const server = new Server(512 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB, capacity: 64 * KiB, readAhead: 0 });
    expect(Buffer.from(await read(cache, 0, 512 * KiB)).equals(server.bytes)).toBe(true);
    await turns(2);
    expect(cache.bytes).toBeLessThanOrEqual(64 * KiB);
    let runs = 0;
    const sum = await loading(() => {
      runs++;
      let total = 0;
      for (let offset = 0; offset < 256 * KiB; offset += 4 * KiB) {
        const byte = new Uint8Array(1);
        cache.read(byte, offset);
        total += byte[0]!;
      }
      return total;
    });
    expect(sum).toBe(Array.from({ length: 64 }, (_, index) => server.bytes[index * 4 * KiB]!).reduce((a, b) => a + b, 0));
    expect(runs).toBeLessThan(300);
  });

  it('passes a failure on to who waits, and tries again for the next', async () => {
    const server = new Server(64 * KiB);
    server.fail = new EngineError('network.failed', 'no answer');
    const cache = new BlockCache(server);
    await expect(read(cache, 0, 10)).rejects.toThrow('no answer');
    server.fail = null;
    expect((await read(cache, 0, 10)).length).toBe(10);
  });

  it('reads nothing any more of a file that changed, not even what it has', async () => {
    const server = new Server(256 * KiB);
    const cache = new BlockCache(server, { blockSize: 4 * KiB });
    await read(cache, 0, 10);
    server.fail = networkChanged('memory', 'it is another.');
    await expect(read(cache, 100 * KiB, 10)).rejects.toMatchObject({ code: 'network.changed' });
    server.fail = null;
    await expect(read(cache, 100 * KiB, 10)).rejects.toMatchObject({ code: 'network.changed' });
    expect(() => cache.read(new Uint8Array(10), 0)).toThrow('changed');
  });

  it('refuses an answer of another length, and ends waiting readers when it is closed', async () => {
    const short: RangeFetcher = { name: 'short', size: 1000, fetch: async () => new Uint8Array(10) };
    await expect(read(new BlockCache(short), 0, 10)).rejects.toMatchObject({ code: 'network.failed' });
    const hanging: RangeFetcher = {
      name: 'hanging',
      size: 1000,
      fetch: (_offset, _length, signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(new EngineError('cancelled', 'ended')))),
    };
    let released = 0;
    const source = new RemoteSource(hanging, () => released++);
    const waiting = Promise.resolve(loading(() => source.read(new Uint8Array(10), 0)));
    source.close();
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    expect(released).toBe(1);
  });

  it('shows every accepted write in every later read, whichever state of the server a fetch brings', async () => {
    const seed = testSeed();
    for (let number = 0; number < testCases(20); number++) {
      const random = new Random(seed + number);
      const server = new Server(random.between(1, 64) * KiB + random.below(512), () => random.between(1, 6));
      const model = server.bytes.slice();
      const cache = new BlockCache(server, { blockSize: KiB, capacity: random.pick([4, 16, 64]) * KiB, readAhead: 8 * KiB });
      const busy: { readonly offset: number; readonly end: number }[] = [];
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          for (let step = 0; step < 40; step++) {
            const offset = random.below(server.size);
            const length = Math.min(server.size - offset, random.between(1, 3000));
            const overlapping = busy.some((other) => other.offset < offset + length && offset < other.end);
            if (random.chance(0.5) || overlapping) {
              const target = new Uint8Array(length);
              // What the model holds is looked at in the very moment in which the read succeeds.
              const same = await loading(() => {
                cache.read(target, offset);
                return Buffer.compare(target, model.subarray(offset, offset + length)) === 0;
              });
              expect(same, `seed ${seed + number}: ${length} bytes at ${offset}`).toBe(true);
              continue;
            }
            const range = { offset, end: offset + length };
            const content = random.chance(0.3) ? null : Uint8Array.from({ length }, () => random.below(256));
            const change: Change = { offset, length, content };
            busy.push(range);
            cache.begin(change);
            model.set(content ?? new Uint8Array(length), offset);
            await turns(random.between(1, 4));
            server.bytes.set(content ?? new Uint8Array(length), offset);
            await turns(random.between(1, 4));
            cache.end(change, random.chance(0.8));
            // The buffer is the writer's again.
            content?.fill(0x5a);
            busy.splice(busy.indexOf(range), 1);
          }
        }),
      );
    }
  });
});
