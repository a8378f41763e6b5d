import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Coalescer } from '../../../src/shell/chains/coalescer';

describe('a burst of changes', () => {
  const batches: string[][] = [];
  let coalescer: Coalescer<string>;

  beforeEach(() => {
    vi.useFakeTimers();
    batches.length = 0;
    coalescer = new Coalescer<string>((batch) => batches.push([...batch]), { quietMs: 200, maxMs: 1_000 });
  });

  afterEach(() => {
    coalescer.dispose();
    vi.useRealTimers();
  });

  it('is handed on once, when it is over', () => {
    coalescer.add('a');
    vi.advanceTimersByTime(150);
    coalescer.add('b');
    coalescer.add('a');
    vi.advanceTimersByTime(199);
    expect(batches).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(batches).toEqual([['a', 'b']]);
  });

  it('is handed on in between when it does not end', () => {
    for (let elapsed = 0; elapsed < 2_500; elapsed += 100) {
      coalescer.add(`at ${elapsed}`);
      vi.advanceTimersByTime(100);
    }
    expect(batches.map(({ length }) => length)).toEqual([10, 10]);
  });

  it('is forgotten when nobody wants it any more', () => {
    coalescer.add('a');
    coalescer.dispose();
    vi.advanceTimersByTime(5_000);
    expect(batches).toEqual([]);
  });
});
