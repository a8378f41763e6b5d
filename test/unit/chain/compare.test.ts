import { describe, expect, test } from 'vitest';
import { compareChains } from '../../../src/engine/chain/compare';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { MemorySource } from '../io/memorySource';
import { memoryChain, memoryImage } from './memoryChain';

const CLUSTER = 65536;

describe('a comparison', () => {
  test('tells the first sector that differs', async () => {
    const a = Buffer.alloc(4 * CLUSTER, 1);
    const b = Buffer.from(a);
    b[CLUSTER + 700] = 2;
    b[3 * CLUSTER] = 2;
    const result = await compareChains(memoryChain([new MemorySource(a)]), memoryChain([new MemorySource(b)]));
    expect(result).toEqual({ kind: 'contentMismatch', guestOffset: CLUSTER + 512, sizesDiffer: false });
  });

  test('sees zeroes as zeroes, however they are stored, and lets a longer disk be zeroes at its end', async () => {
    const image = new Qcow2Builder({ size: 10 * CLUSTER })
      .write(0, Buffer.alloc(CLUSTER))
      .zero(1)
      .writeCompressed(2, Buffer.alloc(CLUSTER))
      .write(9, Buffer.alloc(CLUSTER))
      .build();
    const zeroes = memoryChain([new MemorySource(Buffer.alloc(4 * CLUSTER))], 'raw');
    expect(await compareChains(memoryChain([memoryImage(image)]), zeroes)).toEqual({ kind: 'identical', sizesDiffer: true });
    expect(await compareChains(memoryChain([memoryImage(image)]), zeroes, { strict: true })).toEqual({ kind: 'sizeMismatch' });
  });

  test('reports progress and can be cancelled', async () => {
    // Slower than the time that a scan may hold its thread.
    const slow = new MemorySource(Buffer.alloc(8 * 1024 * 1024, 1), 'slow');
    slow.onRead = () => {
      const until = performance.now() + 15;
      while (performance.now() < until) {}
    };
    const other = new MemorySource(slow.bytes);
    const stop = new AbortController();
    const seen: number[] = [];
    const running = compareChains(memoryChain([slow], 'raw'), memoryChain([other], 'raw'), {
      signal: stop.signal,
      onProgress: (done) => {
        seen.push(done);
        if (seen.length === 2) {
          stop.abort();
        }
      },
    });
    await expect(running).rejects.toMatchObject({ code: 'cancelled' });
    expect(seen).toHaveLength(2);
  });
});
